"""What a process starts under a guard ends with it, and its log stays small."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from coin_platform.errors import SettingsError
from coin_platform.runtime import guard
from coin_platform.runtime.home_lock import held
from coin_platform.runtime.log_files import rotate
from coin_platform.runtime.processes import ending_signals
from tests.kit.waiting import until

# A command with a child of its own, both of which say who they are, and end in order at Ctrl-C only.
TREE = """
import os, pathlib, signal, subprocess, sys
folder = pathlib.Path(sys.argv[1])
def end(*_):
    (folder / f"drained {os.getpid()}").touch()
    sys.exit(3)
signal.signal(signal.SIGINT, end)
child = None if len(sys.argv) > 2 else subprocess.Popen([sys.executable, __file__, sys.argv[1], "child"])
(folder / f"pid {os.getpid()}").touch()
print("begun", flush=True)
while True:
    signal.pause()
"""
OWNER = """
import os, pathlib, sys, time
from coin_platform.runtime import guard
from coin_platform.runtime.home_lock import held
folder = pathlib.Path(sys.argv[1])
with held(folder / "lock", "coin up", "end it") as lock:
    tree = [sys.executable, str(folder / "tree.py"), str(folder)]
    process = guard.start(tree, folder / "log", dict(os.environ), [lock])
    print(process.pid, flush=True)
    time.sleep(1000)
"""


class Owner:
    """A process that holds a lock and has started a tree of processes under a guard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tree.py").write_text(TREE)
        command = [sys.executable, "-c", OWNER, str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.guard = int(self.process.stdout.readline())
        until(lambda: len(list(folder.glob("pid *"))) == 2, 30)
        self.pids = [int(path.name.split()[1]) for path in folder.glob("pid *")]

    def drained(self) -> set[int]:
        """Return the processes that were asked to end, and did."""
        return {int(path.name.split()[1]) for path in self.folder.glob("drained *")}

    def has_left(self) -> bool:
        """Whether nothing of it runs any more."""
        return not any(map(_runs, [*self.pids, self.guard]))

    def end(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for pid in [*self.pids, self.guard]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """Give an owner whose tree has begun."""
    made = Owner(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_D11_children_and_theirs_end_in_order_when_their_owner_is_killed(owner: Owner) -> None:
    owner.process.kill()
    until(owner.has_left, 30)
    assert owner.drained() == set(owner.pids)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_D11_a_guard_that_is_asked_to_end_ends_its_group(number: signal.Signals, owner: Owner) -> None:
    os.kill(owner.guard, number)
    until(owner.has_left, 30)
    assert owner.drained() == set(owner.pids)


def test_D11_a_lock_is_held_until_what_a_killed_holder_had_started_has_ended(owner: Owner) -> None:
    with pytest.raises(SettingsError, match=f"`coin up` uses it, process {owner.process.pid} on .*; end it"):
        held(owner.folder / "lock", "coin up", "end it").__enter__()
    owner.process.kill()
    with held(owner.folder / "lock", "coin demo", "end it"):
        assert owner.drained() == set(owner.pids)
        assert (owner.folder / "lock").read_text().endswith(" coin demo\n")


def test_D11_a_lock_of_a_stranger_is_refused_too(tmp_path: Path) -> None:
    with held(tmp_path / "lock", "coin up", "end it"):
        (tmp_path / "lock").write_text("?")
        with pytest.raises(SettingsError, match=f"{tmp_path}: another process uses it; end it"):
            held(tmp_path / "lock", "coin up", "end it").__enter__()
    with held(tmp_path / "lock", "coin up", "end it"):
        pass


def test_D11_a_command_that_ignores_the_request_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('begun', flush=True); signal.pause()"
    environment = {**os.environ, "DRAIN": "0.1"}
    run = (
        "import os, sys; from pathlib import Path; from coin_platform.runtime import guard; guard.DRAIN_SECONDS = 0.1; "
        "sys.exit(guard.main(Path(sys.argv[1]), sys.argv[2:]))"
    )
    log = tmp_path / "logs" / "log"
    command = [sys.executable, "-c", run, str(log), sys.executable, "-c", stubborn]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True) as process:
        until(lambda: log.exists() and log.read_text() == "begun\n", 30)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 247  # what is left of -9


def test_D11_a_command_that_ends_by_itself_ends_its_guard_with_its_code(tmp_path: Path) -> None:
    process = guard.start(
        [sys.executable, "-c", "print('said'); raise SystemExit(7)"], tmp_path / "log", dict(os.environ)
    )
    try:
        assert process.wait(30) == 7
    finally:
        guard.end(process)
    assert (tmp_path / "log").read_text() == "said\n"


def test_D11_a_terminal_that_closes_ends_a_process_unless_nohup_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(ending_signals()) == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    assert set(ending_signals()) == {signal.SIGINT, signal.SIGTERM}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_D11_a_command_that_serves_ends_in_order(number: signal.Signals, tmp_path: Path) -> None:
    serve = (
        "import asyncio; from coin_platform.runtime.stop import until_signal\n"
        "async def work(stop):\n    print('begun', flush=True)\n    await stop.wait()\n    print('drained')\n"
        "until_signal(work)"
    )
    with subprocess.Popen([sys.executable, "-c", serve], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        assert process.stdout.read() == b"drained\n"
        assert process.wait(30) == 0


def test_D14_a_log_that_becomes_too_large_is_begun_anew_and_its_writers_go_on(tmp_path: Path) -> None:
    log = tmp_path / "dagster.log"
    rotate(log, 10, 2)
    with log.open("ab", buffering=0) as writer:
        for number in range(5):
            writer.write(f"{number}".encode() * 11)
            rotate(log, 10, 2)
            assert log.stat().st_size == 0
        writer.write(b"now")
        rotate(log, 10, 2)
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"dagster.log": "now", "dagster.log.1": "4" * 11, "dagster.log.2": "3" * 11}


def test_D14_a_log_survives_a_start(tmp_path: Path) -> None:
    for word in ("first", "second"):
        process = guard.start([sys.executable, "-c", f"print('{word}')"], tmp_path / "log", dict(os.environ))
        assert process.wait(30) == 0
        guard.end(process)
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def _runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
