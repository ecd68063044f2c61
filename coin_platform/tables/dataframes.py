"""What a transform found as tables: the rows and dead letters of a batch, and records as they are."""

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
from coin_platform.tables.rows import Row, origin
from coin_platform.tables.schema import Values
from coin_platform.tables.transform import DeadRecord, FrameOutcome, Transform


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
    """Return the rows of the records from offset `start` on; earlier ones prepare books, and are trades that are known.

    `numbers` are the last ones of the connections before `start`, as `last_numbers` returns them. Of records that
    reach over several windows of length `window` (µs) only what `Transform` keeps is remembered.

    By pair and offset; candles are one row per pair and minute, the last one told, by pair and minute.
    """
    transform = Transform(source, start, window, numbers)
    rows = [row for record in records for row in transform.feed(record)]
    table = rows_table(source.channel, rows)
    if source.channel is Channel.CANDLE:
        table = schema.latest(source.channel, table.lazy()).collect()
    else:
        table = table.sort("pair", "offset", "index")
    letters = [(each.record, Letter(each.error_class, each.reason, __version__)) for each in transform.dead]
    return Batch(table, dead_table(source, letters), transform)


def rows_table(channel: Channel, rows: Sequence[Row]) -> pl.DataFrame:
    """Return rows as a table of a channel, in their order."""
    return _table([row.columns for row in rows], schema.CURATED[channel])


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


def last_numbers(raw: pl.DataFrame, before: Iterable[LastNumber] = ()) -> list[LastNumber]:
    """Return the last frame numbers of all connections after a raw table, from those `before` it."""
    numbers = LastNumbers(before)
    frames = raw.filter(pl.col("kind").is_in([kind.value for kind in Kind if kind.is_frame]))
    columns = frames.select("epoch", "connection", "number", pl.col("log_time").to_physical())
    for epoch, connection, number, time in columns.iter_rows():
        numbers.take((epoch, connection), number, time)
    return numbers.pack()


class Letter(NamedTuple):
    """Why a record did not become rows."""

    error: str  # class
    reason: str
    code: str  # version


def dead_table(source: Source, dead: Iterable[tuple[Record, Letter]]) -> pl.DataFrame:
    """Return dead letters as rows."""
    return _table([_dead(source, record, letter) for record, letter in dead], schema.DEAD)


def dead_facts(dead: Iterable[DeadRecord]) -> list[tuple[str, str, list[int]]]:
    """Return why which offsets are dead, for the footer of the channel's table: error, reason, offsets."""
    offsets = defaultdict[tuple[str, str], list[int]](list)
    for each in dead:
        offsets[each.error_class, each.reason].append(each.record.offset)
    return [(*why, places) for why, places in offsets.items()]


def dead_of(facts: Mapping[str, Any], raw: pl.DataFrame) -> Iterator[tuple[Record, Letter]]:
    """Yield what the footer of a channel's table says is dead, with the records of its raw table.

    Raises `LakeError` where that has no such record.
    """
    letters = {
        int(offset): Letter(error, reason, facts["code"])
        for error, reason, offsets in facts["dead_found"]
        for offset in offsets
    }
    found = list(records(raw.filter(pl.col("offset").is_in(list(letters)))))
    if missing := letters.keys() - {record.offset for record in found}:
        raise LakeError(
            f"raw_{facts['table']} of {facts['exchange']} has no offset {min(missing)}, which is dead in "
            f"{facts['table']} of that window: materialise {facts['table']} again"
        )
    for record in found:
        yield record, letters[record.offset]


def _dead(source: Source, record: Record, letter: Letter) -> Values:
    header = _header(record)
    place = origin(source, record, header, 0)
    time = header.received_time if header else None
    return (source.channel.value, time, record.time, *letter, *place, record.value)


def _header(record: Record) -> Header | None:
    """Return the header of a record; `None` where it is not one of ours, to the letter."""
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
    # columns, not rows: building from tuples takes half as long again
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return pl.DataFrame(
        [
            pl.Series(name, list(column), dtype=kind)
            for (name, kind), column in zip(columns.items(), values, strict=True)
        ]
    )
