"""`coin demo` and `coin up`: run the platform end to end.

The demo runs simulated exchanges, collectors, windows and checks, and ends with a report whose numbers must add up.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from coin_platform.demo import pairs
from coin_platform.demo.accounts import dagster_failures, report
from coin_platform.demo.console import console
from coin_platform.demo.feed_client import feed_client
from coin_platform.demo.processes import (
    SERVE,
    UI_PORT,
    children,
    dagster_dev,
    set_up_environment,
    set_up_home,
    simulate,
    stack,
)
from coin_platform.demo.watch import TABLE_LOOK_SECONDS, Watch
from coin_platform.lake import open_lake
from coin_platform.runtime import guard
from coin_platform.runtime.home_lock import held
from coin_platform.runtime.ports import free_port
from coin_platform.selection import exchanges_of
from coin_platform.settings import Mode, Settings, load
from coin_platform.simulator import VENUES

EARLY_SECONDS = 6  # the exchanges end so long before a window does, so that all they sent is in that window


def run(seconds: int, services: Sequence[str] = ()) -> int:
    """Run the demo within `seconds`, on the local journal and a folder, or on the real services `kafka`, `seaweedfs`.

    Return 0 only if every message sent is stored once, and every check passed.
    """
    root = load().home
    home = root / "data" / "demo"
    with held(root / "data" / "demo.lock", "coin demo", f"it writes {home}; wait for its end, or end it") as lock:
        shutil.rmtree(home, ignore_errors=True)
        return _run_with(services, root, home, seconds, lock)


def _run_with(services: Sequence[str], root: Path, home: Path, seconds: int, lock: int) -> int:
    with stack(root, home / "stack", services) as addresses:
        environment = set_up_environment(home, addresses)
        if "kafka" in services:
            subprocess.run([sys.executable, "-m", "coin_platform", "topics", "create"], env=environment, check=True)
        return _run(load(), home, environment, time.monotonic() + seconds, lock)


def _run(settings: Settings, home: Path, environment: dict[str, str], deadline: float, lock: int) -> int:
    port = free_port(UI_PORT)
    commands = {**simulate(), **dagster_dev(port)}
    lake, names = open_lake(settings), [exchange.name for exchange in exchanges_of(None, settings)]
    with (
        children(home, environment, [lock], SERVE),
        feed_client(f"http://127.0.0.1:{settings.serve_port}", deadline) as client,  # before there is anything to tell
        children(home, environment, [lock], commands) as (simulator, dagster),
    ):
        console.print(f"Dagster UI: http://127.0.0.1:{port} (logs in {home})")
        watch = Watch(settings, home, deadline, (simulator, dagster))
        watch.until("the first frames of every exchange and channel", watch.has_frames)
        pairs.change(settings)
        watch.until("the collectors to follow the changed pairs", lambda: pairs.is_followed(settings))
        followed = datetime.now(UTC)
        stop_at = _minute_after(2) - EARLY_SECONDS
        watch.until("the end of the second window", lambda: time.time() >= stop_at)
        ended = datetime.now(UTC)  # later gaps are there on purpose
        simulator.send_signal(signal.SIGTERM)
        simulator.wait(guard.DRAIN_SECONDS)
        watch.fix_windows()
        watch.until("all windows in the tables", watch.is_complete, TABLE_LOOK_SECONDS)
        failures = dagster_failures(home) + pairs.failures(lake, followed) + client.last_failures(lake, names)
        console.print(f"a client of the live feed got {client.count} records")
    return report(settings, home, ended, failures)


def stay_up() -> int:
    """Run `dagster dev`, the control API, and simulated exchanges if the settings say so, until Ctrl-C or SIGTERM.

    Return 1 if one of these processes ends by itself.
    """
    settings = load()
    home, port = settings.home, free_port(UI_PORT)
    api_port, feed_port = free_port(settings.serve_port), free_port(settings.feed_port)
    environment = {"DAGSTER_HOME": str(home / "dagster_home"), **os.environ, "COIN_SERVE_PORT": str(api_port)}
    environment["COIN_FEED_PORT"] = str(feed_port)
    simulated = settings.exchanges_mode is Mode.SIMULATED
    if simulated:
        environment.setdefault("COIN_EXCHANGES", ",".join(VENUES))
    remedy = "end it first, or set another COIN_HOME and DAGSTER_HOME"
    with ExitStack() as exits:
        # Dagster's home has a lock too: two daemons on one home cancel each other's runs.
        folders = dict.fromkeys((home / "data", Path(environment["DAGSTER_HOME"])))
        locks = [exits.enter_context(held(folder / "up.lock", "coin up", remedy)) for folder in folders]
        set_up_home(Path(environment["DAGSTER_HOME"]))
        commands = {**(simulate() if simulated else {}), **dagster_dev(port), **SERVE}
        started = children(home, environment, locks, commands)
        processes = exits.enter_context(started)
        console.print(f"Dagster UI: http://127.0.0.1:{port}; Ctrl-C ends it")
        console.print(f"monitor: http://{settings.serve_host}:{api_port}/")
        console.print(f"control API: http://{settings.serve_host}:{api_port}/docs")
        console.print(f"live feed: ws://{settings.serve_host}:{feed_port}/ws/exchange")
        try:
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
        except KeyboardInterrupt:
            return 0
    console.print(f"a process ended by itself; its log is in {home / 'data' / 'logs'}")
    return 1


def _minute_after(count: int) -> float:
    """Return the start of the `count`th minute after this one, in seconds since 1970."""
    return (time.time() // 60 + count) * 60
