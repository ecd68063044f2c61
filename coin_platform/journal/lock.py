"""Who writes a partition: lock files that name the process and its host, freed by the system when it ends."""

import fcntl
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from coin_platform.errors import DeliveryError, PartitionBusy
from coin_platform.journal.file import explain

WRITER, GUEST = "lock", "next"  # of who writes, and of who will after it
PAUSE = 0.001  # seconds between two looks at what another process is just doing
PATIENCE_SECONDS = 0.25  # for a holder to write who it is, which takes it microseconds
UNKNOWN = "an unknown process"

_SIGNED = re.compile(rb"(\d{1,18})(?: (\S+))?\s*\n")


def hold(path: Path, role: str = WRITER) -> int:
    """Take one of the partition's lock files, write who we are, and return its descriptor: closing that frees it.

    Raises `PartitionBusy` if another process has it, and `DeliveryError` if there can be none.
    """
    lock = take(path, role)
    if lock is None:
        raise busy(path, role, holder(path, role))
    return lock


def take(path: Path, role: str) -> int | None:
    """Do what `hold` does; return `None` if another process has the lock file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(_lock(path, role), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DeliveryError(explain(path, error)) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    _sign(file)
    return file


def busy(path: Path, role: str, owner: "Holder | None") -> PartitionBusy:
    """Return the error that names the process that has one of the partition's lock files."""
    does = "is being written" if role == WRITER else "is about to be taken over"
    return PartitionBusy(f"journal {path} {does} by {owner or UNKNOWN}: end that one first")


def _sign(file: int) -> None:
    """Write who we are over what the last holder wrote, which takes no space where that is about as long."""
    text = f"{os.getpid()} {socket.gethostname()}\n".encode()
    try:
        written = os.pwrite(file, text, 0)
    except OSError:  # a full disk: the lock is held all the same, and others read of an unknown process
        written = 0
    os.ftruncate(file, written)


class Holder(NamedTuple):
    """The process that holds a lock file."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"process {self.pid}" if self.host == socket.gethostname() else f"process {self.pid} of {self.host}"


def holder(path: Path, role: str, patience: float = PATIENCE_SECONDS) -> Holder | None:
    """Return who holds one of the partition's lock files; `None` where the file does not say so in `patience` seconds.

    A file is empty for a moment while its holder writes it, and for good if the disk was full then.
    """
    lock = _lock(path, role)
    deadline = time.monotonic() + patience
    while True:
        with suppress(OSError):  # its holder has ended, and somebody has cleared up
            if match := _SIGNED.match(lock.read_bytes()):
                pid, host = match.groups()  # former versions wrote the process only
                return Holder(int(pid), host.decode(errors="replace") if host else socket.gethostname())
        if time.monotonic() >= deadline:
            return None
        time.sleep(PAUSE)


def _lock(path: Path, role: str) -> Path:
    return path.with_name(f"{path.name}.{role}")
