"""Records of one partition -> rows, dead letters and counts: the one way from the log to a table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import polars as pl

from coin_platform import __version__
from coin_platform.book import Applied
from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Exchange
from coin_platform.model import BookUpdate, Channel, Event, Kind, Subscribed, Ticker
from coin_platform.preprocess import schema, ticker
from coin_platform.preprocess.orderbook import Books, Fault
from coin_platform.wire import Header, Record, frame, unpack, unpack_facts

Row: TypeAlias = tuple[object, ...]


class Source(NamedTuple):
    """A partition of a raw topic: one channel of one exchange."""

    exchange: Exchange
    channel: Channel
    topic: str
    partition: int


class Outcome(StrEnum):
    """What became of a frame: there is no other case."""

    ROWS = "rows"
    DEAD = "dead"
    CONTROL = "control"  # says nothing about the market
    DUPLICATE = "duplicate"  # the same frame again
    IGNORED = "ignored"  # a book update older than its book
    INVALID = "invalid"  # a book update while its book cannot be trusted


class Dead(NamedTuple):
    """A record that could not be decoded."""

    record: Record
    header: Header | None
    error: DecodeError


class Transform:
    """Turns the records of one partition, in order, into rows; keeps the books and what is needed to see doubles."""

    def __init__(self, source: Source, start: int = 0) -> None:
        self.source = source
        self.start = start  # records before this offset only prepare the books
        self.frames: Counter[Outcome] = Counter()
        self.missing = 0  # frames whose number was skipped within their connection
        self.own_records = 0
        self.dead: list[Dead] = []
        self.faults: list[tuple[int, Fault]] = []  # with the offset
        self.books = Books(source.exchange)
        self._last_number: dict[tuple[int, str], int] = {}

    def feed(self, record: Record) -> list[Row]:
        """Return the rows of one record, as tuples in the order of the table's columns."""
        is_inside = record.offset >= self.start
        header: Header | None = None
        try:
            header = unpack(record.header)
            if not header.kind.is_frame:
                self._own(record, header, is_inside=is_inside)
                return []
            outcome, rows = self._frame(record, header)
        except DecodeError as error:
            outcome, rows = Outcome.DEAD, []
            if is_inside:
                self.dead.append(Dead(record, header, error))
        if not is_inside:
            return []
        self.frames[outcome] += 1
        return rows

    def _own(self, record: Record, header: Header, *, is_inside: bool) -> None:
        self.own_records += is_inside
        faults = self.books.own(header, unpack_facts(record.value))
        self.faults += [(record.offset, fault) for fault in faults if is_inside]

    def _frame(self, record: Record, header: Header) -> tuple[Outcome, list[Row]]:
        identity = (header.epoch, header.connection)
        last = self._last_number.get(identity)
        if last is not None and header.number <= last:
            return Outcome.DUPLICATE, []
        if last is not None and record.offset >= self.start:
            self.missing += header.number - last - 1
        self._last_number[identity] = header.number
        events = self.source.exchange.decode(
            frame(self.source.exchange.name, self.source.channel, header, record.value)
        )
        found = [self._event(record, header, event) for event in events]
        values = [row for _, rows in found for row in rows]
        if values:
            return Outcome.ROWS, [self._row(record, header, index, row) for index, row in enumerate(values)]
        outcomes = {outcome for outcome, _ in found}
        worst = (Outcome.INVALID, Outcome.IGNORED)
        return next((outcome for outcome in worst if outcome in outcomes), Outcome.CONTROL), []

    def _event(self, record: Record, header: Header, event: Event) -> tuple[Outcome, list[Row]]:
        channel = self.source.channel
        if isinstance(event, Ticker) and channel is Channel.TICKER:
            return Outcome.ROWS, [(event.pair, event.exchange_time, ticker.values(event))]
        if isinstance(event, BookUpdate) and channel is Channel.ORDERBOOK:
            applied, rows, faults = self.books.rows(header.connection, event)
            if record.offset >= self.start:
                self.faults += [(record.offset, fault) for fault in faults]
            outcome = Outcome.IGNORED if applied is Applied.IGNORED else Outcome.INVALID
            return outcome, [(event.pair, event.exchange_time, row) for row in rows]
        if isinstance(event, Subscribed):
            self.books.subscribed(header.connection, event)
        return Outcome.CONTROL, []

    def _row(self, record: Record, header: Header, index: int, found: Row) -> Row:
        pair, exchange_time, values = found
        assert isinstance(values, tuple)
        return (
            str(pair),
            exchange_time,
            header.received_time,
            record.time,
            *values,
            *_origin(self.source, record, header, index),
        )


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
            "own_records": counted.own_records,
            "missing": counted.missing,
            "faults": len(counted.faults),
        }


def batch(source: Source, records: Iterable[Record], start: int = 0) -> Batch:
    """Return the rows of the records from offset `start` on, by pair and offset; earlier ones prepare the books."""
    transform = Transform(source, start)
    rows = [row for record in records for row in transform.feed(record)]
    table = _table(rows, schema.CURATED[source.channel]).sort("pair", "offset", "index")
    return Batch(table, dead_table(source, transform.dead), transform)


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
            *_origin(source, letter.record, letter.header, 0),
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


def _origin(source: Source, record: Record, header: Header | None, index: int) -> Row:
    place = (source.topic, source.partition, record.offset, index)
    if header is None:
        return (None, None, None, None, *place)
    transport = "rest" if header.kind is Kind.REST else "ws"
    return (transport, header.epoch, header.connection, header.number, *place)


def _table(rows: Sequence[Row], columns: pl.Schema) -> pl.DataFrame:
    # columns, not rows: building from tuples takes half as long again
    values = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return pl.DataFrame(
        [
            pl.Series(name, list(column), dtype=kind)
            for (name, kind), column in zip(columns.items(), values, strict=True)
        ]
    )
