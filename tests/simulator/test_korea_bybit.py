"""The traps of the simulated Bithumb, Coinone, Korbit and Bybit are there, and the real adapters know them."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Pair,
    Refusal,
    Refused,
    Side,
    Subscribed,
    Ticker,
    Trade,
)
from coin_platform.simulator import VENUES
from coin_platform.simulator.market import Market
from coin_platform.simulator.venue import Message, RestAnswer
from tests.simulator.test_server import STEP, TIME, Talk

NOPE = Pair("NOPE", "KRW")


def raw(messages: list[Message]) -> list[dict[str, Any]]:
    """Return messages as they are on the wire."""
    return [json.loads(message.payload) for message in messages]


def events(talk: Talk, messages: list[Message]) -> list[Event]:
    """Return what messages say to the real adapter."""
    return [event for message in messages for event in talk.decode(message)]


def rest(talk: Talk, channel: Channel, pair: Pair | None = None) -> RestAnswer:
    """Return the answer to a REST request as it is on the wire."""
    parts = urlsplit(talk.exchange.request_url(channel, pair or talk.pair) or "")
    return talk.venue.rest(parts.path, dict(parse_qsl(parts.query)), talk.time)


def test_bithumb_writes_times_in_three_units_and_two_zones_and_all_are_read_right() -> None:
    ticker, book, now = Talk("bithumb", Channel.TICKER), Talk("bithumb"), (TIME + STEP) // 1000
    ticker.ask(), book.ask()
    [said], [whole] = ticker.step(), book.step()
    told = json.loads(said.payload)
    assert (told["timestamp"], told["trade_timestamp"]) == (now, now)
    assert (told["trade_date"], told["trade_time"]) == ("20261124", "090000")  # KST
    assert json.loads(whole.payload)["timestamp"] == TIME + STEP
    [row] = json.loads(rest(ticker, Channel.TICKER).body)
    assert (row["timestamp"], row["trade_timestamp"]) == (now + 9 * 3_600_000, now + 9 * 3_600_000)
    assert (row["trade_date"], row["trade_time"]) == ("20261124", "000000")  # UTC
    assert json.loads(rest(book, Channel.ORDERBOOK).body)[0]["timestamp"] == now
    read = events(ticker, [said]) + events(book, [whole])
    read += ticker.get(Channel.TICKER, ticker.pair) + book.get(Channel.ORDERBOOK, book.pair)
    assert [event.exchange_time for event in read if isinstance(event, Ticker | BookUpdate)] == [TIME + STEP] * 4


def test_bithumb_cuts_sizes_so_that_a_small_level_seems_empty() -> None:
    talk = Talk("bithumb")
    bids = talk.listing.bids
    best, second = sorted(bids, reverse=True)[:2]
    bids[best], bids[second] = 0.000099, 1.234599
    [whole] = talk.ask()
    units = json.loads(whole.payload)["orderbook_units"]
    assert [unit["bid_size"] for unit in units[:2]] == [0.0, 1.2345]
    [update] = talk.decode(whole)
    assert isinstance(update, BookUpdate)
    assert (update.bids[0].price, update.bids[0].size) == (talk.listing.number(second), 1.2345)
    assert (len(update.bids), len(update.asks)) == (14, 15)


def test_bithumb_says_that_it_is_up_every_ten_seconds_once_it_was_pinged() -> None:
    talk = Talk("bithumb")
    assert [message for _ in range(200) for message in talk.step()] == []
    talk.question()
    assert events(talk, [message for _ in range(200) for message in talk.step()]) == [Control(name="pong")] * 2


def test_bithumb_numbers_a_trade_differently_on_rest_and_both_beyond_doubles() -> None:
    talk = Talk("bithumb", Channel.TRADE)
    talk.ask()
    [told], [*listed] = events(talk, talk.step()), talk.get(Channel.TRADE, talk.pair)
    same = listed[0]
    assert isinstance(told, Trade)
    assert isinstance(same, Trade)
    assert (told.price, told.size, told.exchange_time) == (same.price, same.size, same.exchange_time)
    assert told.id != same.id
    assert min(int(told.id or 0), int(same.id or 0)) > 2**53


@pytest.mark.parametrize("channel", Channel)
def test_bithumb_answers_an_unknown_market_with_an_error_and_http_200(channel: Channel) -> None:
    talk = Talk("bithumb", channel)
    assert rest(talk, channel, NOPE) == RestAnswer('{"error":{"name":404,"message":"Code not found"}}', 200)


def test_coinone_confirms_an_unknown_pair_and_then_refuses_what_it_does_not_name() -> None:
    talk = Talk("coinone")
    assert events(talk, talk.ask(NOPE)) == [
        Subscribed(pair=NOPE),
        Refused(reason="160012: Invalid Topic", refusal=Refusal.FINAL),
    ]
    assert talk.step() == []


def test_coinone_greets_and_answers_a_candle_with_its_interval() -> None:
    talk = Talk("coinone", Channel.CANDLE)
    assert events(talk, list(talk.venue.opened(TIME))) == [Control(name="connected")]
    answer, _ = raw(talk.ask())
    assert answer["channel"] == "CHART"
    assert answer["data"] == {"quote_currency": "KRW", "target_currency": "BTC", "interval": "1m"}


def test_coinone_sends_the_worst_ask_first_but_lists_the_best_first() -> None:
    talk = Talk("coinone")
    socket, listed = raw(talk.ask())[1]["data"], json.loads(rest(talk, Channel.ORDERBOOK).body)
    best = [talk.listing.number(ticks) for ticks, _ in talk.listing.levels(Side.SELL, 16)]
    assert [float(level["price"]) for level in socket["asks"]] == best[::-1]
    assert [float(level["price"]) for level in listed["asks"]] == best
    assert socket["bids"] == listed["bids"]


def test_the_first_book_of_coinone_is_ten_seconds_old() -> None:
    talk = Talk("coinone")
    found = events(talk, [*talk.ask(), *talk.step()])
    times = [event.exchange_time for event in found if isinstance(event, BookUpdate)]
    assert times == [TIME - 10 * SECOND, TIME + STEP]


def test_the_same_names_mean_the_day_on_coinones_socket_and_24_hours_on_rest() -> None:
    talk = Talk("coinone", Channel.TICKER)
    talk.market.step(TIME)
    listing = talk.listing
    listing.day.open, listing.rolling.open = listing.day.open + 3, listing.rolling.open - 5
    [_, told], [listed] = events(talk, talk.ask()), talk.get(Channel.TICKER, talk.pair)
    assert isinstance(told, Ticker)
    assert isinstance(listed, Ticker)
    assert (float(told.open_day or 0), told.open_24h) == (listing.number(listing.day.open), None)
    assert (float(listed.open_24h or 0), listed.open_day) == (listing.number(listing.rolling.open), None)
    assert '"quote_currency":"krw","target_currency":"btc"' in rest(talk, Channel.TICKER).body


@pytest.mark.parametrize("channel", Channel)
def test_coinone_answers_an_unknown_pair_with_an_error_and_http_200(channel: Channel) -> None:
    talk = Talk("coinone", channel)
    answer = rest(talk, channel, NOPE)
    assert (answer.status, json.loads(answer.body)["result"]) == (200, "error")
    assert talk.get(channel, NOPE) == [Refused(pair=talk.pair, reason="107: Parameter value is wrong")]


def test_one_unknown_symbol_spoils_a_command_of_korbit_and_no_other() -> None:
    talk = Talk("korbit")
    commands = [
        {"requestId": 1, "method": "subscribe", "type": "orderbook", "symbols": ["btc_krw", "nope_krw"]},
        {"requestId": 2, "method": "subscribe", "type": "orderbook", "symbols": ["eth_krw"]},
        {"requestId": 4, "method": "subscribe", "type": "candle", "symbols": ["btc_krw"]},
    ]
    found = events(talk, list(talk.venue.received(json.dumps(commands), TIME)))
    reason = "INVALID_SYMBOL: The symbol does not exist (nope_krw)"
    assert found[0] == Refused(pair=NOPE, request=1, reason=reason, refusal=Refusal.FINAL)
    assert found[1] == Subscribed(request=2)
    assert isinstance(found[2], BookUpdate)
    assert found[3:] == [Refused(request=4, reason="INVALID_REQUEST: unknown_type")]
    assert [row["symbol"] for row in raw(talk.step())] == ["eth_krw"]


def test_korbit_acknowledges_only_numbered_commands_and_always_tells_failures() -> None:
    talk = Talk("korbit", Channel.TICKER)
    said = []
    for symbol in ("btc_krw", "BTC_KRW"):
        command = {"method": "subscribe", "type": "ticker", "symbols": [symbol]}
        said.append(raw(list(talk.venue.received(json.dumps([command]), TIME))))
    assert [row["type"] for row in said[0]] == ["ticker"]
    message = "The symbol does not exist (BTC_KRW)"
    assert said[1] == [{"status": "fail", "code": "INVALID_SYMBOL", "message": message}]


@pytest.mark.parametrize("channel", [Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE])
def test_only_the_first_message_of_korbit_says_that_it_is_a_snapshot(channel: Channel) -> None:
    talk = Talk("korbit", channel)
    assert [row.get("snapshot") for row in raw([*talk.ask()[1:], *talk.step(), *talk.step()])] == [True, None, None]


def test_korbit_lists_no_ticker_of_an_unknown_symbol_and_refuses_its_book() -> None:
    talk = Talk("korbit")
    refusal = RestAnswer('{"success":false,"error":{"code":400,"message":"INVALID_CURRENCY_PAIR"}}', 400)
    assert rest(talk, Channel.TICKER, NOPE) == RestAnswer('{"success":true,"data":[]}')
    assert [rest(talk, channel, NOPE) for channel in (Channel.ORDERBOOK, Channel.TRADE, Channel.CANDLE)] == [
        refusal
    ] * 3


def test_bybit_numbers_each_change_of_a_book_one_higher_on_all_connections() -> None:
    talk = Talk("bybit")
    other = VENUES["bybit"](talk.market)
    first, numbers = raw(talk.ask())[1], []
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
    assert events(talk, talk.ask(talk.pair, nope, id=5)) == [
        Refused(pair=nope, request=5, reason=reason, refusal=Refusal.FINAL)
    ]
    assert talk.step() == []


def test_bybit_takes_ten_topics_a_request_and_the_adapter_asks_for_no_more() -> None:
    pairs = tuple(Pair(base, quote) for base in ("BTC", "ETH", "XRP", "SOL") for quote in ("USDT", "USDC", "EUR"))
    talk = Talk("bybit", Channel.TICKER)
    talk.venue = VENUES["bybit"](Market(1, {"bybit": pairs}, TIME))
    topics = [f"tickers.{pair.base}{pair.quote}" for pair in pairs[:11]]
    request = json.dumps({"req_id": "3", "op": "subscribe", "args": topics})
    refused = events(talk, list(talk.venue.received(request, TIME)))
    assert refused == [Refused(request=3, reason="args size >10")]
    assert list(talk.venue.step(TIME)) == []
    found = events(talk, talk.ask(*pairs))
    assert [event for event in found if not isinstance(event, Ticker)] == [
        Subscribed(request=1),
        Subscribed(request=2),
    ]
    assert [event.pair for event in found if isinstance(event, Ticker)] == [*pairs]


def test_bybit_refuses_what_is_subscribed_already_and_goes_on_sending_it() -> None:
    talk = Talk("bybit", Channel.CANDLE)
    talk.ask()
    reason = "error:already subscribed,topic:kline.1.BTCUSDT"
    assert events(talk, talk.ask(id=2)) == [Refused(pair=talk.pair, request=2, reason=reason)]
    assert len([message for _ in range(10) for message in talk.step()]) == 1


def test_bybit_answers_a_ping_with_a_ping_that_says_pong() -> None:
    [answer] = raw(Talk("bybit").question())
    assert {**answer, "conn_id": ""} == {
        "success": True,
        "ret_msg": "pong",
        "conn_id": "",
        "req_id": "ping",
        "op": "ping",
    }


def test_bybit_confirms_a_minute_once_when_it_has_ended() -> None:
    talk = Talk("bybit", Channel.CANDLE)
    talk.ask()
    told = [event for _ in range(1210) for event in events(talk, talk.step()) if isinstance(event, Candle)]
    assert [event.open_time for event in told if event.is_closed] == [TIME, TIME + 60 * SECOND]
    assert told[-1].exchange_time == talk.time


def test_the_book_that_bybit_lists_over_rest_is_numbered_apart_from_the_socket() -> None:
    talk = Talk("bybit")
    numbered = json.loads(rest(talk, Channel.ORDERBOOK).body)["result"]["u"]
    assert numbered != raw(talk.ask())[1]["data"]["u"]
    [update] = talk.get(Channel.ORDERBOOK, talk.pair)
    assert isinstance(update, BookUpdate)
    assert (update.last_sequence, update.exchange_time) == (None, talk.time)


@pytest.mark.parametrize("channel", sorted(EXCHANGES["bybit"].channels))
def test_bybit_refuses_unknown_symbols_over_rest_with_http_200(channel: Channel) -> None:
    talk = Talk("bybit", channel)
    answer = rest(talk, channel, Pair("NOPE", "USDT"))
    assert (answer.status, json.loads(answer.body)["retCode"]) == (200, 10001)
