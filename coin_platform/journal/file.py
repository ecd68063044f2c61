"""The SQLite file of one partition: where it lives, its tables, and the transactions of its writer."""

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

from coin_platform.journal.failures import is_full
from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import MAX_STEP, SteadyClock

logger = logging.getLogger(__name__)

PAGE_BYTES = 8192
CACHE_KIB = 64  # of pages in memory, for each open file; small, for a process has dozens of files open
BUSY_SECONDS = 10.0  # that SQLite waits for another process that holds the file

_WAL_BYTES = 8 << 20  # the write-ahead log is cut back to this after a checkpoint
_SPARE_PAGES = 512  # free pages that stay in the file for the next appends: 4 MiB
_RESERVE_BYTES = 64 << 20  # of the disk that a careful writer leaves free: trimming needs some room itself
_RESERVE_SHARES = 16  # a file below this share of the reserve may still grow into it
_FAR_AHEAD: Microseconds = 3 * 3600 * SECOND  # a stamp further ahead than this came from a clock that was wrong
# Trimming goes in small steps, so that appends never wait long. One step takes at most:
_RESTAMP_RECORDS = 5_000
_TRIM_RECORDS = 10_000
_TRIM_BYTES = 16 << 20
_VACUUM_PAGES = 1_024

# One statement inserts many rows. `executemany` would take Python's global lock for each row, and beside a busy thread
# each taking costs 5 ms. There are few sizes and none is large: each statement stays prepared and holds the values of
# its last rows. Statements of 1, 2, 4 ... 128 rows of 2 kB took 0.6 MiB a journal; these take 0.2 MiB.
_INSERTS = {size: "INSERT INTO record VALUES " + ",".join(["(?, ?, ?, ?)"] * size) for size in (64, 16, 4, 1)}

# One statement, because each one takes the lock again. It returns what it wrote: a second process may append, too.
_ADVANCE = (
    "UPDATE head SET next_offset = next_offset + ?, last_time = max(last_time, ?) RETURNING next_offset, last_time"
)
_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE record (offset INTEGER PRIMARY KEY, time INTEGER NOT NULL, header TEXT NOT NULL, value BLOB NOT NULL);
CREATE TABLE head (next_offset INTEGER NOT NULL, last_time INTEGER NOT NULL);
INSERT INTO head VALUES (0, 0);
"""
_IDENTITY_TABLE = "CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)"  # one row; former versions had none


def path_of(folder: Path, topic: str, partition: int) -> Path:
    """Return the path of a partition's journal.

    The topic's name is quoted: it cannot lead out of the folder, and no two topics share a file.
    """
    name = quote(topic, safe="")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    return folder / (name or "%") / f"{partition}.db"  # no other topic becomes "%"


class JournalFile:
    """The SQLite file of a journal, for the one thread that writes it."""

    def __init__(self, path: Path, clock: SteadyClock, *, is_careful: bool = False) -> None:
        """Open the file, or create it. A careful writer leaves a reserve of the disk free."""
        if not path.exists():
            _create(path)
        self._path, self._clock, self._is_careful = path, clock, is_careful
        total = _space(path)[1]
        wal_bytes = min(_WAL_BYTES, total // _RESERVE_SHARES)
        self._reserve = min(_RESERVE_BYTES, total // 8)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
        self._db.execute("PRAGMA synchronous = NORMAL")  # a commit does not sync: the caller of `sync` decides when
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._db.execute(f"PRAGMA journal_size_limit = {wal_bytes}")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {max(1, wal_bytes // PAGE_BYTES)}")
        next_offset, last_time = read_head(self._db)
        self._last = last_time if next_offset else 0, clock.monotonic()  # the newest stamp, and when it was seen
        self._ahead = 0  # µs by which the newest stamp was ahead of our clock at the last append
        # Stamps and moments at which the clock began to run without a jump, oldest first. A jump makes no record older.
        self._steady_starts = deque([self._last])
        self._is_restamping = False
        self._give_identity()
        self._wal = os.open(f"{path}-wal", os.O_RDONLY)  # SQLite made it at the first query above
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # a power cut could otherwise take the new file names
        os.close(folder)

    def append(self, batch: list[tuple[str, bytes]]) -> int:
        """Commit records in one transaction and return the end offset. The clock is read inside the transaction.

        A careful writer raises `OSError` before the disk is full. The file is unchanged then.
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
        """Return the stamp for records that come now.

        If the newest stamp is from a clock that was ahead, stamps go on from there at half the speed of time. So no
        window stays empty while the clock catches up.
        """
        time, (last, seen) = self._clock(), self._last
        self._ahead = last - time
        return time if self._ahead <= MAX_STEP else last + int((self._clock.monotonic() - seen) * SECOND) // 2

    def _note(self, stamp: Microseconds) -> None:
        """Remember the newest stamp, and the jump of the clock before it, if there was one."""
        moment, (last, seen) = self._clock.monotonic(), self._last
        expected = last + int((moment - seen) * SECOND)
        if stamp - expected > MAX_STEP:
            self._steady_starts.append((expected, moment))
        self._last = stamp, moment

    def horizon(self, keep: Microseconds) -> Microseconds:
        """Return the stamp of records that came `keep` µs ago, measured by the time that has really passed.

        A jump of the clock does not count while records from before it are younger than `keep`.
        """
        time, moment = self._clock(), self._clock.monotonic()
        while self._steady_starts:
            stamp, since = self._steady_starts[0]
            passed = int((moment - since) * SECOND)
            if passed < keep:
                return min(time, stamp + passed) - keep
            self._steady_starts.popleft()
        return time - keep

    @property
    def is_far_ahead(self) -> bool:
        """Whether a settled clock will reach the newest stamp only in hours, or years."""
        return self._ahead > _FAR_AHEAD and self._clock.is_settled

    def stamp_anew(self) -> bool:
        """Stamp some records from far ahead with the time of now; return whether there are more.

        They came while the clock was wrong. Later records would get stamps as high, and miss the windows to come.
        """
        if not self.is_far_ahead:
            return False
        if not self._is_restamping:
            text = "journal %s: records from %.1f h ahead of our clock are stamped anew: that clock was wrong"
            logger.error(text, self._path, self._ahead / (3600 * SECOND))
        self._is_restamping = True
        with self._transaction():
            time, (end, _) = self._clock(), read_head(self._db)
            begin = int(self._db.execute("SELECT coalesce(min(offset), ?) FROM record", (end,)).fetchone()[0])
            first = begin + bisect_right(range(begin, end), time, key=lambda offset: time_of(self._db, offset))
            stop = min(first + _RESTAMP_RECORDS, end)
            self._db.execute("UPDATE record SET time = ? WHERE offset >= ? AND offset < ?", (time, first, stop))
            if stop == end:
                self._db.execute("UPDATE head SET last_time = ?", (time,))
        if stop == end:
            self._last, self._ahead, self._is_restamping = (time, self._clock.monotonic()), 0, False
        return stop < end

    def sync(self) -> None:
        """Bring committed records to the disk. Raises `OSError`, also if somebody has deleted the file."""
        if os.fstat(self._wal).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was being written")
        os.fsync(self._wal)

    def trim(self, before: int, horizon: Microseconds, most_bytes: int | None) -> bool:
        """Delete some of the records before an offset or a time, or beyond `most_bytes`; return whether any went."""
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
        """Give some free pages back to the disk; return whether more remain."""
        if self._pragma("freelist_count") <= _SPARE_PAGES:
            return False
        self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
        if self._pragma("freelist_count") > _SPARE_PAGES:
            return True
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # only a checkpoint shortens the file
        return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._wal)
        self._db.close()

    def _give_identity(self) -> None:
        """Give a journal of a former version an identity. On a full disk this is left to the next opening."""
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
            if self._db.in_transaction:  # SQLite may have rolled back on a full disk
                self._db.execute("ROLLBACK")
            raise

    def _has_room(self, size: int) -> bool:
        """Whether records fit: into the disk without its reserve, into free pages, or because the file is small."""
        needed = 2 * size + 4 * PAGE_BYTES  # once in the write-ahead log, once in the file
        if _space(self._path)[0] - needed >= self._reserve:
            return True
        pages, free = self._pragma("page_count"), self._pragma("freelist_count")
        return needed <= free * PAGE_BYTES or pages * PAGE_BYTES + needed <= self._reserve // _RESERVE_SHARES

    def _used_bytes(self) -> int:
        return (self._pragma("page_count") - self._pragma("freelist_count")) * PAGE_BYTES

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])


def read_head(db: sqlite3.Connection) -> tuple[int, Microseconds]:
    """Return the offset after the last record, and the stamp of that record. Raises `sqlite3.Error`."""
    match db.execute("SELECT next_offset, last_time FROM head").fetchall():
        case [(int(next_offset), int(last_time))]:
            return next_offset, last_time
    raise sqlite3.DatabaseError("its head cannot be read")


def time_of(db: sqlite3.Connection, offset: int) -> Microseconds:
    """Return the stamp of a record. Raises `sqlite3.Error`."""
    match db.execute("SELECT time FROM record WHERE offset = ?", (offset,)).fetchone():
        case (int(time),):
            return time
    raise sqlite3.DatabaseError(f"the record of offset {offset} cannot be read")


def identity(db: sqlite3.Connection) -> str | None:
    """Return the id that a journal got when it was created; `None` for one of a former version."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'identity'").fetchone() is None:
        return None
    row = db.execute("SELECT id FROM identity").fetchone()
    return None if row is None else str(row[0])


def _identify(db: sqlite3.Connection) -> None:
    db.execute(_IDENTITY_TABLE)
    db.execute("INSERT INTO identity VALUES (?)", (uuid.uuid4().hex,))


def _create(path: Path) -> None:
    """Create an empty journal under another name, then move it into place: no reader sees an unfinished file."""
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
    """Return by how many bytes a file may still grow, and how large it could be on an empty disk."""
    disk = os.statvfs(path.parent)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return (
        (free, total)
        if limit == resource.RLIM_INFINITY
        else (min(free, limit - path.stat().st_size), min(total, limit))
    )
