"""A service as a process on loopback: started, watched, ended."""

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
PATIENCE = 90.0  # seconds until a starting server counts as broken


class StackError(Exception):
    """A service cannot be started; one line with the remedy."""


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def is_listening(port: int) -> bool:
    """Whether somebody takes connections at a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Process:
    """A server's process, known by its pid file: it outlives who started it, and is found again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its id while it runs."""
        if self._child is not None and self._child.poll() is not None:
            return None
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid, started = (self.folder / "pid").read_text().split()
            if _started(int(pid)) == started:  # or another process has that id by now
                return int(pid)
        return None

    def start(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """Start it, detached from our terminal, unless it runs."""
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
        (self.folder / "pid").write_text(f"{self._child.pid} {_started(self._child.pid)}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if (pid := self.pid) is not None:
            os.kill(pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 30.0) -> None:
        """End it, in the end by force, and wait until it has gone."""
        self.send(number)
        deadline = time.monotonic() + patience
        while self.pid is not None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.05)
        if self._child is not None:
            self._child.wait()
        (self.folder / "pid").unlink(missing_ok=True)


def _started(pid: int) -> str:
    """Return when a process was started; empty when there is none (or only its remains)."""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return ""


class Service(ABC):
    """A real service with all it keeps in `folder`."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    @abstractmethod
    def processes(self) -> list[Process]:
        """Its processes."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def launch(self) -> None:
        """Start the processes that do not run. Raises `StackError` when something it needs is missing."""

    @abstractmethod
    def is_healthy(self) -> bool:
        """Whether it does its work now."""

    def start(self) -> None:
        """Start it and wait until it does its work; do nothing where it does. Raises `StackError` if it does not."""
        self.launch()
        deadline = time.monotonic() + PATIENCE
        while not self.is_healthy():
            if any(process.pid is None for process in self.processes) or time.monotonic() > deadline:
                logs = ", ".join(str(process.folder / "log") for process in self.processes)
                raise StackError(f"{self.name} does not start; see {logs}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it."""
        for process in self.processes:
            process.end()

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
