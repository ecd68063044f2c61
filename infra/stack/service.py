"""Run a real service as processes on loopback: start it, watch it, end it."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90.0  # for a service to answer; a slow machine starts Kafka in 30 s


class StackError(Exception):
    """A service cannot be started. The text is one line with the remedy."""


def is_listening(port: int) -> bool:
    """Return whether a process takes connections at a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Process:
    """A process of a server. It outlives the command that started it; the file `pid` in its folder finds it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process while it runs."""
        if self._child is not None and self._child.poll() is not None:
            return None
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid, started = (self.folder / "pid").read_text().split()
            if _start_time(int(pid)) == started:  # otherwise another process has this id now
                return int(pid)
        return None

    def start(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """Start the process, detached from this terminal. Do nothing if it runs."""
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(f"{self._child.pid} {_start_time(self._child.pid)}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process if it runs."""
        if (pid := self.pid) is not None:
            os.kill(pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 30.0) -> None:
        """End the process and wait for its end. Kill it after `patience` seconds."""
        self.send(number)
        deadline = time.monotonic() + patience
        while self.pid is not None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.05)
        if self._child is not None:
            self._child.wait()
        (self.folder / "pid").unlink(missing_ok=True)


def _start_time(pid: int) -> str:
    """Return the start time of a process, or nothing if it does not run."""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return ""


class Service(ABC):
    """A real service, which keeps everything in `folder`."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    @abstractmethod
    def processes(self) -> list[Process]:
        """The processes of the service."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The address for clients."""

    @abstractmethod
    def launch(self) -> None:
        """Start the processes that do not run. Raises `StackError` if something that they need is missing."""

    @abstractmethod
    def is_healthy(self) -> bool:
        """Return whether the service does its work now."""

    def start(self) -> None:
        """Start the service and wait until it does its work. Raises `StackError` if it does not start."""
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self.is_healthy():
            if any(process.pid is None for process in self.processes) or time.monotonic() > deadline:
                logs = ", ".join(str(process.folder / "log") for process in self.processes)
                raise StackError(f"{self.name} did not start; see {logs}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the service."""
        for process in self.processes:
            process.end()

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
