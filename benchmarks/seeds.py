"""The way of the platform's forerunners: `json.loads`, pydantic models of `Decimal`, and rows as dicts.

It makes the same checks as the platform (numbers in bounds, possible times) and the same columns, and no more.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import polars as pl
from pydantic import BaseModel, Field, ValidationError

from coin_platform.exchanges.base import Source
from coin_platform.records import Record
from coin_platform.topic_names import REGION_TITLES

Price = Annotated[Decimal, Field(gt=0, lt=10**15)]
Size = Annotated[Decimal, Field(ge=0, lt=10**18)]
Time = Annotated[int, Field(ge=1_230_940_800_000, le=4_102_444_800_000)]

TICKER = (
    *("pair", "exchange_time", "received_time", "log_time", "last", "open_24h", "high_24h", "low_24h", "change_24h"),
    *("change_rate_24h", "volume_24h", "quote_volume_24h", "best_bid", "best_bid_size", "best_ask", "best_ask_size"),
    *("transport", "epoch", "connection", "number", "topic", "partition", "offset", "index"),
)
"""The columns of the ticker table that OKX's messages fill."""


class Row(BaseModel):
    """What OKX's `tickers` say of one pair."""

    instId: str  # noqa: N815
    last: Price
    open24h: Price
    high24h: Price
    low24h: Price
    vol24h: Size
    volCcy24h: Size  # noqa: N815
    bidPx: Price  # noqa: N815
    bidSz: Size  # noqa: N815
    askPx: Price  # noqa: N815
    askSz: Size  # noqa: N815
    ts: Time


class Tickers(BaseModel):
    """A message of OKX's channel `tickers`."""

    arg: dict[str, str]
    data: list[Row]


def tickers(source: Source, records: Iterable[Record]) -> tuple[pl.DataFrame, list[int]]:
    """Return the ticker table of some records, and the offsets of those that could not be read."""
    rows, dead = [], []
    for record in records:
        _, epoch, connection, number, received = record.header.split(",")
        try:
            message = Tickers.model_validate(json.loads(record.value))
        except (ValueError, ValidationError):
            dead.append(record.offset)
            continue
        for index, row in enumerate(message.data):
            change = row.last - row.open24h
            rows.append(
                {
                    "pair": row.instId,
                    "exchange_time": row.ts * 1000,
                    "received_time": int(received),
                    "log_time": record.time,
                    "last": row.last,
                    "open_24h": row.open24h,
                    "high_24h": row.high24h,
                    "low_24h": row.low24h,
                    "change_24h": change,
                    "change_rate_24h": change / row.open24h,
                    "volume_24h": row.vol24h,
                    "quote_volume_24h": row.volCcy24h,
                    "best_bid": row.bidPx,
                    "best_bid_size": row.bidSz,
                    "best_ask": row.askPx,
                    "best_ask_size": row.askSz,
                    "transport": "ws",
                    "epoch": int(epoch),
                    "connection": connection,
                    "number": int(number),
                    "topic": source.topic,
                    "partition": source.partition,
                    "offset": record.offset,
                    "index": index,
                }
            )
    table = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col(pl.Decimal).cast(pl.Float64))
    return table.sort("pair", "offset", "index"), dead


class Data(BaseModel):
    """A processed ticker's values."""

    opening_price: str
    trade_price: str
    max_price: str
    min_price: str
    prev_closing_price: str
    acc_trade_volume_24h: str
    signed_change_price: str
    signed_change_rate: str


class Processed(BaseModel):
    """A processed ticker record."""

    region: str
    market: str
    coin_symbol: str
    timestamp: float
    data: list[Data]


def processed(source: Source, records: Iterable[Record]) -> list[bytes]:
    """Return the processed records of OKX's tickers: the contract's keys only."""
    values = []
    for record in records:
        message = Tickers.model_validate(json.loads(record.value))
        for row in message.data:
            change = row.last - row.open24h
            body = Processed(
                region=REGION_TITLES[source.exchange.region],
                market=source.exchange.title,
                coin_symbol=row.instId.split("-")[0],
                timestamp=float(row.ts),
                data=[
                    Data(
                        opening_price=f"{row.open24h:f}",
                        trade_price=f"{row.last:f}",
                        max_price=f"{row.high24h:f}",
                        min_price=f"{row.low24h:f}",
                        prev_closing_price=f"{row.open24h:f}",
                        acc_trade_volume_24h=f"{row.vol24h:f}",
                        signed_change_price=f"{change:f}",
                        signed_change_rate=f"{change / row.open24h:.6f}",
                    )
                ],
            )
            values.append(json.dumps(body.model_dump()).encode())
    return values


class Levels(BaseModel):
    """A book whose levels are pairs of texts: Bybit's."""

    s: str
    b: list[tuple[Price, Size]]
    a: list[tuple[Price, Size]]


class Book(BaseModel):
    """A message of Bybit's channel `orderbook`."""

    topic: str
    ts: Time
    data: Levels


class Unit(BaseModel):
    """One level of both sides, as Upbit writes it."""

    ask_price: Price
    bid_price: Price
    ask_size: Size
    bid_size: Size


class Units(BaseModel):
    """A book whose levels are objects: Upbit's."""

    code: str
    timestamp: Time
    orderbook_units: list[Unit]


Top = tuple[float, float, float, float, float]
"""Best bid and ask, spread, total sizes of both sides."""


def book_of_decimals(model: type[BaseModel], value: bytes) -> Top:
    """Return what a whole book says, by a pydantic model."""
    message: Any = model.model_validate(json.loads(value))
    if isinstance(message, Book):
        bids, asks = message.data.b, message.data.a
    else:
        bids = [(unit.bid_price, unit.bid_size) for unit in message.orderbook_units]
        asks = [(unit.ask_price, unit.ask_size) for unit in message.orderbook_units]
    bid, ask = max(price for price, _ in bids), min(price for price, _ in asks)
    sizes = (sum(size for _, size in bids), sum(size for _, size in asks))
    return float(bid), float(ask), float(ask - bid), *map(float, sizes)  # type: ignore[return-value]


def book_of_floats(value: bytes) -> Top:
    """Return what a whole book says, by a loop over its levels."""
    message = json.loads(value)
    if "data" in message:
        sides = message["data"]["b"], message["data"]["a"]
    else:
        units = message["orderbook_units"]
        sides = (
            [(unit["bid_price"], unit["bid_size"]) for unit in units],
            [(unit["ask_price"], unit["ask_size"]) for unit in units],
        )
    bids, asks = ([(float(price), float(size)) for price, size in side] for side in sides)
    bid, ask = max(price for price, _ in bids), min(price for price, _ in asks)
    return bid, ask, ask - bid, sum(size for _, size in bids), sum(size for _, size in asks)


def text(time: int) -> str:
    """Write a time in µs as the processed order books do."""
    return str(datetime.fromtimestamp(time / 1e6, UTC))
