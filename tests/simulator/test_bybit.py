"""The simulated Bybit: numbered books, requests of ten topics, refusals, pings and candles."""

import json

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, BookUpdate, Candle, Channel, Pair, Refusal, Refused, Subscribed, Ticker
from coin_platform.simulator import VENUES
from coin_platform.simulator.market import Market
from tests.kit.venue_talk import TIME, Talk, raw


def test_bybit_numbers_each_change_of_a_book_one_higher_on_all_connections() -> None:
    talk = Talk("bybit")
    other = VENUES["bybit"](talk.market)
    first, numbers = raw(talk.subscribe())[1], []
    assert (first["type"], len(first["data"]["b"]), len(first["data"]["a"])) == ("snapshot", 119, 119)
    for step in range(20):
        [change] = raw(talk.step())
        assert change["type"] == "delta"
        numbers.append(change["data"]["u"])
        if step == 9:
            [request] = talk.exchange.subscribe(Channel.ORDERBOOK, [talk.pair], id=1, time=0)
            later = raw(list(other.received(request.payload, talk.time)))[1]
    assert numbers == list(range(first["data"]["u"] + 1, first["data"]["u"] + 21))
    assert later["data"]["u"] == numbers[9]


def test_one_bad_topic_spoils_a_request_to_bybit() -> None:
    talk = Talk("bybit", Channel.TICKER)
    nope = Pair("NOPE", "USDT")
    reason = "Invalid symbol :[tickers.NOPEUSDT]"
    assert talk.events(talk.subscribe(talk.pair, nope, id=5)) == [
        Refused(pair=nope, request=5, reason=reason, refusal=Refusal.FINAL)
    ]
    assert talk.step() == []


def test_bybit_takes_ten_topics_a_request_and_the_adapter_asks_for_no_more() -> None:
    pairs = tuple(Pair(base, quote) for base in ("BTC", "ETH", "XRP", "SOL") for quote in ("USDT", "USDC", "EUR"))
    talk = Talk("bybit", Channel.TICKER)
    talk.venue = VENUES["bybit"](Market(1, {"bybit": pairs}, TIME))
    topics = [f"tickers.{pair.base}{pair.quote}" for pair in pairs[:11]]
    request = json.dumps({"req_id": "3", "op": "subscribe", "args": topics})
    refused = talk.events(list(talk.venue.received(request, TIME)))
    assert refused == [Refused(request=3, reason="args size >10")]
    assert list(talk.venue.step(TIME)) == []
    events = talk.events(talk.subscribe(*pairs))
    assert [event for event in events if not isinstance(event, Ticker)] == [
        Subscribed(request=1),
        Subscribed(request=2),
    ]
    assert [event.pair for event in events if isinstance(event, Ticker)] == [*pairs]


def test_bybit_refuses_what_is_subscribed_already_and_goes_on_sending_it() -> None:
    talk = Talk("bybit", Channel.CANDLE)
    talk.subscribe()
    reason = "error:already subscribed,topic:kline.1.BTCUSDT"
    assert talk.events(talk.subscribe(id=2)) == [Refused(pair=talk.pair, request=2, reason=reason)]
    assert len(talk.steps(10)) == 1


def test_bybit_answers_a_ping_with_a_ping_that_says_pong() -> None:
    [answer] = raw(Talk("bybit").ping())
    assert {**answer, "conn_id": ""} == {
        "success": True,
        "ret_msg": "pong",
        "conn_id": "",
        "req_id": "ping",
        "op": "ping",
    }


def test_bybit_confirms_a_minute_once_when_it_has_ended() -> None:
    talk = Talk("bybit", Channel.CANDLE)
    talk.subscribe()
    candles = [event for _ in range(1210) for event in talk.events(talk.step()) if isinstance(event, Candle)]
    assert [event.open_time for event in candles if event.is_closed] == [TIME, TIME + 60 * SECOND]
    assert candles[-1].exchange_time == talk.time


def test_the_book_that_bybit_lists_over_rest_is_numbered_apart_from_the_socket() -> None:
    talk = Talk("bybit")
    numbered = json.loads(talk.rest(Channel.ORDERBOOK).body)["result"]["u"]
    assert numbered != raw(talk.subscribe())[1]["data"]["u"]
    [update] = talk.rest_events(Channel.ORDERBOOK, talk.pair)
    assert isinstance(update, BookUpdate)
    assert (update.last_sequence, update.exchange_time) == (None, talk.time)


@pytest.mark.parametrize("channel", sorted(EXCHANGES["bybit"].channels))
def test_bybit_refuses_unknown_symbols_over_rest_with_http_200(channel: Channel) -> None:
    talk = Talk("bybit", channel)
    answer = talk.rest(channel, Pair("NOPE", "USDT"))
    assert (answer.status, json.loads(answer.body)["retCode"]) == (200, 10001)
