"""Identify processes, also after a reboot and after a process id was used again."""

import contextlib
import os
import signal
import socket
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def identity(pid: int | None = None) -> str:
    """Return `host boot pid start` of a process, by default of this one. No two processes share an identity.

    The start is counted from the boot. So the identity stays the same when the wall clock is set.
    Raises `psutil.NoSuchProcess`.
    """
    pid = os.getpid() if pid is None else pid
    return " ".join((socket.gethostname(), _boot(), str(pid), _start(pid)))


def is_alive(process_identity: str) -> bool | None:
    """Return whether the process of an identity runs; `None` for a process of another host and for other text."""
    host, _, rest = process_identity.partition(" ")
    if host != socket.gethostname() or len(rest.split()) != 3:
        return None
    pid = int(rest.split()[1])
    try:
        return identity(pid) == process_identity and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(process_identity: str) -> None:
    """End the process of an identity by force, if it runs on this host."""
    if is_alive(process_identity):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process_identity.split()[2]), signal.SIGKILL)


def ending_signals() -> list[signal.Signals]:
    """Return the signals at which a process ends in good order: Ctrl-C, SIGTERM, and SIGHUP of a closed terminal.

    SIGHUP is left out where it is ignored: a process that `nohup` started is to outlive its terminal.
    """
    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *[signal.SIGHUP] * (not is_nohup)]


def _boot() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "-"


def _start(pid: int) -> str:
    """Return when a process was started: in clock ticks since the boot on Linux, else in seconds since 1970."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return str(psutil.Process(pid).create_time())
    try:
        return stat.read_text().rpartition(")")[2].split()[19]  # a name in brackets may hold spaces
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
