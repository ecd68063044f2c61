"""Finds the stored frames that have neither a row of their own nor a reason for that.

The only reasons are: another frame brought the same, the message is older than its book, or a gap covers it.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, BookUpdate, Candle, Channel, Event, Gap, Microseconds, Ticker, Trade
from coin_platform.records import Header, Record, frame, unpack
from tests.kit.history import Identity, Row
from tests.kit.stored_history import rows_from

TOLERANCE: Microseconds = SECOND


class Accounts:
    """Sorts the frames of one source.

    1. `rows` are the rows of the table, and one more for each frame with a reason to have none.
    2. `unexplained` has a line for each other frame.
    """

    def __init__(self, source: Source, records: Iterable[Record], table: pl.DataFrame, gaps: Sequence[Gap]) -> None:
        self.rows = list(rows_from(source.exchange.name, table))
        self.unexplained: list[str] = []
        self._source, self._gaps = source, gaps
        self._with_rows = {row.identity for row in self.rows}
        self._trades = set(table.select("pair", "id").iter_rows()) if source.channel is Channel.TRADE else set()
        time = pl.col("exchange_time").to_physical()
        alike = table.select("pair", time, "price", "size") if source.channel is Channel.TRADE else pl.DataFrame()
        self._alike = set(alike.iter_rows()) if source.exchange.has_ids_by_transport else set()
        opened = pl.col("open_time").to_physical()
        self._minutes = set(table.select("pair", opened).iter_rows()) if source.channel is Channel.CANDLE else set()
        self._sequences = _sequences(source, table)
        self._books = _books(self._sequences)
        self._reached: dict[tuple[str, str], int] = {}  # sequence of the last row, by connection and pair
        self._begun: set[str] = set()  # pairs that have had a row
        self._bytes: set[bytes] = set()  # of frames with rows
        records = list(records)
        if source.channel is Channel.ORDERBOOK:  # a connection without a book has no row of it, another has
            self._bytes = {
                record.value for record in records if self._identity(unpack(record.header)) in self._with_rows
            }
        self._go_through(records)

    def _identity(self, header: Header) -> Identity:
        return (self._source.exchange.name, header.epoch, header.connection, header.number)

    def _go_through(self, records: Iterable[Record]) -> None:
        seen: set[Identity] = set()
        for record in records:
            header = unpack(record.header)
            identity = self._identity(header)
            if not header.kind.is_frame or identity in seen:
                continue
            seen.add(identity)
            if identity in self._with_rows:
                self._note(record, header, identity)
            elif reasons := list(self._unexplained(record, header)):
                self.unexplained.append(
                    f"{self._source.channel} offset {record.offset}: {reasons[0]} of {record.header}"
                )
            else:
                self.rows.append(Row(identity))

    def _note(self, record: Record, header: Header, identity: Identity) -> None:
        self._bytes.add(record.value)
        for pair, sequence in self._sequences.get(identity, ()):
            self._begun.add(pair)
            if sequence is not None:
                self._reached[header.connection, pair] = sequence

    def _unexplained(self, record: Record, header: Header) -> Iterator[str]:
        """Yield the pairs of the events that should be in the table, but are not."""
        if record.value in self._bytes:
            return  # another connection brought the same bytes
        message = frame(self._source.exchange.name, self._source.channel, header, record.value)
        for event in self._source.exchange.decode(message):
            pair = str(getattr(event, "pair", ""))
            if not self._is_stored_elsewhere(event, pair, header) and not self._is_in_gap(pair, header.received_time):
                yield pair

    def _is_stored_elsewhere(self, event: Event, pair: str, header: Header) -> bool:
        match event:
            case Trade():
                is_alike = (pair, event.exchange_time, event.price, event.size) in self._alike
                return is_alike or (event.id is not None and (pair, event.id) in self._trades)
            case Candle():
                return (pair, event.open_time) in self._minutes
            case BookUpdate():
                last = self._reached.get((header.connection, pair))
                is_old = last is not None and event.last_sequence is not None and event.last_sequence <= last
                is_new = pair not in self._begun  # before its first book a pair cannot lack a row
                return is_old or is_new or self._is_book_of_another(event, pair)
        return not isinstance(event, Ticker)  # all other events make no row

    def _is_book_of_another(self, event: BookUpdate, pair: str) -> bool:
        """Return whether another connection brought this book. A whole book may lie between two with rows."""
        books = self._books.get(pair, [])
        at = bisect_left(books, event.last_sequence or 0)
        is_exact = books[at : at + 1] == [event.last_sequence]
        return is_exact or (event.is_snapshot and event.last_sequence is not None and 0 < at < len(books))

    def _is_in_gap(self, pair: str, time: Microseconds) -> bool:
        return any(
            (gap.pair is None or str(gap.pair) == pair)
            and gap.start - TOLERANCE <= time
            and (gap.stop is None or time <= gap.stop + TOLERANCE)
            for gap in self._gaps
        )


def _books(sequences: dict[Identity, list[tuple[str, int | None]]]) -> dict[str, list[int]]:
    """Return the sequences of each pair's rows, in order."""
    sequences_of_pair: defaultdict[str, set[int]] = defaultdict(set)
    for books in sequences.values():
        for pair, sequence in books:
            sequences_of_pair[pair] |= {sequence} if sequence is not None else set()
    return {pair: sorted(numbers) for pair, numbers in sequences_of_pair.items()}


def _sequences(source: Source, table: pl.DataFrame) -> dict[Identity, list[tuple[str, int | None]]]:
    """Return pair and sequence of the books in each frame's rows."""
    books: defaultdict[Identity, list[tuple[str, int | None]]] = defaultdict(list)
    if source.channel is Channel.ORDERBOOK:
        columns = table.select("epoch", "connection", "number", "pair", "sequence")
        for epoch, connection, number, pair, sequence in columns.iter_rows():
            books[source.exchange.name, epoch, connection, number].append((pair, sequence))
    return books
