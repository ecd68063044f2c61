"""The columns of every table, written once: names, types, units, and the key by which a later row replaces another.

Prices are in quote currency, sizes and volumes in base currency unless the name says quote. Times are UTC with
microseconds. Null means not known. A table's `exchange` comes from its path in the lake.
"""

import re
from typing import Annotated, Any, TypeAlias

import msgspec
import polars as pl
from polars.datatypes import DataTypeClass

from coin_platform.errors import DecodeError
from coin_platform.model import Channel

LEVELS = 10  # best levels of each side that the order book table keeps

TIME = pl.Datetime("us", "UTC")

Columns: TypeAlias = dict[str, pl.DataType | DataTypeClass]
Values: TypeAlias = tuple[object, ...]  # of several columns, in the order of the schema

WHEN: Columns = {
    "exchange_time": TIME,  # when the exchange says it happened; null where it does not say
    "received_time": TIME,  # when our collector read it from the socket
    "log_time": TIME,  # when the raw topic accepted it: decides the window
}
ORIGIN: Columns = {
    "transport": pl.String,  # "ws" | "rest"
    "epoch": pl.Int64,  # with connection and number: the identity of the frame
    "connection": pl.String,
    "number": pl.Int64,
    "topic": pl.String,  # with partition and offset: where its raw bytes are
    "partition": pl.Int32,
    "offset": pl.Int64,
    "index": pl.Int32,  # of the event within its frame: 0, 1 ...
}

RAW_COLUMNS: Columns = {
    "offset": pl.Int64,
    "log_time": TIME,
    "kind": pl.String,  # w r: frames; o c k p: our own records; null: the header is not one of ours
    "epoch": pl.Int64,
    "connection": pl.String,  # where kind is null: the header itself
    "number": pl.Int64,
    "received_time": TIME,
    "pair": pl.String,  # of REST answers
    "payload": pl.Binary,  # the exact bytes
}

TICKER_COLUMNS: Columns = {
    "pair": pl.String,  # BTC-KRW
    **WHEN,
    "last": pl.Float64,  # last traded price
    "open_24h": pl.Float64,  # price 24 hours ago
    "high_24h": pl.Float64,
    "low_24h": pl.Float64,
    "change_24h": pl.Float64,  # last - open_24h
    "change_rate_24h": pl.Float64,  # a fraction: 0.01 is one per cent
    "open_day": pl.Float64,  # open of the exchange's calendar day
    "high_day": pl.Float64,
    "low_day": pl.Float64,
    "prev_close_day": pl.Float64,  # close of the calendar day before
    "change_day": pl.Float64,  # last - prev_close_day, or - open_day where no close is sent
    "change_rate_day": pl.Float64,
    "volume_24h": pl.Float64,
    "quote_volume_24h": pl.Float64,
    "best_bid": pl.Float64,
    "best_bid_size": pl.Float64,
    "best_ask": pl.Float64,
    "best_ask_size": pl.Float64,
    **ORIGIN,
}

ORDERBOOK_COLUMNS: Columns = {
    "pair": pl.String,
    **WHEN,
    "is_snapshot": pl.Boolean,  # the frame held the whole book
    "sequence": pl.Int64,  # the exchange's own, after this frame; null where it has none
    "proof": pl.String,  # checksum | sequence | snapshot | none: what would reveal a missing message
    "best_bid": pl.Float64,
    "best_bid_size": pl.Float64,
    "best_ask": pl.Float64,
    "best_ask_size": pl.Float64,
    "spread": pl.Float64,  # best_ask - best_bid, in the digits of the two
    "total_bid_size": pl.Float64,  # over all levels we are told of, not only those below
    "total_ask_size": pl.Float64,
    "bid_levels": pl.Int32,  # how many those are
    "ask_levels": pl.Int32,
    "bid_prices": pl.List(pl.Float64),  # the best LEVELS levels, best first
    "bid_sizes": pl.List(pl.Float64),
    "ask_prices": pl.List(pl.Float64),
    "ask_sizes": pl.List(pl.Float64),
    **ORIGIN,
}

TRADE_COLUMNS: Columns = {
    "pair": pl.String,
    **WHEN,
    "id": pl.String,  # the exchange's own; null where it gives none
    "price": pl.Float64,
    "size": pl.Float64,
    "side": pl.String,  # the taker's: buy | sell; null where the exchange leaves it open
    **ORIGIN,
}

CANDLE_COLUMNS: Columns = {
    "pair": pl.String,
    **WHEN,
    "open_time": TIME,  # when the minute began
    "open": pl.Float64,
    "high": pl.Float64,
    "low": pl.Float64,
    "close": pl.Float64,
    "volume": pl.Float64,
    "quote_volume": pl.Float64,  # null where it is not sent
    "is_closed": pl.Boolean,  # the minute is over; null where the exchange does not say
    **ORIGIN,
}

INSTRUMENT_COLUMNS: Columns = {
    "pair": pl.String,
    **WHEN,
    "state": pl.String,  # trading | limited | halted | upcoming | delisted | unknown: see `model.InstrumentState`
    "exchange_state": pl.String,  # the exchange's own word
    "tick_size": pl.Float64,  # the smallest step of a price
    "size_step": pl.Float64,  # the smallest step of an order's size
    "min_size": pl.Float64,  # of an order
    "min_value": pl.Float64,  # of an order, in quote currency
    "listed_time": TIME,  # when trading began, or will begin
    "change": pl.String,  # listed | changed | delisted; null: a row of the whole set that each window begins with
    **ORIGIN,
}

DEAD_COLUMNS: Columns = {
    "channel": pl.String,
    "received_time": TIME,
    "log_time": TIME,
    "error": pl.String,  # class of the error
    "reason": pl.String,
    "code": pl.String,  # version that could not decode it
    **ORIGIN,
    "payload": pl.Binary,
}

GAP_COLUMNS: Columns = {
    "channel": pl.String,
    "pair": pl.String,  # null: whichever the feed carried
    "from": TIME,  # received_time of the last frame before it; with exchange, channel and pair the key
    "to": TIME,  # of the first frame after it; null while it lasts: a later window tells the end
    "cause": pl.String,  # see `model.Cause`
    "reason": pl.String,
    "filled_by": pl.String,  # "rest": its trades or candles were fetched afterwards
    "log_time": TIME,  # of the record that told of it, and where that is
    "topic": pl.String,
    "partition": pl.Int32,
    "offset": pl.Int64,
}

RAW, DEAD, GAP = pl.Schema(RAW_COLUMNS), pl.Schema(DEAD_COLUMNS), pl.Schema(GAP_COLUMNS)
CURATED = {
    Channel.TICKER: pl.Schema(TICKER_COLUMNS),
    Channel.ORDERBOOK: pl.Schema(ORDERBOOK_COLUMNS),
    Channel.TRADE: pl.Schema(TRADE_COLUMNS),
    Channel.CANDLE: pl.Schema(CANDLE_COLUMNS),
    Channel.INSTRUMENT: pl.Schema(INSTRUMENT_COLUMNS),
}
TABLES = {
    **{f"raw_{channel}": RAW for channel in CURATED},
    **{str(channel): columns for channel, columns in CURATED.items()},
    "dead": DEAD,
    "gap": GAP,
}

KEYS: dict[str, tuple[str, ...]] = {
    Channel.CANDLE: ("pair", "open_time"),  # an exchange sends a minute again and again until it is over
    "gap": ("channel", "pair", "from"),  # a gap is told again when more of it is known, maybe in a later window
}
"""The columns by which, with the exchange, a later row of a table replaces an earlier one. Other tables have none."""

SPANS: dict[str, tuple[str, str]] = {Channel.CANDLE: ("open_time", "open_time"), "gap": ("from", "to")}
"""The columns of the first and the last moment that a row tells of. In other tables both are `received_time`."""


def latest(table: str, rows: pl.LazyFrame, *groups: str) -> pl.LazyFrame:
    """Return of all rows with the same `groups` and key of `KEYS` the one that the log accepted last, sorted by them.

    If the table has no key, all rows are returned as they are.
    """
    if table not in KEYS:
        return rows
    key = (*groups, *KEYS[table])
    order = [name for name in ("log_time", "offset", "index") if name in TABLES[table]]
    return rows.sort(*key, *order).unique(key, keep="last", maintain_order=True)


_VALUES: dict[pl.DataType | DataTypeClass, Any] = {
    pl.String: str,
    pl.Boolean: bool,
    pl.Float64: float,
    pl.List(pl.Float64): list[float],
    pl.Int32: Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)],
    pl.Int64: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)],
    TIME: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)],  # µs since 1970
}


class Fit:
    """Checks that columns can hold the values of a row. So one row cannot fail the table of a whole window."""

    def __init__(self, columns: Columns) -> None:
        self._names = list(columns)
        self._texts = [index for index, kind in enumerate(columns.values()) if kind == pl.String]
        fields = [(f"column_{index}", _VALUES[kind] | None) for index, kind in enumerate(columns.values())]
        self._type: type[msgspec.Struct] = msgspec.defstruct("Row", fields, array_like=True, gc=False)

    def check(self, values: tuple[Any, ...]) -> None:
        """Raise `DecodeError` with the name of the column for a value of another type, or out of the type's range."""
        try:
            msgspec.convert(values, self._type)
        except msgspec.ValidationError as error:
            text = re.sub(r"\$\[(\d+)\]", lambda place: self._names[int(place[1])], str(error))
            raise DecodeError(f"a value does not fit its column: {text}") from error
        for index in self._texts:
            text = values[index]
            if text is not None and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError as error:
                    raise DecodeError(f"a value does not fit its column: {self._names[index]}: {error}") from error


_CHECKED_BEFORE = {"received_time", "log_time", *ORIGIN}  # of the header and the log, which check them when read
FITS = {
    channel: Fit({name: kind for name, kind in columns.items() if name not in _CHECKED_BEFORE})
    for channel, columns in CURATED.items()
}
"""The checks of the columns that an event gives: the pair, the exchange's time, and the channel's own columns."""
