"""Who writes a partition: lock files that name the process and its host, freed by the system when it ends."""

import fcntl
import os
import socket
import time
from pathlib import Path

from coin_platform.errors import DeliveryError, PartitionBusy
from coin_platform.journal_file import explain

WRITER, GUEST = "lock", "next"  # of who writes, and of who will after it
PAUSE = 0.001  # seconds between two looks at what another process is just doing


def hold(path: Path, role: str = WRITER) -> int:
    """Take one of the partition's lock files, write who we are, and return its descriptor: closing that frees it.

    Raises `PartitionBusy` if another process has it, and `DeliveryError` if there can be none.
    """
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
        pid, host = holder(path, role)
        does = "is being written" if role == WRITER else "is about to be taken over"
        who = f"process {pid}" if host == socket.gethostname() else f"process {pid} of {host}"
        raise PartitionBusy(f"journal {path} {does} by {who}: end that one first") from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
    return file


def holder(path: Path, role: str) -> tuple[int, str]:
    """Return the process and the host that hold one of the partition's lock files, which somebody does."""
    lock = path.with_name(f"{path.name}.{role}")
    while not (text := lock.read_text()).endswith("\n"):
        time.sleep(PAUSE)  # it is just being written
    pid, *host = text.split()
    return int(pid), host[0] if host else socket.gethostname()  # former versions wrote the process only
