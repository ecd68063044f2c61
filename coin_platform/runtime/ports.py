"""Free ports of this machine. Each stays with the process that asked for it."""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

from coin_platform.errors import SettingsError

_FIRST = 20_000  # below it are the ports that programs are known by, ours among them
_KERNEL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_KERNEL_FIRST = 32_768  # where that file is missing
_TRIES = 1_000


def free_port(preferred: int) -> int:
    """Return a free port of 127.0.0.1: `preferred` if it is free. Raises `SettingsError`.

    `preferred` stays claimed until this process ends. So two `coin up` that start at the same moment get two ports,
    although neither listens yet when the other looks.
    """
    if preferred and _can_listen(preferred) and _lock("port", preferred):
        return preferred
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return free ports of 127.0.0.1, which no other call gets while this process runs. Raises `SettingsError`.

    They are none of those that the kernel gives to connections. Such a port may be taken while a server that has it
    restarts, and the server cannot come back then.
    """
    offered = range(_FIRST, max(_first_of_kernel(), _FIRST + 1_000))
    ports: list[int] = []
    for port in random.sample(offered, min(len(offered), _TRIES)):
        if len(ports) == count:
            break
        if _can_listen(port) and _lock("offered", port):
            ports.append(port)
    if len(ports) < count:
        raise SettingsError("no port of 127.0.0.1 is free; end a process that listens there")
    return ports


def _first_of_kernel() -> int:
    """Return the first port that the kernel gives to a connection."""
    with contextlib.suppress(OSError, ValueError):
        return int(_KERNEL_PORTS.read_text().split()[0])
    return _KERNEL_FIRST


def _can_listen(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _lock(word: str, port: int) -> bool:
    """Lock a file that stands for a port, until this process ends. Return whether nobody has the lock already."""
    path = Path(tempfile.gettempdir()) / f"coin-platform-{os.getuid()}-{word}-{port}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True
