"""Start and end the processes of `coin up` and `coin demo`: the simulator, Dagster, and real services."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from coin_platform.demo.console import console
from coin_platform.demo.pairs import MORE_PAIRS
from coin_platform.errors import DemoError
from coin_platform.runtime import guard
from coin_platform.runtime.ports import free_port
from coin_platform.runtime.processes import ending_signals
from coin_platform.settings import load
from coin_platform.simulator import VENUES

CHECKOUT = Path(__file__).resolve().parents[2]
UI_PORT = 3000
DAGSTER_DEV = ("-m", "coin_platform.orchestration.ui", "dev")  # `dagster dev`, with the UI's check of host names
SERVE: dict[str, Sequence[str]] = {"serve": ("-m", "coin_platform", "serve")}  # the control API and the live feed
MARKET_STEPS_PER_SECOND = 2  # few: ten exchanges, collectors, workers and windows share two cores


def set_up_home(dagster_home: Path) -> None:
    """Copy our `dagster.yaml`, which limits the runs at the same time, into a home of Dagster that has none."""
    dagster_home.mkdir(parents=True, exist_ok=True)
    if not (dagster_home / "dagster.yaml").exists():
        shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", dagster_home)


@contextlib.contextmanager
def stack(root: Path, folder: Path, services: Sequence[str]) -> Iterator[dict[str, str]]:
    """Start real services on free ports, and yield the settings that lead to them. End the services on exit.

    Raises `DemoError` if they do not start.
    """
    if not services:
        yield {}
        return
    ports = ["--kafka-port", str(free_port(9092)), "--s3-port", str(free_port(8333))]
    command = [sys.executable, "-m", "infra.stack", "--folder", str(folder), *ports, "hold", *services]
    log, ready = folder / "stack.log", folder / "settings.env"
    console.print(f"starting {' and '.join(services)}")
    services_process = guard.start(command, log, dict(os.environ), folder=root)
    try:
        while not ready.exists() or not ready.read_text():
            if services_process.poll() is not None:
                raise DemoError(f"{' and '.join(services)} did not start; see {log}")
            time.sleep(0.2)
        yield dict(line.split("=", 1) for line in ready.read_text().split())
    finally:
        guard.end(services_process)


def set_up_environment(home: Path, addresses: dict[str, str]) -> dict[str, str]:
    """Give this process the settings of the demo: windows of a minute, its own home and ports.

    Return the environment for child processes.
    """
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
        "COIN_SERVE_HOST": "127.0.0.1",
        "COIN_SERVE_PORT": str(free_port(load().serve_port)),
        "COIN_FEED_PORT": str(free_port(load().feed_port)),
        "DAGSTER_HOME": str(home / "dagster_home"),
        **addresses,
    }
    load.cache_clear()
    return dict(os.environ)


def simulate() -> dict[str, Sequence[str]]:
    """Return the command of the simulated exchanges."""
    options = {"--seed": 7, "--rate": MARKET_STEPS_PER_SECOND, "--more-pairs": MORE_PAIRS}
    words = [str(word) for option in options.items() for word in option]
    return {"simulator": ["-m", "coin_platform", "simulate", *words]}


def dagster_dev(port: int) -> dict[str, Sequence[str]]:
    """Return the command of Dagster's UI and daemon."""
    where = ["-w", str(CHECKOUT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    return {"dagster": [*DAGSTER_DEV, *where]}


@contextlib.contextmanager
def children(
    home: Path, environment: dict[str, str], locks: Sequence[int], commands: Mapping[str, Sequence[str]]
) -> Iterator[tuple[subprocess.Popen[bytes], ...]]:
    """Start Python with these arguments, each with its log. End all they started on exit, the last one first.

    1. From here on SIGTERM and a closed terminal act as Ctrl-C, also in the background of a script.
    2. If this process is killed, the guards of the children end the children. The guards hold the descriptors
       `locks` until then.
    """
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, arguments in commands.items():
            log = home / "data" / "logs" / f"{name}.log"
            started.append(guard.start([sys.executable, *arguments], log, environment, locks))
        yield tuple(started)
    finally:
        for process in reversed(started):
            guard.end(process)
