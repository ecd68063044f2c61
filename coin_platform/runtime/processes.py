"""Which process is which, also after a reboot and after its id was given to another process."""

import contextlib
import os
import signal
import socket
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def identity(pid: int | None = None) -> str:
    """Return `host boot pid start` of a process, by default of this one; no two processes share it.

    The start is counted from the boot, not in wall-clock time: a clock that is set makes no other process of it.
    Raises `psutil.NoSuchProcess`.
    """
    pid = os.getpid() if pid is None else pid
    return " ".join((socket.gethostname(), _boot(), str(pid), _start(pid)))


def is_alive(named: str) -> bool | None:
    """Whether the process of an identity runs; `None` where it is another host's, or no identity."""
    host, _, rest = named.partition(" ")
    if host != socket.gethostname() or len(rest.split()) != 3:
        return None
    pid = int(rest.split()[1])
    try:
        return identity(pid) == named and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(named: str) -> None:
    """End the process of an identity by force, if it runs on this host."""
    if is_alive(named):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(named.split()[2]), signal.SIGKILL)


def ending_signals() -> list[signal.Signals]:
    """Return the signals at which a process ends in good order: Ctrl-C, SIGTERM, and SIGHUP of a closed terminal.

    Not the latter where it is ignored: whoever starts a process by `nohup` wants it to outlive the terminal.
    """
    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *[signal.SIGHUP] * (not is_nohup)]


def _boot() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "-"


def _start(pid: int) -> str:
    """Return when a process was started: clock ticks since the boot; elsewhere than on Linux seconds since 1970."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return str(psutil.Process(pid).create_time())
    try:
        return stat.read_text().rpartition(")")[2].split()[19]  # a name in brackets may hold spaces
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
