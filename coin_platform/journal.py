"""A durable local log in SQLite: append, read a range, offsets for a time, trim.

One file holds one topic-partition. One process writes it, held by a lock file that names its pid, and one guest that
is to take over; any number of processes read it meanwhile. Offsets are 0, 1, 2 ... without holes and are never used
twice, whatever is trimmed.
"""

import errno
import fcntl
import os
import resource
import socket
import sqlite3
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from coin_platform.errors import DeliveryError, PartitionBusy, RetentionLoss
from coin_platform.model import SECOND, Microseconds
from coin_platform.wire import Record

BUFFER_BYTES = 64 << 20
_WRITER, _GUEST = "lock", "next"  # the lock files: of who writes, and of who will after it
_CACHE_KIB = 256  # pages in memory of each open file: it is written at its end, and there are dozens of them
_BUSY_SECONDS = 10.0  # SQLite's own patience with another process that holds the file

_PAGE_BYTES = 8192
_WAL_BYTES = 8 << 20  # the write-ahead log is cut back to this after a checkpoint
_SPARE_PAGES = 512  # free pages that stay in the file for the next appends: 4 MiB
_RESERVE = 64 << 20  # bytes of the disk that a careful writer leaves: what makes room needs some itself
_SMALL = 16  # as many small files may share the reserve
_HELD_BYTES = 8 << 20  # that wait in memory for a full disk, at most
_PAUSE = 0.001  # seconds between two looks at what another process is just doing
_AGAIN = 0.25  # seconds between two looks whether a full disk has room

_EARLY = 1_000  # so many waiting records are committed before the 20 ms are over
_BATCH = 4_096  # records of one transaction, at most
_TRIM_RECORDS, _TRIM_BYTES, _VACUUM_PAGES = 10_000, 16 << 20, 1_024  # one small step, so that appends never wait long
_READ_RECORDS, _READ_BYTES = 5_000, 16 << 20  # one read transaction: a long one would let the write-ahead log grow

# Many rows a statement, not executemany: that takes Python's global lock anew for each row, and beside a busy
# thread each taking costs 5 ms. Powers of two, so that the few statements stay prepared.
_INSERTS = {
    size: "INSERT INTO record VALUES " + ",".join(["(?, ?, ?, ?)"] * size) for size in (1 << n for n in range(11))
}
_LARGEST_INSERT = max(_INSERTS)

_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE record (offset INTEGER PRIMARY KEY, time INTEGER NOT NULL, header TEXT NOT NULL, value BLOB NOT NULL);
CREATE TABLE head (next_offset INTEGER NOT NULL, last_time INTEGER NOT NULL);
INSERT INTO head VALUES (0, 0);
"""

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
}
_SQLITE_REMEDIES = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: f"the disk refused: check its health, quotas and limits; {_FULL}",
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_CANTOPEN: _DENIED,
    sqlite3.SQLITE_BUSY: "end the program that has this file open for writing",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: move it away, a new one will be begun",
    sqlite3.SQLITE_NOTADB: "this is not a journal: move it away, a new one will be begun",
}


_FULL_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)  # the second for quotas and limits of file sizes


def now() -> Microseconds:
    """Return the time of day, UTC, in µs."""
    return time.time_ns() // 1_000


def path_of(folder: Path, topic: str, partition: int) -> Path:
    """Return where a partition's journal lives: nothing in a topic's name leads elsewhere, and no two share a file."""
    name = quote(topic, safe="")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    return folder / (name or "%") / f"{partition}.db"  # no other topic becomes "%"


def explain(path: Path, error: Exception) -> str:
    """Return the one line for a writer's failure: the file, what happened, what to do."""
    if isinstance(error, OSError):
        return f"journal {path}: {error.strerror or error}; {_REMEDIES.get(error.errno or 0, 'check the disk')}"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the upper bits tell kinds of the same error apart
    return f"journal {path}: {error or type(error).__name__}; {_SQLITE_REMEDIES.get(code, 'see the cause above')}"


def _hold(path: Path, role: str = _WRITER) -> int:
    """Take one of the partition's lock files and write who we are; the system frees it when the process ends."""
    lock = path.with_name(f"{path.name}.{role}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DeliveryError(explain(path, error)) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        pid, host = _holder(path, role)
        does = "is being written" if role == _WRITER else "is about to be taken over"
        who = f"process {pid}" if host == socket.gethostname() else f"process {pid} of {host}"
        raise PartitionBusy(f"journal {path} {does} by {who}: end that one first") from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
    return file


def _holder(path: Path, role: str) -> tuple[int, str]:
    """Return the process and the host that hold one of the partition's lock files, which somebody does."""
    lock = path.with_name(f"{path.name}.{role}")
    while not (text := lock.read_text()).endswith("\n"):
        time.sleep(_PAUSE)  # it is just being written
    pid, *host = text.split()
    return int(pid), host[0] if host else socket.gethostname()  # former versions wrote the process only


def _create(path: Path) -> None:
    """Make an empty journal beside its place, then move it there: readers never see half of one."""
    for stale in path.parent.glob(f"{path.name}.new*"):
        stale.unlink()
    fresh = path.with_name(f"{path.name}.new")
    with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # must precede the first table
        db.executescript(_SCHEMA)
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


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) in _FULL_CODES or getattr(error, "errno", 0) == errno.ENOSPC


class _File:
    """The SQLite side of a journal, for the one thread that writes it."""

    def __init__(self, path: Path, clock: Callable[[], Microseconds], *, is_careful: bool = False) -> None:
        if not path.exists():
            _create(path)
        self._path, self._clock, self._is_careful = path, clock, is_careful
        total = _space(path)[1]
        wal_bytes = min(_WAL_BYTES, total // _SMALL)
        self._reserve = min(_RESERVE, total // 8)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
        self._db.execute("PRAGMA synchronous = NORMAL")  # no sync in a commit: `sync` has its own beat
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute(f"PRAGMA journal_size_limit = {wal_bytes}")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {max(1, wal_bytes // _PAGE_BYTES)}")
        self._db.execute("SELECT next_offset FROM head").fetchone()
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
            head: tuple[int, Microseconds] = self._db.execute("SELECT next_offset, last_time FROM head").fetchone()
            moment = max(head[1], self._clock())
            rows = [(offset, moment, *record) for offset, record in enumerate(batch, head[0])]
            end = head[0] + len(rows)
            while rows:
                size = min(_LARGEST_INSERT, 1 << (len(rows).bit_length() - 1))
                self._db.execute(_INSERTS[size], tuple(chain.from_iterable(rows[:size])))
                del rows[:size]
            self._db.execute("UPDATE head SET next_offset = ?, last_time = ?", (end, moment))
        return end

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
        os.close(self._wal)
        self._db.close()

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
        needed = 2 * size + 4 * _PAGE_BYTES  # once in the write-ahead log, once in their place
        if _space(self._path)[0] - needed >= self._reserve:
            return True
        pages, free = self._pragma("page_count"), self._pragma("freelist_count")
        return needed <= free * _PAGE_BYTES or pages * _PAGE_BYTES + needed <= self._reserve // _SMALL

    def _used_bytes(self) -> int:
        return (self._pragma("page_count") - self._pragma("freelist_count")) * _PAGE_BYTES

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])


class Journal:
    """The writer of one partition: `append` puts into memory, a thread commits and syncs.

    A commit follows the first waiting record by at most `commit_every` seconds, a sync to the disk by `sync_every`:
    `kill -9` costs the first, a power cut the second. Records older than `retention_hours`, and the oldest beyond
    `retention_bytes` of this file (a number, or a function that is asked every `retain_every` seconds), are trimmed.
    `on_append` is called on the writer's thread with the new end offset after each commit.

    A failure to write ends the writer; every later call raises `DeliveryError`, one line with file and remedy. With
    `on_drop` a full disk is none: the writer holds what it cannot write in memory, tries again, and if that becomes
    too much hands the oldest to `on_drop`; whoever can make room by `trim` looks at `needs_room`.

    A `guest` appends beside the process that writes this partition, and trims nothing; it becomes the writer when that
    one has ended, as soon as `host` is asked. Raises `PartitionBusy` if another process writes this partition, or is
    its guest.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], Microseconds] = now,
        commit_every: float = 0.02,
        sync_every: float = 0.2,
        retention_hours: float | None = None,
        retention_bytes: int | Callable[[], int] | None = None,
        retain_every: float = 5.0,
        buffer_bytes: int = BUFFER_BYTES,
        on_append: Callable[[int], None] | None = None,
        on_drop: Callable[[list[tuple[str, bytes]]], None] | None = None,
        guest: bool = False,
    ) -> None:
        self.path = path
        self._clock = clock
        self._commit_every = commit_every
        self._sync_every = sync_every
        self._retention_hours = retention_hours
        self._retention_bytes = retention_bytes
        self._retain_every = retain_every
        self._buffer_bytes = buffer_bytes
        self._on_append = on_append
        self._on_drop = on_drop
        self._changed = threading.Condition()  # guards all that follows
        self._buffer: list[tuple[str, bytes]] = []
        self._unwritten_bytes = 0  # of the buffer and of what is being committed
        # counts of records since this writer began
        self._appended = self._taken = self._written = self._synced = self._flush_to = 0
        self._has_written = False  # all that it ever will
        self._trim_to: int | None = None
        self._closing = False
        self._failure: Exception | None = None
        self._held: Exception | None = None  # why what waits is not written
        self._is_trimming = False
        self._is_stuck = False  # even trimming found no room
        self._seat: int | None = None  # the lock file of a guest
        self._lock: int | None = None  # of the writer
        try:
            self._lock = _hold(path)
        except PartitionBusy:
            if not guest:
                raise
            self._seat = _hold(path, _GUEST)
            try:
                self.host()
            except PartitionBusy:
                os.close(self._seat)
                raise
        self._thread = threading.Thread(target=self._run, name=f"journal {path}", daemon=True)
        self._thread.start()

    def append(self, header: str, value: bytes) -> None:
        """Take one record; any thread may call this, and it never waits for the disk.

        Raises `DeliveryError` after a failure of the writer, and when more than `buffer_bytes` wait for the disk:
        who can append faster than a disk writes calls `flush` now and then.
        """
        with self._changed:
            self._check()
            if self._held and self._unwritten_bytes > min(_HELD_BYTES, self._buffer_bytes):
                self._drop(1 + len(self._buffer) // 8)
            elif self._unwritten_bytes > self._buffer_bytes:
                raise DeliveryError(
                    f"journal {self.path}: {self._unwritten_bytes:,} bytes wait for the disk, it does not keep up; "
                    "use a faster one, or flush between large appends"
                )
            self._buffer.append((header, value))
            self._unwritten_bytes += len(header) + len(value)
            self._appended += 1
            if len(self._buffer) in (1, _EARLY):
                self._changed.notify_all()

    def host(self) -> int | None:
        """Return the process whose guest we are; `None` once this partition is ours, which it becomes here.

        Raises `PartitionBusy` if that process is not of this machine (containers may share a folder).
        """
        with self._changed:
            if self._seat is None:
                return None
            try:
                self._lock = _hold(self.path)
            except PartitionBusy:
                pid, host = _holder(self.path, _WRITER)
                if host != socket.gethostname():
                    raise
                return pid
            os.close(self._seat)
            self._seat = None
            return None

    @property
    def has_guest(self) -> bool:
        """Whether a process appends beside us, that will write this partition when we have ended."""
        try:
            os.close(_hold(self.path, _GUEST))
        except PartitionBusy:
            return True
        return False

    @property
    def needs_room(self) -> Exception | None:
        """Why records wait in memory, once all has been trimmed that should be; `None` while they can be written."""
        with self._changed:
            return None if self._is_trimming or self._trim_to is not None else self._held

    def flush(self) -> None:
        """Return when everything appended so far is committed and synced. Raises `DeliveryError` if it cannot be."""
        with self._changed:
            self._check()
            wanted = self._flush_to = self._appended
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._synced >= wanted or self._failure or self._held)
            if self._synced < wanted:
                self._check()
                assert self._held is not None
                raise DeliveryError(explain(self.path, self._held)) from self._held

    def trim(self, before: int) -> None:
        """Drop the records before an offset; the writer's thread does it soon, in small steps."""
        with self._changed:
            self._check()
            self._trim_to = max(self._trim_to or 0, before)
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits and free the partition. Raises `DeliveryError` if something could not be written."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            locks = [lock for lock in (self._lock, self._seat) if lock is not None]
            if not locks:
                return
            for lock in locks:
                os.close(lock)
            self._lock = self._seat = None
            if self._failure:
                self._check()

    def _check(self) -> None:
        if self._failure:
            raise DeliveryError(explain(self.path, self._failure)) from self._failure
        if self._closing:
            raise DeliveryError(f"journal {self.path} is closed: open it again to append")

    # What follows runs on the writer's thread.

    def _run(self) -> None:
        try:
            while self.host() is not None and not self.path.exists():
                time.sleep(_PAUSE)  # the writer is about to make it
            with closing(_File(self.path, self._clock, is_careful=self._on_drop is not None)) as file:
                syncing = threading.Thread(target=self._sync, args=(file,), name=f"sync {self.path}", daemon=True)
                syncing.start()
                try:
                    self._write(file)
                finally:
                    with self._changed:
                        self._has_written = True
                        self._changed.notify_all()
                    syncing.join()
            with self._changed:
                self._failure = self._failure or self._held
                if self._on_drop is not None:
                    self._drop(len(self._buffer))
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End: whatever it was, the next append, flush or close raises it."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def _sync(self, file: _File) -> None:
        """Sync what is committed, on a thread of its own: on a busy disk that takes long, and commits do not wait."""
        synced_time = time.monotonic()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._written > self._synced or self._has_written)
                    if self._written == self._synced:
                        return
                    patience = synced_time + self._sync_every - time.monotonic()
                    self._changed.wait_for(lambda: self._flush_to > self._synced or self._has_written, patience)
                    written = self._written
                file.sync()
                synced_time = time.monotonic()
                with self._changed:
                    self._synced = written
                    self._changed.notify_all()
        except OSError as error:
            self._fail(error)

    def _write(self, file: _File) -> None:
        limit, limit_time = self._limit(), time.monotonic()
        is_last = has_more = False
        while has_more or not is_last:
            batch, is_last = self._take(self._patience(has_more))
            self._commit(file, batch)
            if time.monotonic() - limit_time >= self._retain_every:
                limit, limit_time = self._limit(), time.monotonic()
            has_more = self._make_room(file, limit, is_last=is_last)

    def _take(self, patience: float | None) -> tuple[list[tuple[str, bytes]], bool]:
        """Wait for work and gather a little more of it; return records, and whether to end."""
        with self._changed:
            if self._held and patience != 0:
                self._changed.wait_for(lambda: self._closing or self._can_trim(), _AGAIN)
            self._changed.wait_for(lambda: self._buffer or self._trim_to is not None or self._is_urgent(), patience)
            if self._buffer:
                self._changed.wait_for(self._is_urgent, self._commit_every)
            batch, self._buffer = self._buffer, []
            self._taken += len(batch)
            return batch, self._closing or self._failure is not None

    def _can_trim(self) -> bool:
        return self._trim_to is not None and not self._is_stuck

    def _is_urgent(self) -> bool:
        is_over = self._closing or self._failure is not None
        return is_over or self._flush_to > self._taken or len(self._buffer) >= _EARLY

    def _patience(self, has_more: bool) -> float | None:
        if has_more:
            return 0.0
        return None if self._retention_hours is None and self._retention_bytes is None else self._retain_every

    def _commit(self, file: _File, batch: list[tuple[str, bytes]]) -> None:
        """Write records, or hold them until the disk has room."""
        for start in range(0, len(batch), _BATCH):
            records = batch[start : start + _BATCH]
            try:
                end = file.append(records)
            except (OSError, sqlite3.Error) as error:
                self._hold_back(error, batch[start:])
                return
            if self._on_append:
                self._on_append(end)
            with self._changed:
                self._held = None
                self._written += len(records)
                self._unwritten_bytes -= sum(len(header) + len(value) for header, value in records)
                self._changed.notify_all()

    def _hold_back(self, error: Exception, records: list[tuple[str, bytes]]) -> None:
        """Keep what a full disk did not take. Raises any other error, and every one where nobody makes room."""
        if self._on_drop is None or not _is_full(error):
            raise error
        with self._changed:
            self._held = error
            self._buffer[:0] = records
            self._taken -= len(records)
            self._changed.notify_all()

    def _drop(self, count: int) -> None:
        """Give up the oldest records that are held."""
        if dropped := self._buffer[:count]:
            assert self._on_drop is not None
            del self._buffer[:count]
            self._appended -= len(dropped)
            self._flush_to = min(self._flush_to, self._appended)
            self._unwritten_bytes -= sum(len(header) + len(value) for header, value in dropped)
            self._on_drop(dropped)

    def _make_room(self, file: _File, limit: int | None, *, is_last: bool) -> bool:
        """Take one step of trimming, or of giving what is free back to the disk; return whether more remain."""
        has_more = is_stuck = False
        try:
            has_more = self._lock is not None and (self._trim(file, limit) or (not is_last and file.vacuum()))
        except sqlite3.Error as error:
            self._hold_back(error, [])
            is_stuck = True
        with self._changed:
            self._is_trimming, self._is_stuck = has_more, is_stuck
        return has_more

    def _trim(self, file: _File, limit: int | None) -> bool:
        """Take one step of what was asked for and of the retention; return whether more remain."""
        trim_to = self._trim_to
        hours = self._retention_hours
        horizon = 0 if hours is None else self._clock() - int(hours * 3600 * SECOND)
        has_more = file.trim(trim_to or 0, horizon, limit)
        with self._changed:
            if not has_more and self._trim_to == trim_to:
                self._trim_to = None  # a trim beyond the end does not drop what comes later
        return has_more

    def _limit(self) -> int | None:
        return self._retention_bytes() if callable(self._retention_bytes) else self._retention_bytes


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

    Any thread may use it. `name` is what its errors call the partition.
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
                raise RetentionLoss(
                    f"{self.name}: offset {start} was trimmed, the first kept one is {self.bounds().begin}; "
                    "go on from there, and keep more: COIN_JOURNAL_HOURS, COIN_JOURNAL_BYTES"
                )
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

    def size(self) -> int:
        """Return how many bytes of the file hold records; what was trimmed does not count."""
        if not self.path.exists():
            return 0
        with self._look() as db:
            pages, free = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count"))
            return (pages - free) * _PAGE_BYTES

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
            found = begin + bisect_left(range(begin, end), time, key=lambda offset: _time(db, offset))
            db.execute("COMMIT")
            return found

    @contextmanager
    def _look(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._held.look() as db:
                yield db
        except sqlite3.Error as error:
            error.add_note(f"while reading {self.path}")
            raise

    def _connect(self) -> sqlite3.Connection:
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")  # by default 2 MiB: a shipper has dozens of readers
        return db


def _bounds(db: sqlite3.Connection) -> Bounds:
    query = "SELECT coalesce((SELECT min(offset) FROM record), next_offset), next_offset, last_time FROM head"
    begin, end, last_time = db.execute(query).fetchone()
    return Bounds(begin, end, last_time if end else None)


def _chunk(db: sqlite3.Connection, start: int, stop: int) -> list[Record]:
    """Return the first records of a range, as many as may be in memory at once."""
    records: list[Record] = []
    size = 0
    query = "SELECT offset, time, header, value FROM record WHERE offset >= ? AND offset < ? ORDER BY offset"
    with closing(db.execute(query, (start, stop))) as cursor:
        while size < _READ_BYTES and (rows := cursor.fetchmany(250)):
            records += map(Record._make, rows)
            size += sum([len(row[3]) for row in rows])
    return records


def _time(db: sqlite3.Connection, offset: int) -> Microseconds:
    return int(db.execute("SELECT time FROM record WHERE offset = ?", (offset,)).fetchone()[0])


class Positions:
    """How far each group of consumers has come, in a small file beside the journals; any process may write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = _Held(path, self._connect)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """Return the next offset the group wants; `None` if it never committed one."""
        if not self.path.exists():
            return None
        with self._held.look() as db:
            query = "SELECT next_offset FROM position WHERE reader = ? AND topic = ? AND part = ?"
            row = db.execute(query, (group, topic, partition)).fetchone()
            return None if row is None else int(row[0])

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Remember the next offset the group wants. Raises `DeliveryError` if it cannot be stored."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._held.look() as db:
                db.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?)", (group, topic, partition, offset))
        except (OSError, sqlite3.Error) as error:
            raise DeliveryError(explain(self.path, error)) from error

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)
        _use_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last positions: work is done again
        db.execute(
            "CREATE TABLE IF NOT EXISTS position (reader TEXT, topic TEXT, part INTEGER, "
            "next_offset INTEGER NOT NULL, PRIMARY KEY (reader, topic, part)) WITHOUT ROWID"
        )
        return db


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch a file that others may open at this moment: SQLite then says locked at once, whatever its patience."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
