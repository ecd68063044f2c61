"""Upbit: facts of its documentation, its short names, its requests."""

import msgspec
import pytest

from coin_platform.errors import UnknownPair
from coin_platform.exchanges.upbit import Upbit
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
    Ticker,
    Trade,
)
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import events, frames, say

UPBIT = Upbit()
BTC_KRW = Pair("BTC", "KRW")


def test_a_ticker_has_the_values_of_the_day_and_the_volumes_of_24_hours() -> None:
    assert next(events("upbit", "ticker")) == Ticker(
        pair=BTC_KRW,
        exchange_time=1_676_965_262_177_000,
        last="32287000",
        open_day="31883000",
        high_day="32310000",
        low_day="31855000",
        prev_close_day="31883000.00000000",
        change_day="404000.00000000",
        change_rate_day="0.0126713295",  # a fraction
        volume_24h="7158.80283560",
        quote_volume_24h="228827082483.70729000",
    )


def test_the_taker_bought_what_was_bid() -> None:
    trade = next(events("upbit", "trade"))
    assert isinstance(trade, Trade) and (trade.id, trade.side) == ("17303368620470000", Side.BUY)  # beyond 2**53


def test_a_candle_of_its_documentation() -> None:
    payload = (
        b'{"type":"candle.1m","code":"KRW-BTC","candle_date_time_utc":"2025-01-02T04:28:00",'
        b'"opening_price":142009000.0,"high_price":142010000.0,"low_price":142008000.0,"trade_price":142009500.0,'
        b'"candle_acc_trade_volume":0.00606119,"candle_acc_trade_price":860743.53,"timestamp":1735792085824}'
    )
    assert say("upbit", Channel.CANDLE, payload) == [
        Candle(
            pair=BTC_KRW,
            exchange_time=1_735_792_085_824_000,
            open_time=1_735_792_080_000_000,
            open=142_009_000,
            high=142_010_000,
            low=142_008_000,
            close=142_009_500,
            volume=0.00606119,
            quote_volume=860_743.53,
        )
    ]
    assert say("upbit", Channel.CANDLE, payload.replace(b"candle.1m", b"candle.1s")) == [Control(name="candle.1s")]


def test_padding_of_thin_books_is_no_level() -> None:
    payload = (
        b'{"type":"orderbook","code":"BTC-AQT","timestamp":1790134742106,"orderbook_units":'
        b'[{"bid_price":0,"bid_size":0,"ask_price":0.00000689,"ask_size":8.70827286}]}'
    )
    [update] = say("upbit", Channel.ORDERBOOK, payload)
    assert isinstance(update, BookUpdate)
    assert (update.bids, update.asks) == ([], [Level(0.00000689, 8.70827286)])


LONG_AND_SHORT = [
    (
        Channel.TICKER,
        b'{"type":"ticker","code":"KRW-BTC","timestamp":1611063306635,"trade_price":4.0E7,"opening_price":4,'
        b'"acc_trade_volume_24h":8.50}',
        b'{"ty":"ticker","cd":"KRW-BTC","tms":1611063306635,"tp":4.0E7,"op":4,"atv24h":8.50}',
    ),
    (
        Channel.ORDERBOOK,
        b'{"type":"orderbook","code":"KRW-BTC","timestamp":1790134773006,"orderbook_units":'
        b'[{"ask_price":2,"bid_price":1,"ask_size":0.2,"bid_size":0.1}]}',
        b'{"ty":"orderbook","cd":"KRW-BTC","tms":1790134773006,"obu":[{"ap":2,"bp":1,"as":0.2,"bs":0.1}]}',
    ),
    (
        Channel.TRADE,
        b'{"type":"trade","code":"KRW-BTC","timestamp":1618678262001,"trade_timestamp":1618678262000,'
        b'"trade_price":127,"trade_volume":46.4,"ask_bid":"ASK","sequential_id":1618678262000003}',
        b'{"ty":"trade","cd":"KRW-BTC","tms":1618678262001,"ttms":1618678262000,"tp":127,"tv":46.4,"ab":"ASK",'
        b'"sid":1618678262000003}',
    ),
]


@pytest.mark.parametrize(("channel", "long", "short"), LONG_AND_SHORT)
def test_short_names_mean_the_same(channel: Channel, long: bytes, short: bytes) -> None:
    assert say("upbit", channel, short) == say("upbit", channel, long) != []


def test_candles_open_in_utc_whatever_their_zone() -> None:
    frame = frames("upbit", "candle")[1]
    [candle] = UPBIT.decode(frame)
    assert isinstance(candle, Candle) and candle.open_time == 1_785_397_500_000_000
    zoned = frame.payload.replace(b'"2026-07-30T07:45:00"', b'"2026-07-30T16:45:00+09:00"')
    assert UPBIT.decode(msgspec.structs.replace(frame, payload=zoned)) == [candle]


def test_trades_of_2018_have_no_id() -> None:
    trades = [event for event in events("upbit", "rest_trade") if isinstance(event, Trade)]
    old = next(trade for trade in trades if trade.pair == Pair("ETH", "BTC"))
    assert (old.exchange_time, old.id, old.side) == (1_530_519_465_697_000, None, Side.SELL)


def test_rest_answers_may_be_refusals() -> None:
    [refused] = say("upbit", Channel.TICKER, b'{"error":{"name":404,"message":"Code not found"}}', BTC_KRW)
    assert refused == Refused(pair=BTC_KRW, reason="404: Code not found", refusal=Refusal.FINAL)
    assert say("upbit", Channel.TICKER, b"{}", BTC_KRW) == [Refused(pair=BTC_KRW, reason="not an array")]


def test_markets_are_spelled_quote_first() -> None:
    assert traded_pairs(UPBIT, b'[{"market":"KRW-BTC"},{"market":"BTC-ETH"}]') == [BTC_KRW, Pair("ETH", "BTC")]


def test_a_pong_is_no_data() -> None:
    assert say("upbit", Channel.TICKER, b'{"status":"UP"}') == [Control(name="pong")]


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (Channel.TICKER, "ticker"),
        (Channel.ORDERBOOK, "orderbook"),
        (Channel.TRADE, "trade"),
        (Channel.CANDLE, "candle.1m"),
    ],
)
def test_one_request_names_all_pairs_and_replaces_the_former_one(channel: Channel, name: str) -> None:
    pairs = [BTC_KRW, Pair("ETH", "KRW")]
    [request] = UPBIT.subscribe(channel, pairs, id=3, time=7)
    assert request.payload == f'[{{"ticket":"coin-platform-7-3"}},{{"type":"{name}","codes":["KRW-BTC","KRW-ETH"]}}]'
    assert request.pairs == tuple(pairs)
    assert list(UPBIT.unsubscribe(channel, pairs, id=1, time=0)) == []


@pytest.mark.parametrize(("symbol", "pair"), [("KRW-BTC", BTC_KRW), ("BTC-ETH", Pair("ETH", "BTC"))])
def test_symbols_read_both_ways(symbol: str, pair: Pair) -> None:
    assert (UPBIT.pair(symbol), UPBIT.symbol(pair)) == (pair, symbol)


def test_what_is_no_symbol_is_refused() -> None:
    with pytest.raises(UnknownPair):
        UPBIT.pair("BTC")
