"""Run a command that ends, with all that it starts, when its owner ends. Owners are `coin up` and the demo.

The owner starts `python -m coin_platform.runtime.guard LOG COMMAND…` in a session of its own, with a pipe as standard
input. Only the owner holds the other end of that pipe. So the guard sees the owner's end, also an end by `kill -9`.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from coin_platform.runtime.log_files import rotate
from coin_platform.runtime.processes import ending_signals

DRAIN_SECONDS = 20.0  # long runs have so long to store their records; then they are ended by force
LOG_BYTES = 10_000_000  # a log is begun anew at this size
OLD_LOGS = 3  # so many former logs are kept
_LOOK_SECONDS = 0.5  # between two looks at the log's size


def start(
    command: Sequence[str],
    log: Path,
    environment: dict[str, str],
    keep_open: Sequence[int] = (),
    folder: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a command in `folder` under a guard that ends it when this process ends. Append its output to `log`.

    The guard holds the descriptors `keep_open` until the last process of its group has ended.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "coin_platform.runtime.guard", str(log), *command],
        env=environment,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=keep_open,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a command that was started under a guard: first by SIGINT, so that long runs drain, then by force."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(DRAIN_SECONDS + 5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(log: Path, command: Sequence[str]) -> int:
    """Run the command until it ends, a signal comes, or the owner is gone. Return its exit code."""
    is_asked = False

    def ask(*_: object) -> None:
        nonlocal is_asked
        is_asked = True

    for number in ending_signals():
        signal.signal(number, ask)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    while not is_asked and process.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
        is_asked = is_asked or bool(readable)
        with contextlib.suppress(OSError):  # a full disk must not end the command
            rotate(log, LOG_BYTES, OLD_LOGS)
    _end_group(process)
    return process.wait()


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask all other processes of this process's group to end, then end them by force."""
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)
    os.killpg(0, signal.SIGINT)
    deadline = time.monotonic() + DRAIN_SECONDS
    while others := _others():
        process.poll()
        if time.monotonic() > deadline:
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _others() -> list[int]:
    """Return the ids of the other processes of this process's group."""
    group, others = os.getpgrp(), []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            is_ours = process.pid != os.getpid() and os.getpgid(process.pid) == group
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                others.append(process.pid)
    return others


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
