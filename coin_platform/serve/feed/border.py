"""Keeps records from coming twice or late where the feed goes over to frames of this machine, and back to the log.

A frame that has not reached Kafka has no offset there. What it became is known by its connection and its number, which
rise within a connection.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

from coin_platform.exchanges import EXCHANGES
from coin_platform.serve.feed.records import GAP, FeedRecord, hole

_INDEX_BITS = 20  # of the index within a frame, in a mark
_MOST_CONNECTIONS = 20_000  # whose newest record is remembered
LATE = "they came after newer ones that this machine had told"

Connection: TypeAlias = tuple[str, str, int, str]  # exchange, type, epoch, name


class Border:
    """What was told of each connection, from the log and from this machine's frames. One thread owns it."""

    def __init__(self) -> None:
        self._newest: dict[Connection, tuple[int, int]] = {}  # the mark of the newest record told, and its offset
        self._local: dict[Connection, array[int]] = {}  # the marks of the records that this machine's frames told
        self._gaps: set[bytes] = set()  # that this machine told
        self._offsets: dict[tuple[str, str], int] = {}  # after the newest raw offset that was told

    def of_log(self, records: Iterable[FeedRecord]) -> list[FeedRecord]:
        """Return the records of the log that are to be told: a record that comes late is a hole instead."""
        told: list[FeedRecord] = []
        late: dict[tuple[str, str], int] = {}
        for record in records:
            place = record.exchange, record.type
            if record.type == GAP and record.text in self._gaps:
                self._gaps.discard(record.text)
                continue
            if record.connection and not record.is_redriven:
                connection, mark = _connection(record), _mark(record)
                if (marks := self._local.get(connection)) is not None:
                    if mark <= marks[-1]:
                        is_told = marks[bisect_left(marks, mark)] == mark
                        late[place] = late.get(place, 0) + (not is_told)
                        continue
                    del self._local[connection]  # the log has passed what this machine told
                if count := late.pop(place, 0):
                    told.append(_late(place, count))
                self._note(record, connection, mark)
            told.append(record)
        if len(self._newest) > _MOST_CONNECTIONS:
            for connection in list(islice(self._newest, _MOST_CONNECTIONS // 2)):
                del self._newest[connection]
        return told + [_late(place, count) for place, count in late.items() if count]

    def of_frames(self, records: Iterable[FeedRecord]) -> list[FeedRecord]:
        """Return the records of this machine's frames that are to be told: those that are new."""
        told: list[FeedRecord] = []
        for record in records:
            if record.type == GAP:
                self._gaps.add(record.text)
            elif record.connection:
                connection, mark = _connection(record), _mark(record)
                newest = self._newest.get(connection)
                if newest is not None and mark <= newest[0]:
                    continue
                self._local.setdefault(connection, array("Q")).append(mark)
                self._note(record, connection, mark)
            told.append(record)
        return told

    def next_offset(self, exchange: str, kind: str) -> int:
        """Return the offset after the newest one that was told of a raw partition."""
        return self._offsets.get((exchange, kind), 0)

    def newest(self, exchange: str, kind: str, epoch: int, connection: str) -> tuple[int, int]:
        """Return the number of the newest frame that was told of a connection, and its offset; 0 and 0 if none was."""
        mark, offset = self._newest.get((exchange, kind, epoch, connection), (0, 0))
        return mark >> _INDEX_BITS, offset

    def _note(self, record: FeedRecord, connection: Connection, mark: int) -> None:
        place, offset = (record.exchange, record.type), record.offset or 0
        self._newest[connection] = mark, offset
        self._offsets[place] = max(self._offsets.get(place, 0), offset + 1)


def _connection(record: FeedRecord) -> Connection:
    return record.exchange, record.type, record.epoch, record.connection


def _mark(record: FeedRecord) -> int:
    return (record.frame << _INDEX_BITS) + (record.number or 0)


def _late(place: tuple[str, str], count: int) -> FeedRecord:
    exchange, kind = place
    return hole(EXCHANGES[exchange], kind, count, LATE)
