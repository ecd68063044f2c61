"""Upbit: its short names, the zones of its candles, the padding of its books."""

import msgspec
import pytest

from coin_platform.exchanges.upbit import Upbit
from coin_platform.model import BookUpdate, Candle, Channel, Level, Pair
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import frames, say

UPBIT = Upbit()
BTC_KRW = Pair("BTC", "KRW")


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


def test_markets_are_spelled_quote_first() -> None:
    assert traded_pairs(UPBIT, b'[{"market":"KRW-BTC"},{"market":"BTC-ETH"}]') == [BTC_KRW, Pair("ETH", "BTC")]
