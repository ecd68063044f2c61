"""Rows of the channels' tables: what an event gives to its row, and where in the raw topic the row comes from."""

from typing import Any, NamedTuple

import msgspec

from coin_platform.exchanges.base import Source
from coin_platform.model import Candle, Event, Instrument, Kind, Microseconds, Ticker, Trade
from coin_platform.records import Header, Record
from coin_platform.tables import candle, instrument, schema, ticker, trade
from coin_platform.tables.schema import Values


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of a channel's table. Its times and its place have names, so that nobody counts columns."""

    columns: Values  # all columns of the table, in its order
    exchange_time: Microseconds | None
    received_time: Microseconds
    log_time: Microseconds
    offset: int  # of the record in its raw partition
    index: int  # of the event within the record: 0, 1 …


class Entry(NamedTuple):
    """One row, and the event that it was made of."""

    row: Row
    event: Any


def row_of(
    source: Source,
    record: Record,
    header: Header,
    index: int,
    pair: str,
    exchange_time: Microseconds | None,
    values: Values,
) -> Row:
    """Return the row of one event; `values` are the columns between the times and the origin."""
    received_time, log_time = header.received_time, record.time
    columns = (pair, exchange_time, received_time, log_time, *values, *origin(source, record, header, index))
    return Row(columns, exchange_time, received_time, log_time, record.offset, index)


def origin(source: Source, record: Record, header: Header | None, index: int) -> Values:
    """Return the columns that say where a row comes from: those of `schema.ORIGIN`."""
    place = (source.topic, source.partition, record.offset, index)
    if header is None:
        return (None, None, None, None, *place)
    transport = "rest" if header.kind is Kind.REST else "ws"
    return (transport, header.epoch, header.connection, header.number, *place)


def columns_of(event: Event) -> dict[str, Any]:
    """Return an event's fields by the names of its table's columns."""
    values: Values
    match event:
        case Ticker():
            names, values = schema.TICKER_COLUMNS, ticker.values(event)
        case Trade():
            names, values = schema.TRADE_COLUMNS, trade.values(event)
        case Candle():
            names, values = schema.CANDLE_COLUMNS, candle.values(event)
        case Instrument():
            names, values = schema.INSTRUMENT_COLUMNS, instrument.values(event)
        case _:
            fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "pair"}
            return {name: value for name, value in fields.items() if value is not None}
    own_names = list(names)[1 + len(schema.WHEN) :]  # behind the pair and the three times
    return {"exchange_time": event.exchange_time, **dict(zip(own_names, values, strict=False))}
