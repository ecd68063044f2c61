"""The simulated Coinone: early confirmations, the order of asks, old books, and two meanings of one name."""

import json

import pytest

from coin_platform.model import SECOND, BookUpdate, Channel, Control, Pair, Refusal, Refused, Side, Subscribed, Ticker
from tests.kit.venue_talk import PAIR_CHANNELS, STEP, TIME, Talk, raw

NOPE = Pair("NOPE", "KRW")


def test_coinone_confirms_an_unknown_pair_and_then_refuses_what_it_does_not_name() -> None:
    talk = Talk("coinone")
    assert talk.events(talk.subscribe(NOPE)) == [
        Subscribed(pair=NOPE),
        Refused(reason="160012: Invalid Topic", refusal=Refusal.FINAL),
    ]
    assert talk.step() == []


def test_coinone_greets_and_answers_a_candle_with_its_interval() -> None:
    talk = Talk("coinone", Channel.CANDLE)
    assert talk.events(list(talk.venue.opened(TIME))) == [Control(name="connected")]
    answer, _ = raw(talk.subscribe())
    assert answer["channel"] == "CHART"
    assert answer["data"] == {"quote_currency": "KRW", "target_currency": "BTC", "interval": "1m"}


def test_coinone_sends_the_worst_ask_first_but_lists_the_best_first() -> None:
    talk = Talk("coinone")
    socket, listed = raw(talk.subscribe())[1]["data"], json.loads(talk.rest(Channel.ORDERBOOK).body)
    best = [talk.listing.number(ticks) for ticks, _ in talk.listing.levels(Side.SELL, 16)]
    assert [float(level["price"]) for level in socket["asks"]] == best[::-1]
    assert [float(level["price"]) for level in listed["asks"]] == best
    assert socket["bids"] == listed["bids"]


def test_the_first_book_of_coinone_is_ten_seconds_old() -> None:
    talk = Talk("coinone")
    events = talk.events([*talk.subscribe(), *talk.step()])
    times = [event.exchange_time for event in events if isinstance(event, BookUpdate)]
    assert times == [TIME - 10 * SECOND, TIME + STEP]


def test_the_same_names_mean_the_day_on_coinones_socket_and_24_hours_on_rest() -> None:
    talk = Talk("coinone", Channel.TICKER)
    talk.market.step(TIME)
    listing = talk.listing
    listing.day.open, listing.rolling.open = listing.day.open + 3, listing.rolling.open - 5
    [_, streamed], [listed] = talk.events(talk.subscribe()), talk.rest_events(Channel.TICKER, talk.pair)
    assert isinstance(streamed, Ticker)
    assert isinstance(listed, Ticker)
    assert (float(streamed.open_day or 0), streamed.open_24h) == (listing.number(listing.day.open), None)
    assert (float(listed.open_24h or 0), listed.open_day) == (listing.number(listing.rolling.open), None)
    assert '"quote_currency":"krw","target_currency":"btc"' in talk.rest(Channel.TICKER).body


@pytest.mark.parametrize("channel", PAIR_CHANNELS)
def test_coinone_answers_an_unknown_pair_with_an_error_and_http_200(channel: Channel) -> None:
    talk = Talk("coinone", channel)
    answer = talk.rest(channel, NOPE)
    assert (answer.status, json.loads(answer.body)["result"]) == (200, "error")
    assert talk.rest_events(channel, NOPE) == [Refused(pair=talk.pair, reason="107: Parameter value is wrong")]
