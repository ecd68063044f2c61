"""Gaps that are pending: filled over REST as far as an answer tells, or begun because a wanted pair was not served."""

import pytest

from coin_platform.end_reasons import refused
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Gap, Kind, Pair
from coin_platform.records import Facts
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gaps import GapLedger
from coin_platform.tables.pending_gaps import FILL_PATIENCE
from tests.kit.gap_feed import BTC, ETH, Feed, broken, plain, served, trades, wants
from tests.kit.log import TIME

EMPTY = {  # answers without rows, where they are no empty list
    "coinone": b'{"result":"success","error_code":"0","target_currency":"BTC","quote_currency":"KRW",'
    b'"is_last":true,"chart":[],"transactions":[]}',
    "korbit": b'{"success":true,"data":[]}',
    "okx": b'{"code":"0","msg":"","data":[]}',
    "bybit": b'{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[]},"retExtInfo":{},"time":1795478400000}',
    "kraken": b'{"error":[],"result":{"XBT/USD":[],"last":"0"}}',
}


def test_a_gap_whose_trades_were_fetched_afterwards_is_filled() -> None:
    feed = broken()
    assert feed.answer(10.5, BTC, trades(1.5, 5, 10.2), "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", "rest")]
    assert feed.ledger.state.pending == {}


def test_an_answer_that_does_not_reach_back_fills_nothing() -> None:
    feed = broken()
    assert feed.answer(10.2, BTC, b"not an answer", "b") == []
    assert feed.answer(10.3, BTC, b'{"error":{"name":"too_many_requests","message":"..."}}', "b") == []
    assert feed.answer(10.4, ETH, trades(1), "b") == []
    [gap] = feed.answer(10.5, BTC, trades(5, 10.2), "b")
    assert gap.reason == "broken; REST reaches back to 2026-11-24 00:00:05.000000+00:00 only"
    assert feed.answer(10.6, BTC, b"[]", "b") == []  # it is said once
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", None)]
    [gap] = feed.answer(10.7, BTC, trades(1.5, 5, 10.2), "b")
    assert (gap.reason, gap.filled_by) == ("broken", "rest")


def quiet(channel: Channel, exchange: str, lasted: float) -> list[Gap]:
    """Return what is said of a gap that lasted so long, in which nothing was traded, once REST answers without rows."""
    adapter = EXCHANGES[exchange]
    pair = Pair("BTC", adapter.quote)
    transport = "ws" if channel in adapter.channels else "rest"
    feed = Feed(channel, exchange)
    feed.open(0, pairs=(pair,), transport=transport)
    feed.frame(1)
    feed.close(2, "broken")
    feed.open(1 + lasted, "b", (pair,), transport)
    feed.frame(2 + lasted, "b")
    feed.answer(2.5 + lasted, pair, EMPTY.get(exchange, b"[]"), "b")
    return list(feed.rows.values())


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R12_an_answer_without_minutes_fills_a_gap_as_far_back_as_the_exchange_documents(exchange: str) -> None:
    reach = EXCHANGES[exchange].candle_reach_seconds
    for lasted, is_told in ((6.0, reach is not None), (3 * 86_400.0, False)):
        [gap] = quiet(Channel.CANDLE, exchange, lasted)
        assert gap.stop == TIME + int((2 + lasted) * SECOND)
        assert gap.filled_by == ("rest" if is_told else None)
        assert (gap.reason == "broken") is is_told
    assert "REST" in gap.reason
    if reach is not None:
        [filled], [unfilled] = quiet(Channel.CANDLE, exchange, reach - 1), quiet(Channel.CANDLE, exchange, reach)
        assert (filled.filled_by, unfilled.filled_by) == ("rest", None)
        assert "REST reaches back to 2026-11-24 00:00:02.5" in unfilled.reason


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R12_an_answer_without_trades_fills_nothing_and_the_gap_says_so(exchange: str) -> None:
    [gap] = quiet(Channel.TRADE, exchange, 6.0)
    assert gap.filled_by is None
    assert gap.reason == "broken; REST answers without rows, and how far back that tells is not documented"


def test_answers_during_a_gap_that_reach_each_other_fill_it() -> None:
    feed = served(channel=Channel.TRADE, until=2)
    feed.open(3, "r", transport="rest")
    feed.answer(5, BTC, trades(1, 4), "r")
    feed.answer(9, BTC, trades(4.5, 8), "r")
    feed.open(9.5, "b")
    feed.frame(10, "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", None)]
    feed.answer(10.5, BTC, trades(8.5, 10), "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", "rest")]


def test_a_gap_whose_last_answer_came_before_the_stream_is_back_at_once_is_filled() -> None:
    feed = served(channel=Channel.TRADE, until=2)
    feed.open(9, "b")
    feed.answer(10, BTC, trades(1, 9.9), "b")  # the first frame of the successor
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", "rest")]


def test_a_minute_that_was_fetched_fills_a_gap_in_it() -> None:
    feed = served(channel=Channel.CANDLE, until=2)
    feed.open(9, "b")
    feed.frame(10, "b")
    candle = (
        b'[{"market":"KRW-BTC","candle_date_time_utc":"2026-11-02T00:00:00","candle_date_time_kst":"x",'
        b'"opening_price":1,"high_price":1,"low_price":1,"trade_price":1,"timestamp":%d,'
        b'"candle_acc_trade_price":1,"candle_acc_trade_volume":1,"unit":1}]' % (TIME // 1000)
    )
    feed.answer(11, BTC, candle, "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", "rest")]


def test_a_gap_is_not_waited_with_for_ever() -> None:
    feed = broken()
    later = 10 + FILL_PATIENCE / SECOND + 1
    feed.close(later, "broken", "b")
    feed.open(later + 1, "c")
    feed.frame(later + 2, "c")
    assert len(feed.ledger.state.pending["BTC-KRW"]) == 1


def test_D5_an_exchange_that_cannot_be_reached_is_a_gap_since_it_was_wanted() -> None:
    feed = Feed()
    assert wants(feed, 0, BTC, ETH) == []
    told = wants(feed, 3, BTC, ETH, kind=Kind.PAIRS, reason="HTTP 451")
    assert [(gap.pair, gap.reason) for gap in told] == [(BTC, "HTTP 451"), (ETH, "HTTP 451")]
    assert wants(feed, 60, BTC, ETH, kind=Kind.PAIRS, reason="HTTP 403") == []
    assert feed.gaps == [("BTC-KRW", 0, None, "unreachable", None), ("ETH-KRW", 0, None, "unreachable", None)]
    assert feed.ledger.wanted == ["BTC-KRW", "ETH-KRW"]
    feed.open(90, pairs=(BTC, ETH))
    feed.frame(91, heard=(BTC,))
    assert feed.gaps[0] == ("BTC-KRW", 0, 91, "unreachable", None)
    assert feed.gaps[1] == ("ETH-KRW", 0, None, "unreachable", None)


def test_D5_a_start_that_takes_its_time_is_no_gap_and_one_that_takes_too_long_is() -> None:
    feed = Feed()
    wants(feed, 0, BTC, ETH)
    feed.open(1, pairs=(BTC, ETH))
    feed.frame(2, heard=(BTC,))
    assert wants(feed, 29, BTC, ETH, kind=Kind.CHECKPOINT) == []
    wants(feed, 31, BTC, ETH, kind=Kind.CHECKPOINT)
    assert feed.gaps == [("ETH-KRW", 0, None, "silence", None)]
    assert [gap.reason for gap in feed.rows.values()] == ["nothing has come since it was asked for"]
    feed.frame(40, heard=(ETH,))
    assert feed.gaps == [("ETH-KRW", 0, 40, "silence", None)]


def test_D5_the_fast_way_of_a_feed_that_is_heard_does_not_forget_a_pair_of_another_connection() -> None:
    feed = Feed()
    feed.open(0)
    feed.open(0, "b", pairs=(ETH,))
    feed.frame(1)
    feed.frame(29)
    assert feed.gaps == []
    feed.frame(31)
    assert feed.gaps == [("ETH-KRW", 0, None, "silence", None)]


def test_D5_a_pair_that_may_have_nothing_to_say_has_five_minutes() -> None:
    feed = Feed(Channel.TRADE)
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1, heard=(BTC,))
    feed.frame(40, heard=(BTC,))
    feed.frame(299, heard=(BTC,))
    assert feed.gaps == []
    feed.frame(301, heard=(BTC,))
    assert feed.gaps == [("ETH-KRW", 0, None, "silence", None)]
    feed.answer(310, ETH, trades(-10), "a")
    assert feed.gaps == [("ETH-KRW", 0, 310, "silence", "rest")]


def test_D5_where_nothing_is_connected_there_is_no_such_patience() -> None:
    for channel, exchange, transport in ((Channel.TRADE, "upbit", ""), (Channel.CANDLE, "bithumb", "rest")):
        feed = Feed(channel, exchange)
        wants(feed, 0, BTC)
        if transport:
            feed.open(1, "r", transport=transport)  # what is polled is there with its first answer
        wants(feed, 31, BTC, kind=Kind.PAIRS)
        assert feed.gaps == [("BTC-KRW", 0, None, "unreachable", None)]


def test_D5_a_refused_pair_is_a_gap_and_says_why() -> None:
    feed = Feed()
    wants(feed, 0, BTC, ETH)
    feed.open(1, pairs=(BTC, ETH))
    feed.frame(2, heard=(BTC,))
    facts = Facts(pairs=["BTC-KRW", "ETH-KRW"], refused={"ETH-KRW": "refused for good: unknown"})
    feed.say(Kind.PAIRS, 3, "a", facts.pack())
    assert feed.gaps == [("ETH-KRW", 0, None, "refused", None)]
    assert [gap.reason for gap in feed.rows.values()] == ["refused for good: unknown"]
    facts = Facts(pairs=["BTC-KRW", "ETH-KRW"], refused={"BTC-KRW": "refused for the moment: busy"})
    feed.say(Kind.CHECKPOINT, 10, "a", facts.pack())
    assert feed.gaps[1] == ("BTC-KRW", 10, None, "refused", None), "it was heard before"
    feed.frame(11, heard=(BTC, ETH))
    assert [gap[2] for gap in feed.gaps] == [11, 11]


def test_D5_what_another_connection_brings_is_neither_refused_nor_unreachable() -> None:
    feed = served()
    feed.open(2, "b")
    assert feed.say(Kind.PAIRS, 3, "b", Facts(pairs=["BTC-KRW"], refused={"BTC-KRW": "busy"}).pack()) == []
    wants(feed, 4, BTC)
    assert wants(feed, 5, BTC, kind=Kind.PAIRS, reason="HTTP 429") == []
    assert feed.frame(100) == [] and feed.gaps == []


def test_D5_a_connection_that_is_refused_as_a_whole_is_a_gap_of_its_own_cause() -> None:
    feed = Feed()
    feed.open(0)
    feed.close(1, refused("too many connections"))
    assert feed.gaps == [("BTC-KRW", 0, None, "refused", None)]


def test_D5_what_is_wanted_no_more_is_missing_no_more() -> None:
    feed = Feed()
    wants(feed, 0, BTC, ETH)
    wants(feed, 3, BTC, ETH, kind=Kind.PAIRS, reason="HTTP 451")
    wants(feed, 5, BTC, kind=Kind.PAIRS)
    assert feed.gaps == [("BTC-KRW", 0, None, "unreachable", None), ("ETH-KRW", 0, 5, "unreachable", None)]
    assert feed.ledger.wanted == ["BTC-KRW"]


def test_D5_a_collector_that_is_stopped_before_it_was_served_was_stopped() -> None:
    feed = Feed()
    wants(feed, 0, BTC)
    wants(feed, 5, kind=Kind.CLOSED, reason="stopped")
    assert feed.gaps == [("BTC-KRW", 0, None, "stopped", None)]
    assert feed.ledger.wanted == []
    other = Feed()
    wants(other, 0, BTC)
    wants(other, 5, kind=Kind.CLOSED, reason="replaced")
    assert other.gaps == []


def test_D5_what_is_missing_when_a_collector_is_stopped_is_missing_for_that_reason_from_then_on() -> None:
    feed = Feed()
    wants(feed, 0, BTC, ETH)
    feed.open(1, pairs=(BTC,))
    feed.frame(2)
    wants(feed, 3, BTC, ETH, kind=Kind.PAIRS, reason="HTTP 451")
    feed.close(9, "stopped")
    wants(feed, 10, kind=Kind.CLOSED, reason="stopped")
    gaps = [("BTC-KRW", 9, None, "stopped", None), ("ETH-KRW", 0, 10, "unreachable", None)]
    assert sorted(feed.gaps, key=str) == sorted([*gaps, ("ETH-KRW", 10, None, "stopped", None)], key=str)
    assert feed.ledger.wanted == []
    feed = served()
    wants(feed, 2, BTC)
    assert wants(feed, 3, kind=Kind.CLOSED, reason="stopped") == [], "it still comes"


def test_D5_a_polled_pair_that_is_refused_later_is_a_gap_until_its_next_answer() -> None:
    feed = Feed(Channel.CANDLE, "bithumb")
    feed.open(0, "r", transport="rest")
    feed.answer(1, BTC, b"[]", "r")
    facts = Facts(transport="rest", pairs=["BTC-KRW"], refused={"BTC-KRW": "refused for the moment: busy"})
    feed.say(Kind.PAIRS, 61, "r", facts.pack())
    assert feed.gaps == [("BTC-KRW", 61, None, "refused", None)]
    feed.answer(62, BTC, b'{"error":{"name":"too_many_requests","message":"..."}}', "r")
    assert feed.gaps == [("BTC-KRW", 61, None, "refused", None)]
    feed.answer(121, BTC, b"[]", "r")
    assert feed.gaps[0][:4] == ("BTC-KRW", 61, 121, "refused")
    stand_in = Feed()
    stand_in.open(0, "r", transport="rest")
    assert stand_in.say(Kind.PAIRS, 1, "r", facts.pack()) == [], "beside a stream, the stream counts"


def test_D5_a_killed_collector_whose_successor_reaches_nothing_stays_a_gap() -> None:
    feed = served()
    feed.epoch = 2
    wants(feed, 60, BTC)
    wants(feed, 70, BTC, kind=Kind.PAIRS, reason="HTTP 451")
    assert feed.gaps == [("BTC-KRW", 1, None, "killed", None)]
    state = LedgerState.unpack(feed.ledger.state.pack())
    assert GapLedger(plain("upbit"), Channel.TICKER, state).lasting.keys() == {"BTC-KRW"}
