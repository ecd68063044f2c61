"""Start and end the simulator, Dagster and the services."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from coin_platform.errors import DemoError, SettingsError
from coin_platform.runtime import guard
from coin_platform.runtime.processes import ending_signals
from coin_platform.settings import load
from coin_platform.simulator import VENUES

console = Console(force_terminal=False, width=140, highlight=False)
CHECKOUT = Path(__file__).resolve().parents[2]
UI_PORT = 3000
DAGSTER_DEV = ("-m", "coin_platform.orchestration.ui", "dev")  # `dagster dev`, its UI under its own names only
RATE = 2  # steps of the market a second: ten exchanges, collectors, workers and windows share two cores


def free_port(wanted: int) -> int:
    """Return a port of 127.0.0.1 that nobody uses, `wanted` if possible."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SettingsError("no free port on 127.0.0.1")


def set_up_home(dagster_home: Path) -> None:
    """Give a home of Dagster's our settings of it, unless it has some: without them runs get into each other's way."""
    dagster_home.mkdir(parents=True, exist_ok=True)
    if not (dagster_home / "dagster.yaml").exists():
        shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", dagster_home)


@contextlib.contextmanager
def stack(root: Path, folder: Path, services: Sequence[str]) -> Iterator[dict[str, str]]:
    """Start real services of our own on free ports; yield the settings that lead to them."""
    if not services:
        yield {}
        return
    ports = ["--kafka-port", str(free_port(9092)), "--s3-port", str(free_port(8333))]
    command = [sys.executable, "-m", "infra.stack", "--folder", str(folder), *ports, "hold", *services]
    log, ready = folder / "stack.log", folder / "settings.env"
    console.print(f"starting {' and '.join(services)}")
    holder = guard.start(command, log, dict(os.environ), folder=root)
    try:
        while not ready.exists() or not ready.read_text():
            if holder.poll() is not None:
                raise DemoError(f"the services did not start: {' '.join(services)}; see {log}")
            time.sleep(0.2)
        yield dict(line.split("=", 1) for line in ready.read_text().split())
    finally:
        guard.end(holder)


def environment_(root: Path, home: Path, addresses: dict[str, str]) -> dict[str, str]:
    """Give this process and its children the demo's settings: minute windows, own home, own ports."""
    set_up_home(home / "dagster_home")
    os.environ |= {
        "COIN_HOME": str(home),
        "COIN_EXCHANGES_MODE": "simulated",
        "COIN_EXCHANGES": ",".join(VENUES),
        "COIN_WINDOW": "1m",
        "COIN_GRACE": "3s",
        "COIN_BATCH_INTERVAL": "1",
        "COIN_START": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z"),
        "COIN_SIMULATOR_PORT": str(free_port(load().simulator_port)),
        "DAGSTER_HOME": str(home / "dagster_home"),
        **addresses,
    }
    load.cache_clear()
    return dict(os.environ)


@contextlib.contextmanager
def children(
    home: Path, environment: dict[str, str], port: int, lock: Sequence[int], *, simulated: bool = True
) -> Iterator[tuple[subprocess.Popen[bytes], ...]]:
    """Start the simulator and `dagster dev`, each with its log; end them, and all they started, on exit.

    SIGTERM and a closed terminal are as Ctrl-C from here on, also where a script's background ignores that. Where this
    process is killed, the guards of the children end them, and hold the descriptors `lock` until then.
    """
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
    commands = {"dagster": [*DAGSTER_DEV, "-w", str(CHECKOUT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]}
    if simulated:
        commands = {"simulator": ["-m", "coin_platform", "simulate", "--seed", "7", "--rate", str(RATE)], **commands}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, arguments in commands.items():
            log = home / "data" / "logs" / f"{name}.log"
            started.append(guard.start([sys.executable, *arguments], log, environment, lock))
        yield tuple(started)
    finally:
        for process in reversed(started):
            guard.end(process)
