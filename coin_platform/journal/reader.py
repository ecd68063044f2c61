"""Reads one partition's journal, in any process, also while another process writes it."""

import logging
import sqlite3
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from coin_platform.errors import DeliveryError, RetentionLoss
from coin_platform.journal.failures import explain
from coin_platform.journal.file import BUSY_SECONDS, CACHE_KIB, PAGE_BYTES, identity, read_head, time_of
from coin_platform.model import Microseconds
from coin_platform.records import Record

logger = logging.getLogger(__name__)
# One read transaction takes at most this much: the write-ahead log cannot be cut back while a transaction is open.
_READ_RECORDS = 5_000
_READ_BYTES = 16 << 20
_FETCH_ROWS = 250
_WAL_RETRY_SECONDS = 0.01


class OffsetBounds(NamedTuple):
    """The offsets `[begin, end)` that a partition holds, and the stamp of its last record."""

    begin: int
    end: int
    last_time: Microseconds | None


class KeptConnection:
    """A connection to a file that is kept open between queries, because opening costs more than a query.

    Any thread may use it. A file that was deleted and made anew is opened again.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path, self._connect = path, connect
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inode = 0

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread at a time. After an error it is opened anew."""
        with self._lock:
            if self._db is None or self._inode != self._path.stat().st_ino:
                self._db = self._connect()
                self._inode = self._path.stat().st_ino
            try:
                yield self._db
            except BaseException:
                self._db = None  # a transaction that was begun ends with it
                raise


class JournalReader:
    """A reader of one partition. The partition may be empty, and another process may write it.

    Any thread may use a reader. Its errors call the partition `name`. Each method raises `DeliveryError`, one line with
    file and remedy, if the file cannot be read.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or f"journal {path}"
        self._connection = KeptConnection(path, self._connect)

    def read(self, start: int, stop: int | None = None) -> Iterator[Record]:
        """Yield the committed records of `[start, stop)`, at most up to the end as it is now.

        Raises `RetentionLoss`, while iterating, if offsets of the range have been trimmed.
        """
        if not self.path.exists():
            return
        end = self.bounds().end
        stop = end if stop is None else min(stop, end)
        while start < stop:
            with self._query() as db:
                records = _chunk(db, start, min(stop, start + _READ_RECORDS))
            if not records or records[0].offset != start:
                begin = self.bounds().begin
                if begin <= start:
                    raise self._damage(f"offset {start} is missing")
                raise RetentionLoss(
                    f"{self.name}: offset {start} was trimmed, the first kept one is {begin}; "
                    "go on from there, and keep more: COIN_JOURNAL_HOURS, COIN_JOURNAL_BYTES"
                )
            if records[-1].offset != start + len(records) - 1:
                raise self._damage(f"offsets are missing after {start}")
            start = records[-1].offset + 1
            yield from records

    def bounds(self) -> OffsetBounds:
        """Return the offsets that are held and the last stamp, in one query."""
        if not self.path.exists():
            return OffsetBounds(0, 0, None)
        with self._query() as db:
            return _bounds(db)

    def begin_offset(self) -> int:
        """Return the first kept offset; the end offset when nothing is kept."""
        return self.bounds().begin

    def end_offset(self) -> int:
        """Return the offset that the next record will get; all records before it are committed."""
        return self.bounds().end

    def identity(self) -> str | None:
        """Return the id of this file; `None` before the first record, and for one that a former version wrote."""
        if not self.path.exists():
            return None
        with self._query() as db:
            return identity(db)

    def size(self) -> int:
        """Return how many bytes of the file hold records. Trimmed records do not count."""
        if not self.path.exists():
            return 0
        with self._query() as db:
            pages, free = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count"))
            return (pages - free) * PAGE_BYTES

    def last_time(self) -> Microseconds | None:
        """Return the stamp of the last record, trimmed or not; `None` before the first record."""
        return self.bounds().last_time

    def offset_for_time(self, time: Microseconds) -> int:
        """Return the first kept offset accepted at `time` or later; the end offset when there is none."""
        if not self.path.exists():
            return 0
        with self._query() as db:
            db.execute("BEGIN")  # one view for all queries: the writer may trim meanwhile
            begin, end, _ = _bounds(db)
            first = begin + bisect_left(range(begin, end), time, key=lambda offset: time_of(db, offset))
            db.execute("COMMIT")
            return first

    def _damage(self, text: str) -> DeliveryError:
        return DeliveryError(explain(self.path, sqlite3.DatabaseError(text)))

    @contextmanager
    def _query(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connection.use() as db:
                yield db
        except (OSError, sqlite3.Error) as error:
            raise DeliveryError(explain(self.path, error)) from error

    def _connect(self) -> sqlite3.Connection:
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")  # by default 2 MiB; a shipper has dozens of readers
        return db


def _bounds(db: sqlite3.Connection) -> OffsetBounds:
    end, last_time = read_head(db)
    (begin,) = db.execute("SELECT min(offset) FROM record").fetchone()
    return OffsetBounds(end if begin is None else begin, end, last_time if end else None)


def _chunk(db: sqlite3.Connection, start: int, stop: int) -> list[Record]:
    """Return the first records of a range, as many as one transaction may read."""
    records: list[Record] = []
    size = 0
    query = "SELECT offset, time, header, value FROM record WHERE offset >= ? AND offset < ? ORDER BY offset"
    with closing(db.execute(query, (start, stop))) as cursor:
        while size < _READ_BYTES and (rows := cursor.fetchmany(_FETCH_ROWS)):
            if not all(map(_is_record, rows)):
                raise sqlite3.DatabaseError(f"a record after offset {start} cannot be read")
            records += map(Record._make, rows)
            size += sum([len(row[3]) for row in rows])
    return records


def _is_record(row: tuple[object, ...]) -> bool:
    _, time, header, value = row
    return type(time) is int and type(header) is str and type(value) is bytes


def use_wal(db: sqlite3.Connection) -> None:
    """Switch a file to a write-ahead log, although other processes may open it at this moment.

    SQLite does not wait for them here: it says at once that the file is locked. So this tries again.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_SECONDS)
