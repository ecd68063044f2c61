"""Free ports: two processes never get the same one, and the kernel gives it to no connection."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from coin_platform.errors import SettingsError
from coin_platform.runtime import ports
from coin_platform.runtime.ports import free_port, free_ports

_HOLD = (
    "import sys; from coin_platform.runtime.ports import free_port\n"
    "print(free_port(int(sys.argv[1])), flush=True); sys.stdin.read()"
)


def test_two_starts_at_the_same_moment_get_two_ports() -> None:
    [wanted] = free_ports(1)
    command = [sys.executable, "-c", _HOLD, str(wanted)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and int(other.stdout.readline()) == wanted  # it has not bound the port yet
        assert free_port(wanted) not in (wanted, 0)
        other.communicate("")
    assert free_port(wanted) == wanted


def test_a_port_is_offered_once_and_the_kernel_gives_it_to_no_connection() -> None:
    first, second = free_ports(20), free_ports(20)
    assert len({*first, *second}) == 40
    kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(first + second) < kernel


def test_a_port_that_listens_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_can_listen", lambda port: False)
    with pytest.raises(SettingsError, match=r"no port of 127\.0\.0\.1 is free"):
        free_ports(1)


def test_a_preferred_port_that_is_taken_is_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert free_port(taken) != taken


def test_where_the_kernel_says_nothing_its_usual_range_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ports, "_KERNEL_PORTS", tmp_path / "missing")
    assert max(free_ports(5)) < 32_768
