"""What others do with journals: read them while they are written, and remember how far they have come."""

import logging
import sqlite3
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from coin_platform.errors import DeliveryError, RetentionLoss
from coin_platform.journal.file import BUSY_SECONDS, CACHE_KIB, PAGE_BYTES, explain, identity, look_at_head, time_of
from coin_platform.model import Microseconds
from coin_platform.records import Record

logger = logging.getLogger(__name__)
_READ_RECORDS, _READ_BYTES = 5_000, 16 << 20  # one read transaction: a long one would let the write-ahead log grow
T = TypeVar("T")


class Bounds(NamedTuple):
    """What a partition holds: offsets `[begin, end)`, and when its last record was accepted."""

    begin: int
    end: int
    last_time: Microseconds | None


class _Held:
    """A connection that is kept between looks, because opening one costs more than a look; any thread may look."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path, self._connect = path, connect
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inode = 0

    @contextmanager
    def look(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._db is None or self._inode != self._path.stat().st_ino:  # or the file was deleted and made anew
                self._db = self._connect()
                self._inode = self._path.stat().st_ino
            try:
                yield self._db
            except BaseException:
                self._db = None  # whatever it had begun ends with it
                raise


class JournalReader:
    """A reader of one partition, in any process, also while another one writes, and before the first record.

    Any thread may use it. `name` is what its errors call the partition. A file that cannot be read raises
    `DeliveryError`, one line with file and remedy.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or f"journal {path}"
        self._held = _Held(path, self._connect)

    def read(self, start: int, stop: int | None = None) -> Iterator[Record]:
        """Yield the committed records of `[start, stop)`, at most up to the end as it is now.

        Raises `RetentionLoss`, while iterating, when wanted offsets have been trimmed.
        """
        if not self.path.exists():
            return
        end = self.bounds().end
        stop = end if stop is None else min(stop, end)
        while start < stop:
            with self._look() as db:
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

    def bounds(self) -> Bounds:
        """Return the offsets held and the last time, in one look."""
        if not self.path.exists():
            return Bounds(0, 0, None)
        with self._look() as db:
            return _bounds(db)

    def begin_offset(self) -> int:
        """Return the first kept offset; the end offset when nothing is kept."""
        return self.bounds().begin

    def end_offset(self) -> int:
        """Return the offset the next record will take; every one before it is committed."""
        return self.bounds().end

    def identity(self) -> str | None:
        """Return the id of this file; `None` before the first record, and for one that a former version wrote."""
        if not self.path.exists():
            return None
        with self._look() as db:
            return identity(db)

    def size(self) -> int:
        """Return how many bytes of the file hold records; what was trimmed does not count."""
        if not self.path.exists():
            return 0
        with self._look() as db:
            pages, free = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count"))
            return (pages - free) * PAGE_BYTES

    def last_time(self) -> Microseconds | None:
        """Return when the last record was accepted, trimmed or not; `None` before the first one."""
        return self.bounds().last_time

    def offset_for_time(self, time: Microseconds) -> int:
        """Return the first kept offset accepted at `time` or later; the end offset when there is none."""
        if not self.path.exists():
            return 0
        with self._look() as db:
            db.execute("BEGIN")  # one view for all looks: the writer may trim meanwhile
            begin, end, _ = _bounds(db)
            found = begin + bisect_left(range(begin, end), time, key=lambda offset: time_of(db, offset))
            db.execute("COMMIT")
            return found

    def _damage(self, text: str) -> DeliveryError:
        return DeliveryError(explain(self.path, sqlite3.DatabaseError(text)))

    @contextmanager
    def _look(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._held.look() as db:
                yield db
        except (OSError, sqlite3.Error) as error:
            raise DeliveryError(explain(self.path, error)) from error

    def _connect(self) -> sqlite3.Connection:
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")  # by default 2 MiB: a shipper has dozens of readers
        return db


def _bounds(db: sqlite3.Connection) -> Bounds:
    end, last_time = look_at_head(db)
    (begin,) = db.execute("SELECT min(offset) FROM record").fetchone()
    return Bounds(end if begin is None else begin, end, last_time if end else None)


def _chunk(db: sqlite3.Connection, start: int, stop: int) -> list[Record]:
    """Return the first records of a range, as many as may be in memory at once."""
    records: list[Record] = []
    size = 0
    query = "SELECT offset, time, header, value FROM record WHERE offset >= ? AND offset < ? ORDER BY offset"
    with closing(db.execute(query, (start, stop))) as cursor:
        while size < _READ_BYTES and (rows := cursor.fetchmany(250)):
            if not all(map(_is_record, rows)):
                raise sqlite3.DatabaseError(f"a record after offset {start} cannot be read")
            records += map(Record._make, rows)
            size += sum([len(row[3]) for row in rows])
    return records


def _is_record(row: tuple[object, ...]) -> bool:
    _, time, header, value = row
    return type(time) is int and type(header) is str and type(value) is bytes


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch a file that others may open at this moment: SQLite then says locked at once, whatever its patience."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
