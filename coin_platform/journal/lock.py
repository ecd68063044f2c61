"""Who writes a partition: lock files that name a process and its host. The system frees them when the process ends."""

import fcntl
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from coin_platform.errors import DeliveryError, PartitionBusy
from coin_platform.journal.failures import explain

WRITER_ROLE, GUEST_ROLE = "lock", "next"  # suffixes of the lock files: of the writer, and of its successor
LOOK_SECONDS = 0.001  # between two looks at a file that another process is just writing
SIGN_SECONDS = 0.25  # that a holder may take to write its name, which needs microseconds

_SIGNATURE = re.compile(rb"(\d{1,18})(?: (\S+))?\s*\n")


class LockHolder(NamedTuple):
    """The process that holds a lock file."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"process {self.pid}" if self.host == socket.gethostname() else f"process {self.pid} of {self.host}"


class WriterSeat:
    """This process's right to write a partition: as its writer, or as the guest that becomes the next writer."""

    def __init__(self, path: Path, *, guest: bool = False) -> None:
        """Take the lock of the writer; if that is taken and this is a `guest`, the lock of the guest.

        Raises `PartitionBusy` if another process has the lock, and `DeliveryError` if no lock file can be made.
        """
        self._path = path
        self._guest_lock: int | None = None
        self._writer_lock = _take(path, WRITER_ROLE)
        if self._writer_lock is not None:
            return
        if not guest:
            raise _busy(path, WRITER_ROLE, holder(path, WRITER_ROLE))
        self._guest_lock = _take(path, GUEST_ROLE)
        if self._guest_lock is None:
            raise _busy(path, GUEST_ROLE, holder(path, GUEST_ROLE))
        try:
            self.host()
        except PartitionBusy:
            self.release()
            raise

    @property
    def is_writer(self) -> bool:
        """Whether this process is the writer."""
        return self._writer_lock is not None

    def host(self) -> int | None:
        """Return the process whose guest this one is; `None` if this one is the writer, or becomes it here.

        Raises `PartitionBusy` if the writer is unknown or not of this machine: containers may share a folder.
        """
        if self._guest_lock is None:
            return None
        self._writer_lock = _take(self._path, WRITER_ROLE)
        if self._writer_lock is None:
            owner = holder(self._path, WRITER_ROLE)
            if owner is None or owner.host != socket.gethostname():
                raise _busy(self._path, WRITER_ROLE, owner)
            return owner.pid
        os.close(self._guest_lock)
        self._guest_lock = None
        return None

    @property
    def has_guest(self) -> bool:
        """Whether another process is the guest of this partition."""
        lock = _take(self._path, GUEST_ROLE)
        if lock is None:
            return True
        os.close(lock)
        return False

    def release(self) -> bool:
        """Free the partition; return whether this process had it."""
        locks = [lock for lock in (self._writer_lock, self._guest_lock) if lock is not None]
        for lock in locks:
            os.close(lock)
        self._writer_lock = self._guest_lock = None
        return bool(locks)


def holder(path: Path, role: str, patience: float = SIGN_SECONDS) -> LockHolder | None:
    """Return the process that holds a lock file; `None` if the file does not name it within `patience` seconds.

    A file is empty for a moment while its holder writes it. It stays empty if the disk was full then.
    """
    lock = _lock_path(path, role)
    deadline = time.monotonic() + patience
    while True:
        with suppress(OSError):  # the holder may have ended, and somebody may have deleted the file
            if match := _SIGNATURE.match(lock.read_bytes()):
                pid, host = match.groups()  # former versions wrote the process only
                return LockHolder(int(pid), host.decode(errors="replace") if host else socket.gethostname())
        if time.monotonic() >= deadline:
            return None
        time.sleep(LOOK_SECONDS)


def _take(path: Path, role: str) -> int | None:
    """Take a lock file, write our name into it, and return its descriptor: closing that frees the lock.

    `None`: another process has the lock. Raises `DeliveryError` if the file cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(_lock_path(path, role), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DeliveryError(explain(path, error)) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    _sign(file)
    return file


def _sign(file: int) -> None:
    """Write our name over that of the last holder: where both are about as long, this takes no space on the disk."""
    text = f"{os.getpid()} {socket.gethostname()}\n".encode()
    try:
        written = os.pwrite(file, text, 0)
    except OSError:  # a full disk: the lock is held all the same, by a process that others do not know
        written = 0
    os.ftruncate(file, written)


def _busy(path: Path, role: str, owner: LockHolder | None) -> PartitionBusy:
    action = "is being written" if role == WRITER_ROLE else "is about to be taken over"
    return PartitionBusy(f"journal {path} {action} by {owner or 'an unknown process'}: end that one first")


def _lock_path(path: Path, role: str) -> Path:
    return path.with_name(f"{path.name}.{role}")
