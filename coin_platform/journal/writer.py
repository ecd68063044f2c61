"""A durable local log in SQLite: append, read a range, offsets for a time, trim.

One file holds one topic-partition. One process writes it, held by a lock file that names its pid, and one guest that
is to take over; any number of processes read it meanwhile (`journal_reader`). Offsets are 0, 1, 2 ... without holes
and are never used twice, whatever is trimmed.
"""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from math import inf
from pathlib import Path

from coin_platform.clock import elapsed, wall
from coin_platform.errors import DeliveryError, PartitionBusy
from coin_platform.journal.file import File, explain, is_full
from coin_platform.journal.lock import GUEST, PAUSE, WRITER, busy, hold, holder, take
from coin_platform.journal.thread import WriterThread
from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import SteadyClock

BUFFER_BYTES = 64 << 20
_HELD_BYTES = 8 << 20  # that wait in memory for a full disk, at most
_AGAIN = 0.25  # seconds between two looks whether a full disk has room
_EARLY = 1_000  # so many waiting records are committed before the writer's 20 ms are over
_BATCH = 4_096  # records of one transaction, at most


class JournalWriter:
    """The writer of one partition: `append` puts into memory, a thread commits, another syncs.

    The first is that of `writer`, which others may share. A commit follows the first waiting record by about its 20 ms,
    a sync to the disk by `sync_every` seconds: `kill -9` costs the first, a power cut the second. Records older than
    `retention_hours`, and the oldest beyond `retention_bytes` of this file (a number, or a function that is asked every
    `retain_every` seconds), are trimmed.
    `on_append` is called on the writer's thread with the new end offset after each commit.

    Times come from the wall clock `clock`, whose jumps are held: see `SteadyClock`, which journals of a process share.
    How old records are counts from when they were stamped, by `monotonic` seconds: no jump makes one older, nor does
    the time in which nobody wrote.

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
        clock: Callable[[], Microseconds] = wall,
        monotonic: Callable[[], float] = elapsed,
        writer: WriterThread | None = None,
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
        self._clock = clock if isinstance(clock, SteadyClock) else SteadyClock(clock, monotonic)
        self._sync_every = sync_every
        self._retention_hours = retention_hours
        self._retention_bytes = retention_bytes
        self._retain_every = retain_every
        self._buffer_bytes = buffer_bytes
        self._on_append = on_append
        self._on_drop = on_drop
        self._writer = writer or WriterThread()
        guard = self._guard = self._writer.guard  # of all that follows
        self._unsynced = threading.Condition(guard)  # for the syncing thread: something to sync, or at once
        self._settled = threading.Condition(guard)  # for who waits: synced, held, failed or ended
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
            self._lock = hold(path)
        except PartitionBusy:
            if not guest:
                raise
            self._seat = hold(path, GUEST)
            try:
                self.host()
            except PartitionBusy:
                os.close(self._seat)
                raise
        self.name = str(path)
        self.due_time = -inf  # the file is to be opened
        self._opened = ExitStack()  # ends what the file needs
        self._file: File | None = None
        self._bytes_limit: int | None = None
        self._limit_time = -inf
        self._has_more = True  # to trim: an earlier writer may have left something
        self._has_ended = False
        self._writer.add(self)

    def append(self, header: str, value: bytes) -> None:
        """Take one record; any thread may call this, and it never waits for the disk.

        Raises `DeliveryError` after a failure of the writer, and when more than `buffer_bytes` wait for the disk:
        who can append faster than a disk writes calls `flush` now and then.
        """
        with self._guard:
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
            if self._writer.is_idle or len(self._buffer) == _EARLY:
                self._writer.wake()

    def host(self) -> int | None:
        """Return the process whose guest we are; `None` once this partition is ours, which it becomes here.

        Raises `PartitionBusy` if that process is unknown or not of this machine (containers may share a folder).
        """
        with self._guard:
            if self._seat is None:
                return None
            self._lock = take(self.path, WRITER)
            if self._lock is None:
                owner = holder(self.path, WRITER)
                if owner is None or owner.host != socket.gethostname():
                    raise busy(self.path, WRITER, owner)
                return owner.pid
            os.close(self._seat)
            self._seat = None
            return None

    @property
    def has_guest(self) -> bool:
        """Whether a process appends beside us, that will write this partition when we have ended."""
        seat = take(self.path, GUEST)
        if seat is None:
            return True
        os.close(seat)
        return False

    @property
    def waiting_bytes(self) -> int:
        """How many bytes that were appended are not written yet."""
        return self._unwritten_bytes

    @property
    def needs_room(self) -> Exception | None:
        """Why records wait in memory, once all has been trimmed that should be; `None` while they can be written."""
        with self._guard:
            return None if self._is_trimming or self._trim_to is not None else self._held

    def flush(self) -> None:
        """Return when everything appended so far is committed and synced. Raises `DeliveryError` if it cannot be."""
        with self._guard:
            self._check()
            wanted = self._appended
            self._hurry()
            self._settled.wait_for(lambda: self._synced >= wanted or self._failure or self._held)
            if self._synced < wanted:
                self._check()
                assert self._held is not None
                raise DeliveryError(explain(self.path, self._held)) from self._held

    def hurry(self) -> None:
        """Have everything appended so far committed and synced at once, and do not wait for it."""
        with self._guard:
            self._hurry()

    def _hurry(self) -> None:
        if self._flush_to < self._appended and self._synced < self._appended:
            self._flush_to = self._appended
            self._writer.wake()
            self._unsynced.notify()

    def trim(self, before: int) -> None:
        """Drop the records before an offset; the writer's thread does it soon, in small steps.

        Beyond the end it drops what has come until then, and nothing of what comes later.
        """
        with self._guard:
            self._check()
            self._trim_to = max(self._trim_to or 0, before)
            self._writer.wake()

    def close(self) -> None:
        """Write what waits and free the partition. Raises `DeliveryError` if something could not be written."""
        with self._guard:
            self._closing = True
            self._writer.wake()
            self._settled.wait_for(lambda: self._has_ended)
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

    # What follows is for the writer's thread.

    @property
    def has_work(self) -> bool:
        if self._file is None:
            return False  # it looks again when it is due
        if self._held:
            return self._is_over or (self._trim_to is not None and not self._is_stuck)
        return bool(self._buffer) or self._trim_to is not None or self.is_urgent

    @property
    def has_records(self) -> bool:
        return bool(self._buffer) and not self._held

    @property
    def is_urgent(self) -> bool:
        if self._file is None or self._held:
            return False
        return self._is_over or self._flush_to > self._taken or len(self._buffer) >= _EARLY

    @property
    def _is_over(self) -> bool:
        return self._closing or self._failure is not None

    def work(self) -> bool:
        is_last = True
        try:
            with ExitStack() as stack:
                stack.callback(self._opened.close)
                is_last = self._step()
                if not is_last:
                    stack.pop_all()
            if is_last:
                with self._guard:
                    self._failure = self._failure or self._held
                    if self._on_drop is not None:
                        self._drop(len(self._buffer))
        except Exception as error:
            self._fail(error)
        if is_last:
            with self._guard:
                self._has_ended = True
                self._settled.notify_all()
        return is_last

    def _step(self) -> bool:
        """Write what waits, trim; return whether that was the last of it."""
        if self._file is None:
            if self.host() is not None and not self.path.exists():
                self.due_time = time.monotonic() + PAUSE  # the writer is about to make it
                return False
            self._file = self._begin()
        with self._guard:
            batch, self._buffer = self._buffer, []
            self._taken += len(batch)
            is_last = self._is_over
        self._commit(self._file, batch)
        if time.monotonic() - self._limit_time >= self._retain_every:
            self._bytes_limit, self._limit_time = self._limit(), time.monotonic()
        if self._has_more or self._retains or self._trim_to is not None or self._file.is_far_ahead:
            self._has_more = self._make_room(self._file, is_last=is_last)
        self.due_time = self._next_time()
        return is_last and not self._has_more

    def _begin(self) -> File:
        file = self._opened.enter_context(closing(File(self.path, self._clock, is_careful=self._on_drop is not None)))
        syncing = threading.Thread(target=self._sync, args=(file,), name=f"sync {self.path}", daemon=True)
        syncing.start()
        self._opened.callback(syncing.join)
        self._opened.callback(self._stop_syncing)
        return file

    def _fail(self, error: Exception) -> None:
        """End: whatever it was, the next append, flush or close raises it."""
        with self._guard:
            self._failure = error
            self._writer.wake()
            self._settled.notify_all()

    def _sync(self, file: File) -> None:
        """Sync what is committed, on a thread of its own: on a busy disk that takes long, and commits do not wait."""
        synced_time = time.monotonic()
        try:
            while True:
                with self._unsynced:
                    self._unsynced.wait_for(lambda: self._written > self._synced or self._has_written)
                    if self._written == self._synced:
                        return
                    patience = synced_time + self._sync_every - time.monotonic()
                    self._unsynced.wait_for(lambda: self._flush_to > self._synced or self._has_written, patience)
                    written = self._written
                file.sync()
                synced_time = time.monotonic()
                with self._settled:
                    self._synced = written
                    self._settled.notify_all()
        except OSError as error:
            self._fail(error)

    def _stop_syncing(self) -> None:
        with self._guard:
            self._has_written = True
            self._unsynced.notify()

    def _next_time(self) -> float:
        if self._has_more:
            return -inf
        if self._held:
            return time.monotonic() + _AGAIN
        return time.monotonic() + self._retain_every if self._retains else inf

    @property
    def _retains(self) -> bool:
        return self._retention_hours is not None or self._retention_bytes is not None

    def _commit(self, file: File, batch: list[tuple[str, bytes]]) -> None:
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
            with self._guard:
                self._held = None
                if self._written == self._synced:  # else it is about to sync already
                    self._unsynced.notify()
                self._written += len(records)
                self._unwritten_bytes -= sum(len(header) + len(value) for header, value in records)

    def _hold_back(self, error: Exception, records: list[tuple[str, bytes]]) -> None:
        """Keep what a full disk did not take. Raises any other error, and every one where nobody makes room."""
        if self._on_drop is None or not is_full(error):
            raise error
        with self._guard:
            self._held = error
            self._buffer[:0] = records
            self._taken -= len(records)
            self._settled.notify_all()

    def _drop(self, count: int) -> None:
        """Give up the oldest records that are held."""
        if dropped := self._buffer[:count]:
            assert self._on_drop is not None
            del self._buffer[:count]
            self._appended -= len(dropped)
            self._flush_to = min(self._flush_to, self._appended)
            self._unwritten_bytes -= sum(len(header) + len(value) for header, value in dropped)
            self._on_drop(dropped)

    def _make_room(self, file: File, *, is_last: bool) -> bool:
        """Take one step of trimming, or of giving what is free back to the disk; return whether more remain."""
        has_more = is_stuck = False
        try:
            has_more = self._lock is not None and (
                self._trim(file) or (not is_last and (file.stamp_anew() or file.vacuum()))
            )
        except sqlite3.Error as error:
            self._hold_back(error, [])
            is_stuck = True
        with self._guard:
            self._is_trimming, self._is_stuck = has_more, is_stuck
        return has_more

    def _trim(self, file: File) -> bool:
        """Take one step of what was asked for and of the retention; return whether more remain."""
        trim_to = self._trim_to
        hours = self._retention_hours
        horizon = 0 if hours is None else file.horizon(int(hours * 3600 * SECOND))
        has_more = file.trim(trim_to or 0, horizon, self._bytes_limit)
        with self._guard:
            if not has_more and self._trim_to == trim_to:
                self._trim_to = None  # a trim beyond the end does not drop what comes later
        return has_more

    def _limit(self) -> int | None:
        return self._retention_bytes() if callable(self._retention_bytes) else self._retention_bytes


def flush_all(journals: Sequence[JournalWriter]) -> None:
    """Flush many journals, all syncing side by side. Raises `DeliveryError` if one cannot be."""
    for journal in journals:
        journal.hurry()
    for journal in journals:
        journal.flush()
