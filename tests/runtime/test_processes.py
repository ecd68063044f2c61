"""A process is known by more than its id, which another one may have by now."""

import subprocess
import sys

import psutil
import pytest

from coin_platform.runtime.processes import identity, is_alive, kill


def test_D9_a_process_is_known_until_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        named = identity(process.pid)
        assert is_alive(named) is True
        assert is_alive(identity()) is True and identity() != named
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert is_alive(named) is False, "only its remains are there"
    assert is_alive(named) is False
    with pytest.raises(psutil.NoSuchProcess):
        identity(process.pid)


def test_D9_another_process_with_its_id_is_not_it() -> None:
    host, boot, pid, start = identity().split()
    assert is_alive(f"{host} {boot} {pid} {int(start) - 1}") is False, "the id was given again"
    assert is_alive(f"{host} another-boot {pid} {start}") is False, "the machine was started again"
    assert is_alive(f"another-host {boot} {pid} {start}") is None, "nobody here knows"
    assert is_alive("no identity") is None


def test_a_process_is_ended_only_by_its_own_identity() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        host, boot, pid, start = identity(process.pid).split()
        kill(f"{host} {boot} {pid} {int(start) + 1}")
        kill(f"another-host {boot} {pid} {start}")
        assert process.poll() is None
        kill(identity(process.pid))
        assert process.wait(10) == -9
        kill(f"{host} {boot} {pid} {start}")
