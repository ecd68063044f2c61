"""What exchanges list: news for people, one request for all pairs, and one subscription for all pairs."""

import json

import pytest

from coin_platform.collect.actions import Failed, Leave, Listed, Send
from coin_platform.collect.listings import MOST_NAMES, Listings
from coin_platform.collect.poll_plan import CANDLE_LAG_SECONDS, PollPlan
from coin_platform.collect.session import ANSWER_SECONDS, Session
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Frame, Instant, Instrument, InstrumentState, Kind, Pair, Refusal
from coin_platform.tables.instrument import LIST_PERIOD, RETRY_PERIOD
from tests.kit.market_lists import list_frame

A, B, NEW = Pair("A", "USD"), Pair("B", "USD"), Pair("NEW", "USD")
START = 1_800_000_000 * SECOND  # the begin of an hour
HOUR = 3600 * SECOND


def at(seconds: float) -> Instant:
    return Instant(START + round(seconds * SECOND), seconds)


def listed(*pairs: Pair, is_whole: bool = True, **others: InstrumentState) -> Listed:
    """Return a list in which these pairs are traded, and others have another state."""
    instruments = [Instrument(pair=pair, state=InstrumentState.TRADING) for pair in pairs]
    instruments += [Instrument(pair=Pair(base, "USD"), state=state) for base, state in others.items()]
    return Listed(tuple(instruments), is_whole)


def lines(listings: Listings, listed: Listed, *wanted: Pair) -> list[tuple[str, bool]]:
    return [(news.line, news.is_alarm) for news in listings.take(listed, wanted)]


def test_a_wanted_pair_that_is_not_traded_is_an_alarm_once() -> None:
    listings = Listings()
    assert listings.not_traded([A, B]) == {}  # nothing is known yet
    assert lines(listings, listed(A, B=InstrumentState.HALTED), A, B) == [
        ("B-USD is wanted and not traded: halted", True)
    ]
    assert lines(listings, listed(A, B=InstrumentState.HALTED), A, B) == []
    assert listings.not_traded([A, B]) == {B: "halted"}
    assert lines(listings, listed(A), A, B) == [
        ("lists no more: B-USD", False),
        ("B-USD is wanted and not traded: not listed", True),
    ]
    assert lines(listings, listed(A, B), A, B) == [("lists now: B-USD", False), ("trades again: B-USD", False)]
    assert listings.not_traded([A, B]) == {}


def test_the_exchanges_own_word_is_told_where_it_says_more() -> None:
    listings = Listings()
    halted = Instrument(pair=A, state=InstrumentState.HALTED, exchange_state="BREAK")
    gone = Instrument(pair=B, state=InstrumentState.DELISTED, exchange_state="delisted")
    listings.take(Listed((halted, gone), is_whole=True), [A, B])
    assert listings.not_traded([A, B, NEW]) == {A: "halted (BREAK)", B: "delisted", NEW: "not listed"}


def test_new_pairs_are_news_but_not_the_first_list_and_few_are_named() -> None:
    listings = Listings()
    assert lines(listings, listed(A)) == []
    assert lines(listings, listed(NEW, is_whole=False)) == [("lists now: NEW-USD", False)]
    many = [Pair(f"N{number}", "USD") for number in range(MOST_NAMES + 3)]
    [(line, _)] = lines(listings, listed(A, NEW, *many))
    assert line.endswith(" and 3 more")


def test_a_part_of_a_list_tells_of_no_pair_that_it_is_gone() -> None:
    listings = Listings()
    listings.take(listed(A, is_whole=False), [A, B])
    assert listings.not_traded([A, B]) == {}  # no whole list has come
    listings.take(listed(A, B), [A, B])
    listings.take(listed(A, is_whole=False), [A, B])
    assert listings.not_traded([A, B]) == {}


def answer(payload: bytes) -> Frame:
    return list_frame("gateio", payload, START)


def plan(window: int = HOUR) -> PollPlan:
    return PollPlan(EXCHANGES["gateio"], Channel.INSTRUMENT, [A, B], at(0), window)


def test_a_list_is_asked_for_once_for_all_pairs_every_ten_minutes() -> None:
    polled, times, time = plan(), [], 0.0
    while (time := time + polled.wait(at(time))) < 2 * HOUR / SECOND:
        request = polled.take(at(time))
        assert request is not None and request.url == EXCHANGES["gateio"].markets_url()
        polled.received(request.pair, answer(b'[{"id":"A_USD","trade_status":"tradable"}]'))
        polled.done(request.pair, at(time))
        times.append(time)
    assert times == [0.0, *(600 * turn + CANDLE_LAG_SECONDS for turn in range(1, 12))]
    assert plan(60 * SECOND).period == 60  # each window has a list


def test_a_list_is_served_to_all_pairs_and_is_reported() -> None:
    polled = plan()
    [action] = polled.received(A, answer(b'[{"id":"A_USD","trade_status":"tradable"}]'))
    assert isinstance(action, Listed) and action.is_whole
    assert [instrument.pair for instrument in action.instruments] == [A]
    assert (polled.unconfirmed, polled.is_served, polled.refused) == (frozenset(), True, {})


def test_a_list_that_did_not_come_is_asked_for_again_after_a_minute() -> None:
    polled = plan()
    polled.done(A, at(0), is_error=True)
    assert polled.wait(at(0)) == RETRY_PERIOD / SECOND
    failed = polled.received(A, answer(b'{"label":"SERVER_ERROR","message":"x"}'))
    assert failed == [Failed(pair, "SERVER_ERROR: x", Refusal.TEMPORARY) for pair in (A, B)]
    polled.done(A, at(60))
    assert polled.wait(at(60)) == RETRY_PERIOD / SECOND
    assert len(polled.received(A, answer(b"[]"))) == 0  # refused already: a list without markets is none
    assert polled.traffic.undecodable == 1
    polled.received(A, answer(b'[{"id":"A_USD","trade_status":"tradable"}]'))
    polled.done(A, at(120))
    assert polled.wait(at(120)) == LIST_PERIOD / SECOND - 120 + CANDLE_LAG_SECONDS
    polled.follow([A, B, NEW], at(130))
    assert polled.wait(at(130)) == 0.0  # the list may tell of the new pair at once


SUBSCRIBE = '{"method":"subscribe","params":{"channel":"instrument","include_tokenized_assets":true},"req_id":%d}'
UNSUBSCRIBE = '{"method":"unsubscribe","params":{"channel":"instrument"},"req_id":%d}'
SNAPSHOT = {"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [{"symbol": "A/USD"}]}}
UPDATE = {**SNAPSHOT, "type": "update"}


class Stream:
    """A session of Kraken's list of markets."""

    def __init__(self, *pairs: Pair, window: int = HOUR) -> None:
        self.session = Session(EXCHANGES["kraken"], Channel.INSTRUMENT, pairs, chance=lambda: 1.0, window=window)

    def hear(self, message: object, seconds: float) -> list[object]:
        payload = json.dumps(message).encode()
        frame = list_frame("kraken", payload, START, Kind.SOCKET)
        return [*self.session.received(frame, at(seconds))]


def test_one_subscription_serves_all_pairs_once_the_whole_list_has_come() -> None:
    stream = Stream(A, B)
    assert stream.session.opened(at(0)) == [Send(SUBSCRIBE % 1)]
    assert stream.session.unconfirmed == {A, B}
    stream.hear({"method": "subscribe", "success": True, "result": {"channel": "instrument"}, "req_id": 1}, 1)
    assert (stream.session.unconfirmed, stream.session.is_complete) == (frozenset(), False)
    [update] = stream.hear(UPDATE, 2)
    assert isinstance(update, Listed) and not update.is_whole
    assert not stream.session.is_complete
    [whole] = stream.hear(SNAPSHOT, 3)
    assert isinstance(whole, Listed) and whole.is_whole
    assert stream.session.is_complete and stream.session.traffic.unasked == 0
    assert stream.session.stale(at(9000), 60) == frozenset()  # a list may have no news for days
    assert stream.session.mute_seconds(at(9000)) == 0.0


def test_a_new_pair_asks_for_the_whole_list_and_a_dropped_one_for_nothing() -> None:
    stream = Stream(A)
    stream.session.opened(at(0))
    stream.hear(SNAPSHOT, 1)
    assert stream.session.follow([A, B], at(2)) == [Send(UNSUBSCRIBE % 2), Send(SUBSCRIBE % 3)]
    stream.hear(SNAPSHOT, 3)
    assert stream.session.is_complete
    assert stream.session.follow([B], at(4)) == []
    assert stream.session.pairs == (B,)


def test_the_whole_list_is_asked_for_anew_when_a_window_begins() -> None:
    stream = Stream(A)
    stream.session.opened(at(1800))
    stream.hear(SNAPSHOT, 1801)
    assert [stream.session.tick(at(second)) for second in (1900, 3599)] == [[], []]
    assert stream.session.tick(at(3600)) == [Send(UNSUBSCRIBE % 2), Send(SUBSCRIBE % 3)]
    assert stream.session.tick(at(3601)) == []


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_D5_a_connection_that_brings_no_list_is_replaced_and_not_asked_again(is_confirmed: bool) -> None:
    stream = Stream(A, B)
    stream.session.opened(at(0))
    if is_confirmed:
        stream.hear({"method": "subscribe", "success": True, "result": {"channel": "instrument"}, "req_id": 1}, 1)
    assert stream.session.tick(at(ANSWER_SECONDS)) == []
    assert stream.session.tick(at(ANSWER_SECONDS + 1)) == [Leave("no list of markets in 10 s")]


@pytest.mark.parametrize("names_request", [True, False])
def test_a_refused_list_is_asked_for_again_later(names_request: bool) -> None:
    stream = Stream(A, B)
    stream.session.opened(at(0))
    refused = {"method": "subscribe", "success": False, "error": "EService: Unavailable"}
    stream.hear(refused | ({"req_id": 1} if names_request else {}), 1)
    actions = stream.session.tick(at(ANSWER_SECONDS + 1))
    assert {action.pair for action in actions if isinstance(action, Failed)} == {A, B}
    seconds, sent = ANSWER_SECONDS + 1, list[object]()
    while not sent:
        seconds += 1
        sent = [action for action in stream.session.tick(at(seconds)) if isinstance(action, Send)]
    assert sent == [Send(SUBSCRIBE % 2)]
    stream.hear(SNAPSHOT, seconds + 1)
    assert stream.session.served == {A, B} and not stream.session.refused
