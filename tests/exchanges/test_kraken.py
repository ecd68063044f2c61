"""Kraken: facts of its documentation, the checksum of its books, its requests."""

import pytest

from coin_platform.book import Applied
from coin_platform.errors import DecodeError, UnknownPair
from coin_platform.exchanges.kraken import Kraken
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Level,
    Pair,
    Refusal,
    Refused,
    Side,
    Subscribed,
    TextLevel,
    Ticker,
    Trade,
)
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import events, say

KRAKEN = Kraken()
BTC_USD, BTC_USDT = Pair("BTC", "USD"), Pair("BTC", "USDT")


def test_a_ticker_has_the_values_of_24_hours() -> None:
    assert next(events("kraken", "ticker")) == Ticker(
        pair=BTC_USD,
        exchange_time=1_790_358_506_844_359,
        last="83744.3",
        open_24h="84173.6",  # last less change
        high_24h="85247.4",
        low_24h="83163.6",
        change_24h="-429.3",
        volume_24h="3156.84782110",
        best_bid="83744.2",
        best_bid_size="0.56251979",
        best_ask="83744.3",
        best_ask_size="0.00044780",
    )


def test_the_checksum_of_the_documented_book() -> None:
    """https://docs.kraken.com/api/docs/guides/spot-ws-book-v2"""
    asks = (
        "45285.2/0.00100000 45286.4/1.54571953 45286.6/1.54571109 45289.6/1.54560911 45290.2/0.15890660 "
        "45291.8/1.54553491 45294.7/0.04454749 45296.1/0.35380000 45297.5/0.09945542 45299.5/0.18772827"
    )
    bids = (
        "45283.5/0.10000000 45283.4/1.54582015 45282.1/0.10000000 45281.0/0.10000000 45280.3/1.54592586 "
        "45279.0/0.07990000 45277.6/0.03310103 45277.5/0.30000000 45277.3/1.54602737 45276.6/0.15445238"
    )
    sides = [
        ",".join('{{"price":{},"qty":{}}}'.format(*level.split("/")) for level in side.split()) for side in (bids, asks)
    ]
    text = (
        '{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{}],"asks":[{}],'
        '"checksum":3310070434}}]}}'
    )
    [update] = say("kraken", Channel.ORDERBOOK, text.format(*sides).encode())
    assert isinstance(update, BookUpdate)
    assert KRAKEN.apply(KRAKEN.book(), update) is Applied.APPLIED
    assert update.depth == 10


def test_digits_never_turn_into_an_exponent() -> None:
    payload = (
        b'{"channel":"book","type":"update","data":[{"symbol":"A/B","bids":[{"price":0.00000010,"qty":0.00000100}],'
        b'"asks":[],"checksum":1}]}'
    )
    [update] = say("kraken", Channel.ORDERBOOK, payload)
    assert isinstance(update, BookUpdate) and update.bids == [TextLevel(1e-7, 1e-6, "10100")]


@pytest.mark.parametrize("kind", ["", "updates", "Snapshot"])
def test_a_book_message_of_an_unknown_kind_is_neither_snapshot_nor_update(kind: str) -> None:
    text = '{"channel":"book","type":"%s","data":[{"symbol":"BTC/USD","bids":[],"asks":[],"checksum":0}]}'
    with pytest.raises(DecodeError, match="is not known"):
        say("kraken", Channel.ORDERBOOK, (text % kind).encode())


def test_a_book_message_without_its_checksum_is_a_dead_letter() -> None:
    payload = b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[],"asks":[]}]}'
    with pytest.raises(DecodeError, match="checksum"):
        say("kraken", Channel.ORDERBOOK, payload)


def test_a_trade_has_the_takers_side() -> None:
    assert next(events("kraken", "trade")) == Trade(
        pair=BTC_USD,
        exchange_time=1_790_358_506_844_359,
        id="109116693",
        price=83_744.3,
        size=0.0004478,
        side=Side.BUY,
    )


def test_a_candle_has_no_quote_volume_and_does_not_say_whether_it_is_closed() -> None:
    assert list(events("kraken", "candle"))[-1] == Candle(
        pair=BTC_USDT,
        open_time=1_789_061_700_000_000,
        open=77_499.9,
        high=77_509.2,
        low=77_467.5,
        close=77_509.2,
        volume=0.58051276,
    )


def test_answers_say_whom_they_concern() -> None:
    ack = b'{"method":"subscribe","req_id":1,"result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true}'
    assert say("kraken", Channel.ORDERBOOK, ack) == [Subscribed(pair=BTC_USD, request=1, depth=10)]
    refusal = b'{"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD"}'
    assert say("kraken", Channel.TICKER, refusal) == [
        Refused(pair=BTC_USD, reason="Currency pair not supported XBT/USD", refusal=Refusal.FINAL)
    ]
    refused = b'{"error":"Already subscribed","method":"subscribe","req_id":4,"success":false,"symbol":"BTC/USD"}'
    assert say("kraken", Channel.TICKER, refused) == [Refused(pair=BTC_USD, request=4, reason="Already subscribed")]
    # An unsubscription that finds no subscription does the pair no harm.
    gone = b'{"error":"Subscription Not Found","method":"unsubscribe","success":false,"symbol":"BTC/USD"}'
    assert say("kraken", Channel.TICKER, gone) == [Control(name="unsubscribe")]
    malformed = b'{"error":"Malformed request","success":false}'
    assert say("kraken", Channel.TICKER, malformed) == [Refused(reason="Malformed request")]
    assert say("kraken", Channel.TICKER, b'{"method":"pong","req_id":42}') == [Control(name="pong")]
    assert say("kraken", Channel.TICKER, b'{"channel":"heartbeat"}') == [Control(name="heartbeat")]


def test_a_rest_ticker_has_24_hours_beside_the_open_of_the_day() -> None:
    assert next(events("kraken", "rest_ticker")) == Ticker(
        pair=BTC_USDT,
        last="105899.40000",
        open_day="106021.60000",
        high_24h="106613.10000",
        low_24h="104711.00000",
        change_day="-122.20000",
        volume_24h="163.28908096",
        best_bid="105944.20000",
        best_bid_size="1.000",
        best_ask="105944.30000",
        best_ask_size="1.000",
    )


def test_rest_trades_are_bought_or_sold_by_the_taker() -> None:
    trade = next(events("kraken", "rest_trades"))
    assert isinstance(trade, Trade) and (trade.id, trade.side) == ("109118758", Side.SELL)
    book = next(events("kraken", "rest_orderbook"))
    assert isinstance(book, BookUpdate) and book.asks[0] == Level(105_944.3, 0.136)


def test_rest_answers_may_be_refusals() -> None:
    refused = say("kraken", Channel.TICKER, b'{"error":["EQuery:Unknown asset pair"]}', BTC_USD)
    assert refused == [Refused(pair=BTC_USD, reason="EQuery:Unknown asset pair", refusal=Refusal.FINAL)]


def test_markets_that_are_not_online_or_not_spot_are_left_out() -> None:
    answer = (
        b'{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","status":"online"},"A.d":{"wsname":"ETH/USD"},'
        b'"XDGUSD":{"wsname":"XDG/USD","status":"online"},"OLD":{"wsname":"OLD/USD","status":"delisted"}}}'
    )
    assert traded_pairs(KRAKEN, answer) == [BTC_USD, Pair("DOGE", "USD")]


@pytest.mark.parametrize(
    ("channel", "subscribed", "unsubscribed"),
    [
        (Channel.TICKER, ',"event_trigger":"bbo"', ""),
        (Channel.ORDERBOOK, ',"depth":100', ',"depth":100'),
        (Channel.TRADE, "", ""),
        (Channel.CANDLE, ',"interval":1', ',"interval":1'),
    ],
)
def test_requests_are_as_documented(channel: Channel, subscribed: str, unsubscribed: str) -> None:
    names = {Channel.ORDERBOOK: "book", Channel.CANDLE: "ohlc"}
    payload = '{"method":"%s","params":{"channel":"%s","symbol":["BTC/USD"]%s},"req_id":3}'
    name = names.get(channel, channel.value)
    [request] = KRAKEN.subscribe(channel, [BTC_USD], id=3, time=7)
    assert (request.payload, request.pairs) == (payload % ("subscribe", name, subscribed), (BTC_USD,))
    [request] = KRAKEN.unsubscribe(channel, [BTC_USD], id=3, time=7)
    assert request.payload == payload % ("unsubscribe", name, unsubscribed)


def test_many_pairs_are_asked_for_in_numbered_requests() -> None:
    pairs = [Pair(f"A{number}", "USD") for number in range(KRAKEN.limits.pairs_per_request + 1)]
    first, second = KRAKEN.subscribe(Channel.TRADE, pairs, id=8, time=0)
    assert (first.id, second.id) == (8, 9)
    assert (first.pairs, second.pairs) == (tuple(pairs[:-1]), tuple(pairs[-1:]))


def test_symbols_read_both_ways() -> None:
    assert (KRAKEN.pair("ETH/BTC"), KRAKEN.symbol(Pair("ETH", "BTC"))) == (Pair("ETH", "BTC"), "ETH/BTC")


@pytest.mark.parametrize(
    ("old", "pair"), [("XBT/USD", BTC_USD), ("XBTUSDT", BTC_USDT), ("XDGUSD", Pair("DOGE", "USD"))]
)
def test_the_names_of_its_older_interfaces_are_read(old: str, pair: Pair) -> None:
    assert KRAKEN.pair(old) == pair


def test_what_is_no_symbol_is_refused() -> None:
    with pytest.raises(UnknownPair):
        KRAKEN.pair("FOO")
