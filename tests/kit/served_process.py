"""The control API as a process of its own, for tests."""

import contextlib
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from coin_platform.runtime.ports import free_ports
from tests.kit.waiting import until


@contextlib.contextmanager
def running(home: Path, **settings: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run `coin serve api` on a port of its own, and wait until it listens."""
    [port] = free_ports(1)
    names = {"COIN_HOME": str(home), "COIN_SERVE_PORT": str(port)}
    environment = {**os.environ, **names, **{f"COIN_{name}": value for name, value in settings.items()}}
    with (home / "log").open("wb") as log:
        command = [sys.executable, "-m", "coin_platform", "serve", "api"]
        process = subprocess.Popen(command, env=environment, cwd=home, stderr=log)
        try:
            until(lambda: process.poll() is not None or "listens at" in (home / "log").read_text(), 60)
            yield port, process
        finally:
            process.kill()
            process.wait()


def status(port: int, path: str, **headers: str) -> int:
    """Return the status of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
