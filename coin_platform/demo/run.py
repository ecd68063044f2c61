"""The main job, end to end: simulated exchanges, collectors, windows, checks, and a report that must add up."""

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

from coin_platform.demo.accounts import failures, report
from coin_platform.demo.processes import UI_PORT, children, console, environment_, free_port, set_up_home, stack
from coin_platform.demo.watch import BEAT, Watch
from coin_platform.runtime import guard
from coin_platform.runtime.home_lock import held
from coin_platform.settings import Mode, Settings, load
from coin_platform.simulator import VENUES


def run(seconds: int, services: Sequence[str] = ()) -> int:
    """Run the demo within `seconds` on the embedded default or on real `services`: `kafka`, `seaweedfs`.

    Return 0 only if all that was sent is stored, once, and every check passed.
    """
    root = load().home
    home = root / "data" / "demo"
    with held(root / "data" / "demo.lock", "coin demo", f"it writes {home}; wait for it or end it") as lock:
        shutil.rmtree(home, ignore_errors=True)
        return _run_with(services, root, home, seconds, lock)


def _run_with(services: Sequence[str], root: Path, home: Path, seconds: int, lock: int) -> int:
    with stack(root, home / "stack", services) as addresses:
        environment = environment_(root, home, addresses)
        if "kafka" in services:
            subprocess.run([sys.executable, "-m", "coin_platform", "topics", "create"], env=environment, check=True)
        return _run(load(), home, environment, time.monotonic() + seconds, lock)


def _run(settings: Settings, home: Path, environment: dict[str, str], deadline: float, lock: int) -> int:
    port = free_port(UI_PORT)
    with children(home, environment, port, [lock]) as (simulator, dagster):
        console.print(f"Dagster UI: http://127.0.0.1:{port} (logs in {home})")
        watch = Watch(settings, home, deadline, (simulator, dagster))
        watch.until("first frames of every region", lambda: watch.regions_with_frames() == len(watch.regions))
        stop_at = _next_minute(2) - 6
        watch.until("the end of the second window", lambda: time.time() >= stop_at)
        ended = datetime.now(UTC)  # what is missing from now on is missing on purpose
        simulator.send_signal(signal.SIGTERM)
        simulator.wait(guard.DRAIN_SECONDS)
        watch.fix_end()
        watch.until("all windows materialised", watch.is_complete, BEAT)
        failed = failures(home)
    return report(settings, home, ended, failed, console)


def stay_up() -> int:
    """Run `dagster dev` and, unless live, the simulated exchanges until Ctrl-C, SIGTERM, or until one of them ends."""
    settings = load()
    home, port = settings.home, free_port(UI_PORT)
    environment = {"DAGSTER_HOME": str(home / "dagster_home"), **os.environ}
    simulated = settings.exchanges_mode is Mode.SIMULATED
    if simulated:
        environment.setdefault("COIN_EXCHANGES", ",".join(VENUES))
    remedy = "end that one first, or set another COIN_HOME and DAGSTER_HOME"
    with ExitStack() as stack:
        # Dagster's home too: two daemons on one of them cancel each other's runs.
        folders = dict.fromkeys((home / "data", Path(environment["DAGSTER_HOME"])))
        locks = [stack.enter_context(held(folder / "up.lock", "coin up", remedy)) for folder in folders]
        set_up_home(Path(environment["DAGSTER_HOME"]))
        processes = stack.enter_context(children(home, environment, port, locks, simulated=simulated))
        console.print(f"Dagster UI: http://127.0.0.1:{port}; Ctrl-C ends it")
        try:
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
        except KeyboardInterrupt:
            return 0
    console.print("a process ended by itself; see data/logs")
    return 1


def _next_minute(count: int) -> float:
    """Return when the `count`th minute from now begins, at least one whole minute away."""
    return (time.time() // 60 + count) * 60
