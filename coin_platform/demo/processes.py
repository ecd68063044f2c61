"""Start and end the processes of `coin up` and `coin demo`: the simulator, Dagster, and real services."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
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
        "DAGSTER_HOME": str(home / "dagster_home"),
        **addresses,
    }
    load.cache_clear()
    return dict(os.environ)


@contextlib.contextmanager
def children(
    home: Path,
    environment: dict[str, str],
    port: int,
    locks: Sequence[int],
    *,
    simulated: bool = True,
    with_api: bool = False,
) -> Iterator[tuple[subprocess.Popen[bytes], ...]]:
    """Start the simulator, `dagster dev` and the control API, each with its log. End all they started on exit.

    1. From here on SIGTERM and a closed terminal act as Ctrl-C, also in the background of a script.
    2. If this process is killed, the guards of the children end the children. The guards hold the descriptors
       `locks` until then.
    """
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
    commands = {"dagster": [*DAGSTER_DEV, "-w", str(CHECKOUT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]}
    if simulated:
        options = {"--seed": 7, "--rate": MARKET_STEPS_PER_SECOND, "--more-pairs": MORE_PAIRS}
        words = [str(word) for option in options.items() for word in option]
        commands = {
            "simulator": ["-m", "coin_platform", "simulate", *words],
            **commands,
        }
    if with_api:
        commands["serve"] = ["-m", "coin_platform", "serve"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, arguments in commands.items():
            log = home / "data" / "logs" / f"{name}.log"
            started.append(guard.start([sys.executable, *arguments], log, environment, locks))
        yield tuple(started)
    finally:
        for process in reversed(started):
            guard.end(process)
