"""Data frames of the tables: the rows and dead letters of a transform, and raw records as they are and back."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from coin_platform import __version__
from coin_platform.errors import DecodeError, LakeError
from coin_platform.exchanges.base import Source
from coin_platform.model import Cause, Channel, Kind, Microseconds
from coin_platform.records import Header, Record, unpack_dated
from coin_platform.tables import schema
from coin_platform.tables.frame_numbers import LastNumber, LastNumbers
from coin_platform.tables.outcomes import DeadRecord, FrameOutcome
from coin_platform.tables.rows import Row, origin
from coin_platform.tables.schema import Values
from coin_platform.tables.transform import Transform


class Batch(NamedTuple):
    """The tables of the records of one window, and the transform that made them."""

    rows: pl.DataFrame
    dead: pl.DataFrame
    transform: Transform

    @property
    def counts(self) -> dict[str, int]:
        """How many frames came to which end, and the other counts. The same records give the same counts."""
        counted = self.transform
        return {
            "frames": sum(counted.frames.values()),
            **{f"frames_{outcome}": counted.frames[outcome] for outcome in FrameOutcome},
            "rows_emitted": counted.emitted,
            "rows_repeated": counted.repeated,
            "rows_replaced": counted.replaced,
            "trades_same_id": counted.same_id,
            "own_records": counted.own_records,
            "missing": counted.missing,
            "faults": sum(fault.cause is not Cause.NO_BOOK for _, fault in counted.faults),
        }


def batch(
    source: Source,
    records: Iterable[Record],
    start: int = 0,
    numbers: Iterable[LastNumber] = (),
    window: Microseconds | None = None,
) -> Batch:
    """Return the rows of the records from offset `start` on. Earlier records prepare books and known trades.

    `numbers` are the last frame numbers of the connections before `start`, as `last_numbers` returns them. If records
    reach over several windows of length `window` (µs), a new window begins as `Transform` describes.

    Rows are sorted by pair and offset. Candles are one row per pair and minute, the last update, sorted by these.
    """
    transform = Transform(source, start, window, numbers)
    rows = [row for record in records for row in transform.feed(record)]
    table = rows_table(source.channel, rows)
    if source.channel is Channel.CANDLE:
        table = schema.latest(source.channel, table.lazy()).collect()
    else:
        table = table.sort("pair", "offset", "index")
    letters = [(dead.record, DeadReason(dead.error_class, dead.reason, __version__)) for dead in transform.dead]
    return Batch(table, dead_table(source, letters), transform)


def rows_table(channel: Channel, rows: Sequence[Row]) -> pl.DataFrame:
    """Return rows as a table of a channel, in their order."""
    return _table([row.columns for row in rows], schema.CURATED[channel])


def raw_table(records: Iterable[Record]) -> pl.DataFrame:
    """Return records as they are, one row each."""
    return _table([_raw(record) for record in records], schema.RAW)


def records(table: pl.DataFrame) -> Iterator[Record]:
    """Yield the records that a raw table holds: the inverse of `raw_table`."""
    columns = table.with_columns(pl.col("log_time", "received_time").to_physical()).select(schema.RAW.names())
    for offset, time, kind, epoch, connection, number, received_time, pair, payload in columns.iter_rows():
        text = connection
        if kind is not None:
            text = f"{kind},{epoch},{connection},{number},{received_time}" + (f",{pair}" if pair else "")
        yield Record(offset, time, text, payload)


def last_numbers(raw: pl.DataFrame, before: Iterable[LastNumber] = ()) -> list[LastNumber]:
    """Return the last frame numbers of all connections after a raw table, given the numbers `before` it."""
    numbers = LastNumbers(before)
    frames = raw.filter(pl.col("kind").is_in([kind.value for kind in Kind if kind.is_frame]))
    columns = frames.select("epoch", "connection", "number", pl.col("log_time").to_physical())
    for epoch, connection, number, time in columns.iter_rows():
        numbers.take((epoch, connection), number, time)
    return numbers.pack()


class DeadReason(NamedTuple):
    """Why a record did not become rows."""

    error: str  # its class
    reason: str
    code: str  # the version that failed


def dead_table(source: Source, dead: Iterable[tuple[Record, DeadReason]]) -> pl.DataFrame:
    """Return dead letters as rows."""
    return _table([_dead(source, record, reason) for record, reason in dead], schema.DEAD)


def dead_facts(dead: Iterable[DeadRecord]) -> list[tuple[str, str, list[int]]]:
    """Return error, reason and offsets of the dead records, for the footer of the channel's table."""
    offsets = defaultdict[tuple[str, str], list[int]](list)
    for dead_record in dead:
        offsets[dead_record.error_class, dead_record.reason].append(dead_record.record.offset)
    return [(error, reason, places) for (error, reason), places in offsets.items()]


def dead_of(facts: Mapping[str, Any], raw: pl.DataFrame) -> Iterator[tuple[Record, DeadReason]]:
    """Yield the dead records that the footer of a channel's table names, from its raw table, with the reasons.

    Raises `LakeError` if the raw table has no such record.
    """
    reasons = {
        int(offset): DeadReason(error, reason, facts["code"])
        for error, reason, offsets in facts["dead_found"]
        for offset in offsets
    }
    dead = list(records(raw.filter(pl.col("offset").is_in(list(reasons)))))
    if missing := reasons.keys() - {record.offset for record in dead}:
        raise LakeError(
            f"raw_{facts['table']} of {facts['exchange']} has no offset {min(missing)}, which is dead in "
            f"{facts['table']} of that window: materialise {facts['table']} again"
        )
    for record in dead:
        yield record, reasons[record.offset]


def _dead(source: Source, record: Record, reason: DeadReason) -> Values:
    header = _header(record)
    place = origin(source, record, header, 0)
    time = header.received_time if header else None
    return (source.channel.value, time, record.time, *reason, *place, record.value)


def _header(record: Record) -> Header | None:
    """Return the header of a record; `None` if it is not exactly one of ours."""
    try:
        header = unpack_dated(record.header)
    except DecodeError:
        return None
    return header if header.pack() == record.header else None


def _raw(record: Record) -> Values:
    header = _header(record)
    if header is None:
        text = record.header.encode(errors="backslashreplace").decode()
        return (record.offset, record.time, None, None, text, None, None, None, record.value)
    pair = str(header.pair) if header.pair else None
    kind, epoch, connection, number, received_time, _ = header
    return (record.offset, record.time, kind.value, epoch, connection, number, received_time, pair, record.value)


def _table(rows: Sequence[Values], columns: pl.Schema) -> pl.DataFrame:
    # Columns, not rows: building a frame from tuples takes half as long again.
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return pl.DataFrame(
        [
            pl.Series(name, list(column), dtype=kind)
            for (name, kind), column in zip(columns.items(), values, strict=True)
        ]
    )
