"""The file of one partition's journal, in SQLite: its place, its tables, what its failures mean, and its one writer."""

import errno
import logging
import os
import resource
import sqlite3
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import MAX_STEP, SteadyClock

logger = logging.getLogger(__name__)

PAGE_BYTES = 8192
CACHE_KIB = 64  # pages in memory of each open file: it is written at its end, and there are dozens of them
BUSY_SECONDS = 10.0  # SQLite's own patience with another process that holds the file

_WAL_BYTES = 8 << 20  # the write-ahead log is cut back to this after a checkpoint
_SPARE_PAGES = 512  # free pages that stay in the file for the next appends: 4 MiB
_RESERVE = 64 << 20  # bytes of the disk that a careful writer leaves: what makes room needs some itself
_SMALL = 16  # as many small files may share the reserve
_FAR: Microseconds = 3 * 3600 * SECOND  # stamps further ahead than this are from a clock that was wrong
_ANEW_RECORDS = 5_000  # that get another stamp in one small step
_TRIM_RECORDS, _TRIM_BYTES, _VACUUM_PAGES = 10_000, 16 << 20, 1_024  # one small step, so that appends never wait long

# Many rows a statement, not executemany: that takes Python's global lock anew for each row, and beside a busy
# thread each taking costs 5 ms. Few sizes, none large, for each stays prepared and holds the values of its last rows:
# those of 1, 2, 4 ... 128 rows of 2 kB took 0.6 MiB of each journal that had ever had such batches, these 0.2 MiB.
_INSERTS = {size: "INSERT INTO record VALUES " + ",".join(["(?, ?, ?, ?)"] * size) for size in (64, 16, 4, 1)}

# One statement, for each takes the lock again. It also tells what it wrote: two processes may append to one file.
_ADVANCE = (
    "UPDATE head SET next_offset = next_offset + ?, last_time = max(last_time, ?) RETURNING next_offset, last_time"
)
_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE record (offset INTEGER PRIMARY KEY, time INTEGER NOT NULL, header TEXT NOT NULL, value BLOB NOT NULL);
CREATE TABLE head (next_offset INTEGER NOT NULL, last_time INTEGER NOT NULL);
INSERT INTO head VALUES (0, 0);
"""
_IDENTITY = "CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)"  # one row; former versions had no such table

_FULL = "free space on that disk, or let less be kept: COIN_JOURNAL_HOURS, COIN_JOURNAL_BYTES, COIN_SPOOL_BYTES"
_DENIED = "make the file and its folder writable for this user, or choose another COIN_JOURNAL_DIR"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.ENOTDIR: "a file is where a folder should be: choose another COIN_JOURNAL_DIR",
    errno.EEXIST: "a file is where a folder should be: choose another COIN_JOURNAL_DIR",
    errno.EISDIR: "a folder is where a file should be: move it away",
}
_DAMAGED = "the file is damaged: move it away, a new one will be begun"
_FOREIGN = "this is not a journal: move it away, a new one will be begun"
_SQLITE_REMEDIES = {
    sqlite3.SQLITE_ERROR: _FOREIGN,  # a table or a column is missing
    sqlite3.SQLITE_CONSTRAINT: _DAMAGED,
    sqlite3.SQLITE_MISMATCH: _DAMAGED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: f"the disk refused: check its health, quotas and limits; {_FULL}",
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_CANTOPEN: _DENIED,
    sqlite3.SQLITE_BUSY: "end the program that has this file open for writing",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _FOREIGN,
}
_FULL_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)  # the second for quotas and limits of file sizes


def path_of(folder: Path, topic: str, partition: int) -> Path:
    """Return where a partition's journal lives: nothing in a topic's name leads elsewhere, and no two share a file."""
    name = quote(topic, safe="")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    return folder / (name or "%") / f"{partition}.db"  # no other topic becomes "%"


def explain(path: Path, error: Exception) -> str:
    """Return the one line for a writer's failure: the file, what happened, what to do."""
    if path.is_dir():
        return f"journal {path}: {error}; {_REMEDIES[errno.EISDIR]}"
    if isinstance(error, OSError):
        return f"journal {path}: {error.strerror or error}; {_REMEDIES.get(error.errno or 0, 'check the disk')}"
    return (
        f"journal {path}: {error or type(error).__name__}; {_SQLITE_REMEDIES.get(_code(error), 'see the cause above')}"
    )


def is_damaged(error: Exception) -> bool:
    """Whether a failure means that the content of a file is not what was written to it."""
    return _SQLITE_REMEDIES.get(_code(error)) in (_DAMAGED, _FOREIGN)


def _code(error: Exception) -> int:
    """Return SQLite's code; Python's module raises without one where a value cannot be read."""
    default = sqlite3.SQLITE_CORRUPT if isinstance(error, sqlite3.DatabaseError) else sqlite3.SQLITE_OK
    return int(getattr(error, "sqlite_errorcode", default)) & 0xFF  # the upper bits tell kinds of the same error apart


def is_full(error: Exception) -> bool:
    """Whether a failure of a writer means that the disk, a quota or a limit is full."""
    return getattr(error, "sqlite_errorcode", 0) in _FULL_CODES or getattr(error, "errno", 0) == errno.ENOSPC


class File:
    """The SQLite side of a journal, for the one thread that writes it."""

    def __init__(self, path: Path, clock: SteadyClock, *, is_careful: bool = False) -> None:
        if not path.exists():
            _create(path)
        self._path, self._clock, self._is_careful = path, clock, is_careful
        total = _space(path)[1]
        wal_bytes = min(_WAL_BYTES, total // _SMALL)
        self._reserve = min(_RESERVE, total // 8)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
        self._db.execute("PRAGMA synchronous = NORMAL")  # no sync in a commit: `sync` has its own beat
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._db.execute(f"PRAGMA journal_size_limit = {wal_bytes}")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {max(1, wal_bytes // PAGE_BYTES)}")
        next_offset, last_time = look_at_head(self._db)
        self._last = last_time if next_offset else 0, clock.monotonic()  # the newest stamp, and when it was seen
        self._ahead = 0  # µs that it was ahead of our clock, when records came last
        # Since when stamps have gone on without a jump, oldest first: what the clock then passed over is no age.
        self._lines = deque([self._last])
        self._is_told = False  # that records are stamped anew
        self._name()
        self._wal = os.open(f"{path}-wal", os.O_RDONLY)  # made by that first look into the file
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # or a power cut could take the new names
        os.close(folder)

    def append(self, batch: list[tuple[str, bytes]]) -> int:
        """Commit records in one transaction and return the end offset; the clock is read inside it.

        A careful writer raises `OSError` before the disk is full, and nothing is changed then.
        """
        if self._is_careful and not self._has_room(sum(len(header) + len(value) for header, value in batch)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self._transaction():
            end, stamp = self._db.execute(_ADVANCE, (len(batch), self._stamp())).fetchone()
            rows = [(offset, stamp, *record) for offset, record in enumerate(batch, end - len(batch))]
            while rows:
                size = next(size for size in _INSERTS if size <= len(rows))
                self._db.execute(_INSERTS[size], tuple(chain.from_iterable(rows[:size])))
                del rows[:size]
        self._note(int(stamp))
        return int(end)

    def _stamp(self) -> Microseconds:
        """Return the time for records that come now.

        Where the newest record is from a clock that was ahead, time goes on from it at half its speed, so that no later
        window is empty until the clock has come there.
        """
        time, (last, seen) = self._clock(), self._last
        self._ahead = last - time
        return time if self._ahead <= MAX_STEP else last + int((self._clock.monotonic() - seen) * SECOND) // 2

    def _note(self, stamp: Microseconds) -> None:
        """Remember the newest stamp, and the jump that led to it."""
        moment, (last, seen) = self._clock.monotonic(), self._last
        expected = last + int((moment - seen) * SECOND)
        if stamp - expected > MAX_STEP:
            self._lines.append((expected, moment))
        self._last = stamp, moment

    def horizon(self, keep: Microseconds) -> Microseconds:
        """Return the stamp of records that came `keep` µs ago, by the time that has passed since then.

        While records from before a jump are younger than that, the jump does not count.
        """
        time, moment = self._clock(), self._clock.monotonic()
        while self._lines:
            stamp, since = self._lines[0]
            passed = int((moment - since) * SECOND)
            if passed < keep:
                return min(time, stamp + passed) - keep
            self._lines.popleft()
        return time - keep

    @property
    def is_far_ahead(self) -> bool:
        """Whether the newest record is of a time that a settled clock reaches only in hours, or years."""
        return self._ahead > _FAR and self._clock.is_settled

    def stamp_anew(self) -> bool:
        """Give some records from far ahead the time of now; return whether there are more.

        They came while the clock was wrong, and would keep all later records from windows that are to come.
        """
        if not self.is_far_ahead:
            return False
        if not self._is_told:
            text = "journal %s: records from %.1f h ahead of our clock are stamped anew: that clock was wrong"
            logger.error(text, self._path, self._ahead / (3600 * SECOND))
        self._is_told = True
        with self._transaction():
            time, (end, _) = self._clock(), look_at_head(self._db)
            begin = int(self._db.execute("SELECT coalesce(min(offset), ?) FROM record", (end,)).fetchone()[0])
            first = begin + bisect_right(range(begin, end), time, key=lambda offset: time_of(self._db, offset))
            stop = min(first + _ANEW_RECORDS, end)
            self._db.execute("UPDATE record SET time = ? WHERE offset >= ? AND offset < ?", (time, first, stop))
            if stop == end:
                self._db.execute("UPDATE head SET last_time = ?", (time,))
        if stop == end:
            self._last, self._ahead, self._is_told = (time, self._clock.monotonic()), 0, False
        return stop < end

    def sync(self) -> None:
        """Bring what is committed to the disk. Raises `OSError`, also when someone deleted the file meanwhile."""
        if os.fstat(self._wal).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was being written")
        os.fsync(self._wal)

    def trim(self, before: int, horizon: Microseconds, most_bytes: int | None) -> bool:
        """Drop some of the records that are older than an offset or a time, or too much; return whether it did."""
        excess = 0 if most_bytes is None else self._used_bytes() - most_bytes
        freed, stop = 0, None
        query = "SELECT offset, time, length(header) + length(value) FROM record ORDER BY offset LIMIT ?"
        with closing(self._db.execute(query, (_TRIM_RECORDS,))) as oldest:
            for offset, accepted, size in oldest:
                if (offset >= before and accepted >= horizon and freed >= excess) or freed > _TRIM_BYTES:
                    break
                freed, stop = freed + size, offset + 1
        if stop is None:
            return False
        self._db.execute("DELETE FROM record WHERE offset < ?", (stop,))
        return True

    def vacuum(self) -> bool:
        """Give some free pages back to the disk; return whether there are more."""
        if self._pragma("freelist_count") <= _SPARE_PAGES:
            return False
        self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
        if self._pragma("freelist_count") > _SPARE_PAGES:
            return True
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # only this shortens the file
        return False

    def close(self) -> None:
        """Close the file; what is committed stays."""
        os.close(self._wal)
        self._db.close()

    def _name(self) -> None:
        """Give the journal of a former version an identity. On a full disk it gets one when it is opened next."""
        if identity(self._db) is not None:
            return
        try:
            with self._transaction():
                if identity(self._db) is None:
                    _identify(self._db)
        except sqlite3.Error as error:
            if not is_full(error):
                raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk may have rolled back already
                self._db.execute("ROLLBACK")
            raise

    def _has_room(self, size: int) -> bool:
        """Whether the disk keeps its reserve, or the records go where others were, or this file is still small."""
        needed = 2 * size + 4 * PAGE_BYTES  # once in the write-ahead log, once in their place
        if _space(self._path)[0] - needed >= self._reserve:
            return True
        pages, free = self._pragma("page_count"), self._pragma("freelist_count")
        return needed <= free * PAGE_BYTES or pages * PAGE_BYTES + needed <= self._reserve // _SMALL

    def _used_bytes(self) -> int:
        return (self._pragma("page_count") - self._pragma("freelist_count")) * PAGE_BYTES

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])


def look_at_head(db: sqlite3.Connection) -> tuple[int, Microseconds]:
    """Return the offset after the last record, and when that was accepted. Raises `sqlite3.Error`."""
    match db.execute("SELECT next_offset, last_time FROM head").fetchall():
        case [(int(next_offset), int(last_time))]:
            return next_offset, last_time
    raise sqlite3.DatabaseError("its head cannot be read")


def time_of(db: sqlite3.Connection, offset: int) -> Microseconds:
    """Return when a record was accepted. Raises `sqlite3.Error`."""
    match db.execute("SELECT time FROM record WHERE offset = ?", (offset,)).fetchone():
        case (int(time),):
            return time
    raise sqlite3.DatabaseError(f"the record of offset {offset} cannot be read")


def identity(db: sqlite3.Connection) -> str | None:
    """Return the id that a journal was given when it was made; `None` for one of a former version."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'identity'").fetchone() is None:
        return None
    row = db.execute("SELECT id FROM identity").fetchone()
    return None if row is None else str(row[0])


def _identify(db: sqlite3.Connection) -> None:
    db.execute(_IDENTITY)
    db.execute("INSERT INTO identity VALUES (?)", (uuid.uuid4().hex,))


def _create(path: Path) -> None:
    """Make an empty journal beside its place, then move it there: readers never see half of one."""
    for stale in path.parent.glob(f"{path.name}.new*"):
        stale.unlink()
    fresh = path.with_name(f"{path.name}.new")
    with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # must precede the first table
        db.executescript(_SCHEMA)
        _identify(db)
    fresh.replace(path)


def _space(path: Path) -> tuple[int, int]:
    """Return the bytes that a file may still grow by, and how large it could be on an empty disk."""
    disk = os.statvfs(path.parent)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return (
        (free, total)
        if limit == resource.RLIM_INFINITY
        else (min(free, limit - path.stat().st_size), min(total, limit))
    )
