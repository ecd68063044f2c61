"""What a transform found as tables: the rows and dead letters of a batch, and records as they are."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import polars as pl

from coin_platform import __version__
from coin_platform.errors import DecodeError
from coin_platform.model import Channel
from coin_platform.preprocess import candle, schema
from coin_platform.preprocess.orderbook import FaultKind
from coin_platform.preprocess.transform import Dead, Outcome, Row, Source, Transform, origin
from coin_platform.wire import Record, unpack


class Batch(NamedTuple):
    """The result of one window or one poll."""

    rows: pl.DataFrame
    dead: pl.DataFrame
    transform: Transform

    @property
    def counts(self) -> dict[str, int]:
        """How many frames came to which end, and what else was counted; all deterministic."""
        counted = self.transform
        return {
            "frames": sum(counted.frames.values()),
            **{f"frames_{outcome}": counted.frames[outcome] for outcome in Outcome},
            "rows_emitted": counted.emitted,
            "rows_repeated": counted.repeated,
            "rows_replaced": counted.replaced,
            "own_records": counted.own_records,
            "missing": counted.missing,
            "faults": sum(fault.kind is not FaultKind.NO_BOOK for _, fault in counted.faults),
        }


def batch(source: Source, records: Iterable[Record], start: int = 0) -> Batch:
    """Return the rows of the records from offset `start` on; earlier ones prepare the books.

    By pair and offset; candles are one row per pair and minute, the last one told, by pair and minute.
    """
    transform = Transform(source, start)
    rows = [row for record in records for row in transform.feed(record)]
    table = rows_table(source.channel, rows)
    if source.channel is Channel.CANDLE:
        table = candle.latest(table.lazy(), *candle.KEY).collect()
    else:
        table = table.sort("pair", "offset", "index")
    return Batch(table, dead_table(source, transform.dead), transform)


def rows_table(channel: Channel, rows: Sequence[Row]) -> pl.DataFrame:
    """Return rows as a table of a channel, in their order."""
    return _table(rows, schema.CURATED[channel])


def raw_table(records: Iterable[Record]) -> pl.DataFrame:
    """Return records as they are, one row each."""
    return _table([_raw(record) for record in records], schema.RAW)


def records(table: pl.DataFrame) -> Iterator[Record]:
    """Return the records that a raw table holds: the inverse of `raw_table`."""
    columns = table.with_columns(pl.col("log_time", "received_time").to_physical()).select(schema.RAW.names())
    for offset, time, kind, epoch, connection, number, received_time, pair, payload in columns.iter_rows():
        text = connection
        if kind is not None:
            text = f"{kind},{epoch},{connection},{number},{received_time}" + (f",{pair}" if pair else "")
        yield Record(offset, time, text, payload)


def dead_table(source: Source, dead: Sequence[Dead]) -> pl.DataFrame:
    """Return dead letters as rows."""
    rows = [
        (
            source.channel.value,
            letter.header.received_time if letter.header else None,
            letter.record.time,
            type(letter.error).__name__,
            str(letter.error)[:1000],
            __version__,
            *origin(source, letter.record, letter.header, 0),
            letter.record.value,
        )
        for letter in dead
    ]
    return _table(rows, schema.DEAD)


def _raw(record: Record) -> Row:
    try:
        header = unpack(record.header)
    except DecodeError:
        return (record.offset, record.time, None, None, record.header, None, None, None, record.value)
    pair = str(header.pair) if header.pair else None
    kind, epoch, connection, number, received_time, _ = header
    return (record.offset, record.time, kind.value, epoch, connection, number, received_time, pair, record.value)


def _table(rows: Sequence[Row], columns: pl.Schema) -> pl.DataFrame:
    # columns, not rows: building from tuples takes half as long again
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return pl.DataFrame(
        [
            pl.Series(name, list(column), dtype=kind)
            for (name, kind), column in zip(columns.items(), values, strict=True)
        ]
    )
