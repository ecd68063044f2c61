"""Writes one partition's journal: appends wait in memory, are committed by a shared thread, and synced to the disk.

Offsets are 0, 1, 2 ... without holes, and no offset is used twice, whatever is trimmed.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from math import inf
from pathlib import Path

from coin_platform.clock import elapsed, wall
from coin_platform.errors import DeliveryError
from coin_platform.journal.failures import explain, is_full
from coin_platform.journal.file import JournalFile
from coin_platform.journal.lock import LOOK_SECONDS, WriterSeat
from coin_platform.journal.thread import WriterThread
from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import SteadyClock

BUFFER_BYTES = 64 << 20
SYNC_SECONDS = 0.2  # between two syncs: a power cut costs the records of this time
RETAIN_SECONDS = 5.0  # between two looks whether old records are to be trimmed
_HELD_BYTES = 8 << 20  # of records that wait in memory for a full disk, at most
_FULL_DISK_SECONDS = 0.25  # between two tries to write to a full disk
_EARLY_RECORDS = 1_000  # with this many waiting, a commit does not wait for more
_TRANSACTION_RECORDS = 4_096


class JournalWriter:
    """The writer of one partition. `append` stores in memory, one thread commits, and another one syncs.

    1. Commits. The thread of `writer`, which other journals may share, commits about 20 ms after the first waiting
       record; `kill -9` costs the records of that time. `on_append` is called on that thread with the new end offset.
    2. Syncs. The disk has a record about `SYNC_SECONDS` after its commit; a power cut costs the records of that time.
    3. Retention. Records older than `retention_hours` are trimmed, and the oldest ones beyond `retention_bytes` of this
       file: a number, or a function that is asked every `retain_seconds`.
    4. Time. Stamps come from the wall clock `clock`, whose jumps are held back (see `SteadyClock`). The age of a record
       is measured in `monotonic` seconds since it was stamped, so no jump makes a record older.
    5. Failures. A failure to write ends the writer. Every later call raises `DeliveryError`, one line with file and
       remedy.
    6. Full disks. If `on_drop` is given, a full disk is not a failure. The writer keeps records in memory and retries.
       When too many wait, it passes the oldest to `on_drop`. A caller that can free space checks `needs_room` and calls
       `trim`.
    7. Guests. A `guest` appends beside the process that writes this partition, and trims nothing. After that process
       has ended, the guest becomes the writer when `host` is called.

    Raises `PartitionBusy` if another process writes this partition, or is its guest.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], Microseconds] = wall,
        monotonic: Callable[[], float] = elapsed,
        writer: WriterThread | None = None,
        sync_seconds: float = SYNC_SECONDS,
        retention_hours: float | None = None,
        retention_bytes: int | Callable[[], int] | None = None,
        retain_seconds: float = RETAIN_SECONDS,
        buffer_bytes: int = BUFFER_BYTES,
        on_append: Callable[[int], None] | None = None,
        on_drop: Callable[[list[tuple[str, bytes]]], None] | None = None,
        guest: bool = False,
    ) -> None:
        self.path = path
        self._clock = clock if isinstance(clock, SteadyClock) else SteadyClock(clock, monotonic)
        self._sync_seconds = sync_seconds
        self._retention_hours = retention_hours
        self._retention_bytes = retention_bytes
        self._retain_seconds = retain_seconds
        self._buffer_bytes = buffer_bytes
        self._on_append = on_append
        self._on_drop = on_drop
        self._writer = writer or WriterThread()
        guard = self._guard = self._writer.guard  # for everything below
        self._unsynced = threading.Condition(guard)  # the syncing thread waits for it: records, or a flush
        self._settled = threading.Condition(guard)  # callers wait for it: a sync, a full disk, a failure, the end
        self._buffer: list[tuple[str, bytes]] = []
        self._unwritten_bytes = 0  # of the buffer, and of the records in the transaction under way
        # Counts of records since this writer began:
        self._appended = self._taken = self._written = self._synced = self._flush_to = 0
        self._has_written_all = False
        self._trim_to: int | None = None
        self._closing = False
        self._failure: Exception | None = None
        self._full_error: Exception | None = None  # why records are held in memory
        self._is_trimming = False
        self._is_stuck = False  # the disk has no room even for trimming
        self._seat = WriterSeat(path, guest=guest)
        self.name = str(path)
        self.due_time = -inf  # at once: the file is to be opened
        self._opened = ExitStack()  # closes the file and ends the syncing thread
        self._file: JournalFile | None = None
        self._bytes_limit: int | None = None
        self._limit_time = -inf
        self._has_more = True  # records to trim: an earlier writer may have left some
        self._has_ended = False
        self._writer.add(self)

    def append(self, header: str, value: bytes) -> None:
        """Take one record. Any thread may call this, and it never waits for the disk.

        Raises `DeliveryError` after a failure of the writer, and when more than `buffer_bytes` wait for the disk. A
        caller that can append faster than a disk writes calls `flush` now and then.
        """
        with self._guard:
            self._check()
            if self._full_error and self._unwritten_bytes > min(_HELD_BYTES, self._buffer_bytes):
                self._drop(1 + len(self._buffer) // 8)
            elif self._unwritten_bytes > self._buffer_bytes:
                raise DeliveryError(
                    f"journal {self.path}: {self._unwritten_bytes:,} bytes wait for the disk, it does not keep up; "
                    "use a faster one, or flush between large appends"
                )
            self._buffer.append((header, value))
            self._unwritten_bytes += len(header) + len(value)
            self._appended += 1
            if self._writer.is_idle or len(self._buffer) == _EARLY_RECORDS:
                self._writer.wake()

    def host(self) -> int | None:
        """Return the id of the process beside which we append; `None` once this process is the writer.

        A guest becomes the writer in this call. Raises `PartitionBusy` if the writer is unknown or on another machine.
        """
        with self._guard:
            return self._seat.host()

    @property
    def has_guest(self) -> bool:
        """Whether a process appends beside us, and becomes the writer when we end."""
        return self._seat.has_guest

    @property
    def waiting_bytes(self) -> int:
        """How many appended bytes are not written yet."""
        return self._unwritten_bytes

    @property
    def needs_room(self) -> Exception | None:
        """Why records wait in memory although trimming is done; `None` while records can be written."""
        with self._guard:
            return None if self._is_trimming or self._trim_to is not None else self._full_error

    def flush(self) -> None:
        """Return when everything appended so far is committed and synced. Raises `DeliveryError` if it cannot be."""
        with self._guard:
            self._check()
            target = self._appended
            self._hurry()
            self._settled.wait_for(lambda: self._synced >= target or self._failure or self._full_error)
            if self._synced < target:
                self._check()
                assert self._full_error is not None
                raise DeliveryError(explain(self.path, self._full_error)) from self._full_error

    def hurry(self) -> None:
        """Start to commit and sync everything appended so far, without waiting for the end."""
        with self._guard:
            self._hurry()

    def _hurry(self) -> None:
        if self._flush_to < self._appended and self._synced < self._appended:
            self._flush_to = self._appended
            self._writer.wake()
            self._unsynced.notify()

    def trim(self, before: int) -> None:
        """Delete the records before an offset. The writer's thread does it soon, in small steps.

        An offset beyond the end deletes the records there are then, and none that come later.
        """
        with self._guard:
            self._check()
            self._trim_to = max(self._trim_to or 0, before)
            self._writer.wake()

    def close(self) -> None:
        """Write the records that wait and free the partition. Raises `DeliveryError` if some could not be written."""
        with self._guard:
            self._closing = True
            self._writer.wake()
            self._settled.wait_for(lambda: self._has_ended)
            if self._seat.release() and self._failure:
                self._check()

    def _check(self) -> None:
        if self._failure:
            raise DeliveryError(explain(self.path, self._failure)) from self._failure
        if self._closing:
            raise DeliveryError(f"journal {self.path} is closed: open it again to append")

    # The methods below are called by the writer's thread.

    @property
    def has_work(self) -> bool:
        if self._file is None:
            return False  # until the file is opened, only `due_time` counts
        if self._full_error:
            return self._is_over or (self._trim_to is not None and not self._is_stuck)
        return bool(self._buffer) or self._trim_to is not None or self.is_urgent

    @property
    def has_records(self) -> bool:
        return bool(self._buffer) and not self._full_error

    @property
    def is_urgent(self) -> bool:
        if self._file is None or self._full_error:
            return False
        return self._is_over or self._flush_to > self._taken or len(self._buffer) >= _EARLY_RECORDS

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
                    self._failure = self._failure or self._full_error
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
        """Write the records that wait, and trim; return whether that was the last work."""
        if self._file is None:
            if self.host() is not None and not self.path.exists():
                self.due_time = time.monotonic() + LOOK_SECONDS  # the writer is about to create it
                return False
            self._file = self._begin()
        with self._guard:
            batch, self._buffer = self._buffer, []
            self._taken += len(batch)
            is_last = self._is_over
        self._commit(self._file, batch)
        if time.monotonic() - self._limit_time >= self._retain_seconds:
            self._bytes_limit, self._limit_time = self._limit(), time.monotonic()
        if self._has_more or self._retains or self._trim_to is not None or self._file.is_far_ahead:
            self._has_more = self._make_room(self._file, is_last=is_last)
        self.due_time = self._next_time()
        return is_last and not self._has_more

    def _begin(self) -> JournalFile:
        file = self._opened.enter_context(
            closing(JournalFile(self.path, self._clock, is_careful=self._on_drop is not None))
        )
        syncing = threading.Thread(target=self._sync, args=(file,), name=f"sync {self.path}", daemon=True)
        syncing.start()
        self._opened.callback(syncing.join)
        self._opened.callback(self._stop_syncing)
        return file

    def _fail(self, error: Exception) -> None:
        """End the writer. The next append, flush or close raises the error."""
        with self._guard:
            self._failure = error
            self._writer.wake()
            self._settled.notify_all()

    def _sync(self, file: JournalFile) -> None:
        """Sync committed records, on a thread of its own: a sync can take long, and commits must not wait for it."""
        synced_time = time.monotonic()
        try:
            while True:
                with self._unsynced:
                    self._unsynced.wait_for(lambda: self._written > self._synced or self._has_written_all)
                    if self._written == self._synced:
                        return
                    patience = synced_time + self._sync_seconds - time.monotonic()
                    self._unsynced.wait_for(lambda: self._flush_to > self._synced or self._has_written_all, patience)
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
            self._has_written_all = True
            self._unsynced.notify()

    def _next_time(self) -> float:
        if self._has_more:
            return -inf
        if self._full_error:
            return time.monotonic() + _FULL_DISK_SECONDS
        return time.monotonic() + self._retain_seconds if self._retains else inf

    @property
    def _retains(self) -> bool:
        return self._retention_hours is not None or self._retention_bytes is not None

    def _commit(self, file: JournalFile, batch: list[tuple[str, bytes]]) -> None:
        """Commit records, or hold them until the disk has room."""
        for start in range(0, len(batch), _TRANSACTION_RECORDS):
            records = batch[start : start + _TRANSACTION_RECORDS]
            try:
                end = file.append(records)
            except (OSError, sqlite3.Error) as error:
                self._hold_back(error, batch[start:])
                return
            if self._on_append:
                self._on_append(end)
            with self._guard:
                self._full_error = None
                if self._written == self._synced:  # otherwise the thread is about to sync already
                    self._unsynced.notify()
                self._written += len(records)
                self._unwritten_bytes -= sum(len(header) + len(value) for header, value in records)

    def _hold_back(self, error: Exception, records: list[tuple[str, bytes]]) -> None:
        """Keep the records that a full disk did not take. Raises any other error, and every error without `on_drop`."""
        if self._on_drop is None or not is_full(error):
            raise error
        with self._guard:
            self._full_error = error
            self._buffer[:0] = records
            self._taken -= len(records)
            self._settled.notify_all()

    def _drop(self, count: int) -> None:
        """Pass the oldest records that are held to `on_drop`."""
        if dropped := self._buffer[:count]:
            assert self._on_drop is not None
            del self._buffer[:count]
            self._appended -= len(dropped)
            self._flush_to = min(self._flush_to, self._appended)
            self._unwritten_bytes -= sum(len(header) + len(value) for header, value in dropped)
            self._on_drop(dropped)

    def _make_room(self, file: JournalFile, *, is_last: bool) -> bool:
        """Take one step of trimming, or of giving free space back to the disk; return whether more steps remain."""
        has_more = is_stuck = False
        try:
            has_more = self._seat.is_writer and (
                self._trim(file) or (not is_last and (file.stamp_anew() or file.vacuum()))
            )
        except sqlite3.Error as error:
            self._hold_back(error, [])
            is_stuck = True
        with self._guard:
            self._is_trimming, self._is_stuck = has_more, is_stuck
        return has_more

    def _trim(self, file: JournalFile) -> bool:
        """Take one step of the trimming that was asked for and of the retention; return whether more steps remain."""
        trim_to = self._trim_to
        hours = self._retention_hours
        horizon = 0 if hours is None else file.horizon(int(hours * 3600 * SECOND))
        has_more = file.trim(trim_to or 0, horizon, self._bytes_limit)
        with self._guard:
            if not has_more and self._trim_to == trim_to:
                self._trim_to = None  # records that come later stay, also after a trim beyond the end
        return has_more

    def _limit(self) -> int | None:
        return self._retention_bytes() if callable(self._retention_bytes) else self._retention_bytes


def flush_all(journals: Sequence[JournalWriter]) -> None:
    """Flush many journals, which sync side by side. Raises `DeliveryError` if one cannot be flushed."""
    for journal in journals:
        journal.hurry()
    for journal in journals:
        journal.flush()
