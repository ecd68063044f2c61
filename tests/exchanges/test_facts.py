"""What fields of recorded messages mean, where a reader of the exchange's documentation could think otherwise.

The golden files hold all values of all recordings. This table holds by hand the values that are easily mistaken.
"""

from typing import Any

import pytest

from coin_platform.model import Level, Refusal, Side
from tests.kit.recordings import events

# Exchange, recording, number of the event, what is easily mistaken, and the fields that show it.
FACTS: list[tuple[str, str, int, str, dict[str, Any]]] = [
    ("upbit", "ticker", 0, "volumes are of 24 hours", {"volume_24h": "7158.80283560", "open_24h": None}),
    ("upbit", "ticker", 0, "prices are of the day", {"open_day": "31883000", "prev_close_day": "31883000.00000000"}),
    (
        "upbit",
        "ticker",
        0,
        "the rate is a fraction",
        {"change_rate_day": "0.0126713295", "change_day": "404000.00000000"},
    ),
    ("upbit", "trade", 0, "an id may be beyond 2**53", {"id": "17303368620470000"}),
    ("upbit", "trade", 0, "the taker bought what was bid", {"side": Side.BUY}),
    ("upbit", "candle", 1, "a candle opens in UTC", {"open_time": 1_785_397_500_000_000}),
    ("upbit", "rest_trade", 1, "trades of 2018 have no id", {"id": None, "exchange_time": 1_530_519_465_697_000}),
    ("bithumb", "ticker", 1, "a ticker is timed in milliseconds", {"exchange_time": 1_783_655_148_485_000}),
    ("bithumb", "ticker", 1, "prices are of the Korean day", {"open_day": "94223000", "prev_close_day": "94201000"}),
    ("bithumb", "ticker", 2, "what is left out is not known", {"last": "116208000", "volume_24h": None}),
    ("bithumb", "orderbook", 2, "a book is timed in microseconds", {"exchange_time": 1_790_133_505_546_514}),
    ("bithumb", "orderbook", 3, "the simple format has no time", {"exchange_time": None, "is_snapshot": True}),
    ("bithumb", "trade", 0, "no double can hold an id", {"id": "862683813820523888", "side": Side.SELL}),
    ("bithumb", "trade", 0, "the time is the trade's, not the message's", {"exchange_time": 1_783_658_381_138_000}),
    # 2026-07-30 07:48:30.156 UTC; the row says 1785430110156, which is 16:48:30.
    ("bithumb", "rest_ticker", 0, "nine hours ahead are set right", {"exchange_time": 1_785_397_710_156_000}),
    ("bithumb", "rest_ticker", 1, "in 2023 the row was right", {"exchange_time": 1_698_125_744_837_000}),
    ("bithumb", "rest_candle", 0, "a candle opens in UTC", {"open_time": 1_785_397_680_000_000}),
    ("bithumb", "rest_candle", 1, "longer candles are left out", {"name": "candle of another length"}),
    ("coinone", "ticker", 0, "prices are of the UTC day", {"open_day": "698.7", "change_day": "-10.8"}),
    ("coinone", "ticker", 1, "the short format means the same", {"open_day": "698.7", "best_ask": "688.3"}),
    ("coinone", "orderbook", 0, "asks come worst first", {"asks": (Level(695.5, 5000), Level(687.5, 47022.8803))}),
    # Ten seconds before it was sent.
    ("coinone", "orderbook", 2, "a book is timed by its last change", {"exchange_time": 1_790_134_167_554_000}),
    ("coinone", "trade", 0, "a trade has no side", {"side": None, "id": "1693560450996001"}),
    (
        "coinone",
        "candle",
        0,
        "a candle is a minute",
        {"open_time": 1_693_560_360_000_000, "quote_volume": 55904975548.1528},
    ),
    ("coinone", "rest_ticker", 0, "prices over REST are of 24 hours", {"open_24h": "50487000.0", "open_day": None}),
    ("coinone", "control", 5, "a confirmed pair may be refused", {"refusal": Refusal.FINAL, "pair": None}),
    # 153000 / 100497000, sent as "0.15" per cent.
    ("korbit", "ticker", 0, "the rate is a fraction", {"change_rate_24h": "0.0015224335", "open_24h": "100500000"}),
    ("korbit", "ticker", 2, "later tickers have no field snapshot", {"last": "99027000"}),
    # Sent at …2857.
    ("korbit", "orderbook", 1, "a book is timed by its last change", {"exchange_time": 1_790_134_242_563_000}),
    ("korbit", "rest_ticker", 0, "a ticker over REST has no time", {"exchange_time": None, "change_24h": "76000"}),
    ("korbit", "control", 3, "an answer with a status may be a refusal", {"request": 4, "refusal": Refusal.TEMPORARY}),
    ("okx", "trade", 0, "a trade may stand for several", {"count": 2, "id": "1040968613", "side": Side.BUY}),
    ("bybit", "ticker", 0, "the socket has no best prices", {"best_bid": None, "open_24h": "65045.3"}),
    ("bybit", "rest_ticker", 0, "a ticker over REST has them", {"best_bid": "20517.96", "best_bid_size": "2"}),
    ("bybit", "rest_ticker", 0, "its time is the answer's", {"exchange_time": 1_673_859_087_947_000}),
    ("bybit", "orderbook", 9, "books with prices of makers are left out", {"name": "orderbook.rpi.BTCUSDT"}),
    ("bybit", "trade", 8, "a message may have several trades", {"id": "2280000001739247421"}),
    ("bybit", "candle", 0, "a candle may still change", {"is_closed": False, "volume": 0.15318}),
    ("bybit", "candle", 1, "a candle may be closed", {"is_closed": True, "volume": 0.15388}),
    ("bybit", "candle", -1, "longer candles are left out", {"name": "kline.5.BTCUSDT"}),
    ("bybit", "error", 2, "a refusal names its topic in its text", {"refusal": Refusal.TEMPORARY}),
    (
        "bybit",
        "orderbook",
        10,
        "without the engine's time that of sending counts",
        {"exchange_time": 1_680_652_808_065_000},
    ),
    ("bybit", "rest_orderbook", 0, "no number could bridge to the socket", {"last_sequence": None}),
    ("gateio", "ticker", 0, "the rate is sent in per cent", {"change_rate_24h": "-0.004034", "open_24h": None}),
    ("gateio", "ticker", 5, "in 2021 times were in seconds", {"exchange_time": 1_619_093_533_000_000}),
    ("gateio", "trade", 0, "trades have fractions of milliseconds", {"exchange_time": 1_786_539_952_742_901}),
    (
        "gateio",
        "candle",
        0,
        "a is the volume and v the quote volume",
        {"volume": 1.888203, "quote_volume": 120_920.0651408},
    ),
    ("gateio", "candle", 1, "in 2022 it was not said whether closed", {"is_closed": None}),
    ("gateio", "candle", 3, "in 2021 there was no base volume", {"name": "candle 1m_DIS_USDT"}),
    ("gateio", "orderbook", 0, "a whole book names its depth", {"depth": 400, "last_sequence": 25_847_113_075}),
    ("gateio", "orderbook", 3, "the best prices alone are no book", {"name": "spot.book_ticker"}),
    ("gateio", "orderbook", 5, "an older channel sends changes", {"is_snapshot": False, "first_sequence": 2_448_207}),
    ("gateio", "orderbook", 7, "an older channel says full", {"is_snapshot": True, "depth": 100}),
    (
        "gateio",
        "book_sequence_5",
        2,
        "a side without changes is left out",
        {"asks": (), "first_sequence": 39_106_162_813},
    ),
    (
        "gateio",
        "rest_ticker",
        0,
        "a ticker over REST has no time",
        {"exchange_time": None, "change_rate_24h": "-0.0057"},
    ),
    ("gateio", "rest_orderbook", 0, "its time is that of the last change", {"exchange_time": 1_759_104_757_919_000}),
    ("binance", "ticker", 0, "E is the time and C is not", {"exchange_time": 1_772_574_569_035_000}),
    ("binance", "ticker", 0, "o is the open and x is not", {"open_24h": "69442.01000000"}),
    ("binance", "ticker", 0, "p is the change and P is in per cent", {"change_24h": "-1437.89000000"}),
    ("binance", "ticker", 0, "q is the quote volume and Q is not", {"quote_volume_24h": "1742778450.16795780"}),
    ("binance", "ticker", 0, "l is the low and L is not", {"low_24h": "66158.00000000", "last": "68004.12000000"}),
    ("binance", "trade", 10, "T is the time and E is not", {"exchange_time": 1_554_076_800_940_000, "side": Side.BUY}),
    ("binance", "trade", 11, "the taker sold when the buyer waited", {"id": "60276726", "side": Side.SELL}),
    ("binance", "trade", 3, "added trades have their own numbers", {"id": "425087", "side": Side.SELL}),
    ("binance", "candle", 0, "v is the volume and V is the takers'", {"volume": 25_877.0, "is_closed": False}),
    ("binance", "candle", 5, "x says that it is closed", {"is_closed": True}),
    ("binance", "control", 0, "an answer confirms no stream", {"name": "done"}),
    ("binance", "error", 0, "an error may be nested", {"request": 20, "refusal": Refusal.TEMPORARY}),
    ("binance", "error", -1, "an error may be flat", {"reason": "-1121: Invalid symbol.", "refusal": Refusal.FINAL}),
    ("kraken", "ticker", 0, "the open is the last price less the change", {"open_24h": "84173.6", "open_day": None}),
    ("kraken", "trade", 0, "the side is the taker's", {"side": Side.BUY, "id": "109116693"}),
    ("kraken", "candle", -1, "a candle has no quote volume", {"quote_volume": None, "is_closed": None}),
    ("kraken", "rest_ticker", 0, "the open over REST is the day's", {"open_day": "106021.60000", "open_24h": None}),
    ("kraken", "rest_ticker", 0, "the rest is of 24 hours", {"high_24h": "106613.10000", "volume_24h": "163.28908096"}),
    ("kraken", "rest_trades", 0, "trades over REST have the taker's side", {"side": Side.SELL, "id": "109118758"}),
    ("coinbase", "ticker", 24, "the volume is of 24 hours, not of 30 days", {"volume_24h": "24498.81475200"}),
    ("coinbase", "ticker", 0, "in 2021 there were no sizes", {"best_bid": "14.7550", "best_bid_size": None}),
    ("coinbase", "orderbook", 22, "a whole book has no time", {"exchange_time": None, "is_snapshot": True}),
    ("coinbase", "orderbook", 23, "three digits are milliseconds", {"exchange_time": 1_564_617_603_818_000}),
    ("coinbase", "orderbook", 24, "the year 1 is no time", {"exchange_time": None, "is_snapshot": False}),
    ("coinbase", "orderbook", 24, "buy is a bid", {"bids": (Level(9_202.7, 0.5866786),)}),
    ("coinbase", "orderbook", 24, "sell is an ask", {"asks": (Level(9_222.39, 0.00459825),)}),
    # Without 40531.19 x 0.-10000.
    ("coinbase", "orderbook", 25, "a size that is no number is left out", {"bids": (Level(40_533.24, 0.020416),)}),
    ("coinbase", "orderbook", 31, "six digits are microseconds", {"exchange_time": 1_755_503_391_140_110}),
    ("coinbase", "rest_ticker", 2, "nine digits are cut", {"exchange_time": 1_755_496_657_258_019}),
    # The ticker of this trade says so, too.
    ("coinbase", "trade", 0, "the side sent is the maker's", {"side": Side.BUY, "id": "881613"}),
    ("coinbase", "trade", 24, "so the taker did the opposite", {"side": Side.SELL, "id": "174742474"}),
    ("coinbase", "rest_trades", 1, "the same over REST", {"side": Side.BUY, "id": "24169717"}),
    ("coinbase", "candle", 0, "the low comes before the high", {"low": 115_703.97, "high": 115_743.7}),
    ("coinbase", "error", 1, "a refusal names its pair in its reason", {"refusal": Refusal.FINAL}),
    (
        "coinbase",
        "error",
        2,
        "a refused unsubscription refuses no pair",
        {"name": "Failed to unsubscribe: No channels provided"},
    ),
]


def ends(value: object) -> object:
    """Return the first and the last level of a side of a book, and other values as they are."""
    return tuple(value[:1] + value[1:][-1:]) if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("exchange", "stem", "number", "fields"),
    [
        pytest.param(exchange, stem, number, fields, id=f"{exchange} {stem}: {why}")
        for exchange, stem, number, why, fields in FACTS
    ],
)
def test_a_field_means_what_the_documentation_says(
    exchange: str, stem: str, number: int, fields: dict[str, object]
) -> None:
    event = list(events(exchange, stem))[number]
    assert {name: ends(getattr(event, name)) for name in fields} == fields
