"""Rows and events -> the JSON records of the processed topics, whose form a test freezes for its readers.

1. Values of tickers and instruments are the exchange's own text, and derived ones are plain decimals. Values of books,
   trades and candles are numbers. An unknown value is null.
2. Behind the keys of the contract stand ours: the quote currency, the times, and the origin of the record in its raw
   topic (`offset`, `index`). By its origin a reader can drop a record that comes twice.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Exchange
from coin_platform.exchanges.parsing import difference
from coin_platform.model import Candle, Channel, Instrument, Pair, Ticker, Trade
from coin_platform.records import Record
from coin_platform.records import unpack as unpack_header
from coin_platform.tables import schema
from coin_platform.tables.json_times import time_text
from coin_platform.tables.rows import Entry
from coin_platform.topic_names import REGION_TITLES

_COLUMNS = {channel: tuple(columns) for channel, columns in schema.CURATED.items()}
_encode = msgspec.json.Encoder().encode


def encode(exchange: Exchange, channel: Channel, entry: Entry, *, is_redriven: bool = False) -> bytes:
    """Return the processed record of one entry. The record of a dead letter that could be decoded later says so."""
    value: dict[str, Any] = dict(zip(_COLUMNS[channel], entry.row.columns, strict=True))
    pair: Pair = entry.event.pair
    body = {
        "region": REGION_TITLES[exchange.region],
        "market": exchange.title,
        "coin_symbol": pair.base,
        **_BODIES[channel](entry.event, value),
        "quote": pair.quote,
        "received_time": time_text(entry.row.received_time),
        "transport": value["transport"],
        "offset": entry.row.offset,
        "index": entry.row.index,
        **({"redriven": True} if is_redriven else {}),
    }
    return _encode(body)


class Origin(msgspec.Struct):
    """Where a processed record comes from: offset in the raw partition, and index within the frame."""

    offset: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    index: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
    redriven: bool = False


_origin = msgspec.json.Decoder(Origin).decode


def origin(record: Record) -> Origin | None:
    """Return where a processed record comes from; `None` if it has no such keys or no header, as foreign records."""
    try:
        unpack_header(record.header)
        return _origin(record.value)
    except (DecodeError, msgspec.MsgspecError):
        return None


def _ticker(event: Ticker, value: Mapping[str, Any]) -> dict[str, Any]:
    before = event.prev_close_day or event.open_24h or event.open_day
    change = event.change_day or event.change_24h or difference(event.last, before)
    data = {
        "opening_price": event.open_day or event.open_24h,
        "trade_price": event.last,
        "max_price": event.high_day or event.high_24h,
        "min_price": event.low_day or event.low_24h,
        "prev_closing_price": before,
        "acc_trade_volume_24h": event.volume_24h,
        "signed_change_price": change,
        "signed_change_rate": event.change_rate_day or event.change_rate_24h or _rate(change, before),
    }
    time = event.exchange_time
    return {"timestamp": None if time is None else time / 1000, "data": [data]}


def _orderbook(event: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "highest_bid": value["best_bid"],
        "lowest_ask": value["best_ask"],
        "spread": value["spread"],
        "total_bid_volume": value["total_bid_size"],
        "total_ask_volume": value["total_ask_size"],
        "timestamp": time_text(value["exchange_time"]),
        "sequence": value["sequence"],
        "proof": value["proof"],
    }


def _trade(event: Trade, value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in ("id", "price", "size", "side")} | {
        "timestamp": time_text(value["exchange_time"])
    }


def _candle(event: Candle, value: Mapping[str, Any]) -> dict[str, Any]:
    names = ("open", "high", "low", "close", "volume", "quote_volume", "is_closed")
    return {"open_time": time_text(value["open_time"]), **{name: value[name] for name in names}} | {
        "timestamp": time_text(value["exchange_time"])
    }


def _instrument(event: Instrument, value: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: getattr(event, name) for name in ("tick_size", "size_step", "min_size", "min_value")}
    return {
        "timestamp": time_text(value["exchange_time"]),
        "state": value["state"],
        "exchange_state": value["exchange_state"],
        **numbers,
        "listed_time": time_text(value["listed_time"]),
        "change": value["change"],
    }


_BODIES: dict[Channel, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    Channel.TICKER: _ticker,
    Channel.ORDERBOOK: _orderbook,
    Channel.TRADE: _trade,
    Channel.CANDLE: _candle,
    Channel.INSTRUMENT: _instrument,
}


def _rate(change: str | None, before: str | None) -> str | None:
    """Return a change as a fraction, a plain decimal of six digits as in the contract's example."""
    if change is None or before is None or not float(before):
        return None
    return f"{Decimal(change) / Decimal(before):.6f}"
