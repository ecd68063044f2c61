"""P18: many small windows in one warm process."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.compare import Outcome, in_turns, same
from benchmarks.messages import START
from coin_platform.broker import LocalBroker
from coin_platform.lake import open_lake
from coin_platform.model import SECOND
from coin_platform.settings import Settings
from coin_platform.simulator.faults import Faults
from tests.kit.hour import Clock, World

MINUTE = 60 * SECOND
WINDOWS = 24


def run(folder: Path) -> Iterator[Outcome]:
    """Measure in `folder`: the command, from its start to its end, each time into an empty lake."""
    start = START // MINUTE * MINUTE
    begin = datetime.fromtimestamp(start // SECOND, UTC)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COIN_", "DAGSTER_"))}
    environment |= {
        "COIN_HOME": str(folder),
        "COIN_EXCHANGES": "upbit",
        "COIN_WINDOW": "1m",
        "COIN_START": f"{begin:%Y-%m-%dT%H:%M}",
    }
    _log(folder, start)
    lakes = 0

    def make(count: int) -> None:
        nonlocal lakes
        lakes += 1
        end = begin + timedelta(minutes=count)
        period = ["--from", f"{begin:%Y-%m-%dT%H:%M}", "--to", f"{end:%Y-%m-%dT%H:%M}"]
        command = [sys.executable, "-W", "ignore", "-m", "coin_platform", "lake", "backfill", *period]
        lake = {"COIN_LAKE_URL": f"file:lake-{lakes}"}
        subprocess.run(command, env=environment | lake, check=True, stdout=subprocess.DEVNULL)
        settings = Settings(home=folder, window=timedelta(minutes=1), lake_url=lake["COIN_LAKE_URL"])
        same(len(open_lake(settings).windows("orderbook", "upbit")), count, "P18")

    make(1)
    taken = in_turns({"one": lambda: make(1), "many": lambda: make(WINDOWS)}, rounds=3, clock=time.perf_counter)
    seconds_each = (taken["many"] - taken["one"]) / (WINDOWS - 1)
    note = f"{taken['one']:.1f} s for one, {seconds_each:.2f} s for each more, of all tables of an exchange"
    value = taken["many"] / taken["one"]
    yield Outcome("P18", f"{WINDOWS} windows in one process, to one", value, must=3, is_least=False, note=note)


def _log(folder: Path, start: int) -> None:
    clock = Clock(start)
    settings = Settings(home=folder, exchanges=("upbit",), window=timedelta(minutes=1))
    folder = settings.path(settings.journal_dir)
    broker = LocalBroker(folder, clock=lambda: clock.time, monotonic=lambda: clock.time / SECOND)
    world = World(["upbit"], broker, clock, settings, faults=Faults())
    while clock.time < start + (WINDOWS + 1) * MINUTE:
        world.run(1, 6 * SECOND)
        broker.flush()  # a record's time is that of its commit
    broker.close()
