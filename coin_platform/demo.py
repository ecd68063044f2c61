"""The main job, end to end: simulated exchanges, collectors, windows, checks, and a report that must add up."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
from rich.console import Console
from rich.table import Table

from coin_platform.broker import connect
from coin_platform.collect.collector import exchanges_of
from coin_platform.errors import CoinPlatformError, SettingsError
from coin_platform.lake import Lake, open_lake
from coin_platform.model import Region, Window
from coin_platform.orchestration.assets import sources
from coin_platform.orchestration.reading import has_records
from coin_platform.preprocess.transform import Source
from coin_platform.settings import Mode, Settings, load
from coin_platform.simulator import VENUES
from coin_platform.simulator.server import digest

console = Console(force_terminal=False, width=120, highlight=False)

DRAIN = 20.0  # seconds that Dagster has to end its runs
UI_PORT = 3000


class DemoError(CoinPlatformError):
    """The demo's numbers do not add up, or it did not come to its end."""


def free_port(wanted: int) -> int:
    """Return a port of 127.0.0.1 that nobody uses, `wanted` if possible."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SettingsError("no free port on 127.0.0.1")


def run(seconds: int) -> int:
    """Run the demo within `seconds`; return 0 only if all that was sent is stored, once, and every check passed."""
    root = load().home
    home = root / "data" / "demo"
    shutil.rmtree(home, ignore_errors=True)
    environment = _environment(root, home)
    settings = Settings()
    deadline = time.monotonic() + seconds
    port = free_port(UI_PORT)
    with _children(home, environment, port) as (simulator, dagster):
        console.print(f"Dagster UI: http://127.0.0.1:{port} (logs in {home})")
        watch = _Watch(settings, home, deadline, (simulator, dagster))
        watch.until("first frames of every region", lambda: watch.regions_with_frames() == len(watch.regions))
        stop_at = _next_minute(2) - 6
        watch.until("the end of the second window", lambda: time.time() >= stop_at)
        simulator.send_signal(signal.SIGTERM)
        simulator.wait(10)
        watch.until("all windows materialised", watch.is_complete)
        failed = _failed_checks(home)
    return report(settings, home, failed)


def stay_up() -> int:
    """Run `dagster dev` and, unless live, the simulated exchanges until Ctrl-C or until one of them ends."""
    settings = load()
    home, port = settings.home, free_port(UI_PORT)
    environment = {"DAGSTER_HOME": str(home / "dagster_home"), **os.environ}
    simulated = settings.exchanges_mode is Mode.SIMULATED
    if simulated:
        environment.setdefault("COIN_EXCHANGES", ",".join(VENUES))
    with _children(home, environment, port, simulated=simulated) as processes:
        console.print(f"Dagster UI: http://127.0.0.1:{port}; Ctrl-C ends it")
        try:
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
        except KeyboardInterrupt:
            return 0
    console.print("a process ended by itself; see data/logs")
    return 1


def _environment(root: Path, home: Path) -> dict[str, str]:
    """Give this process and its children the demo's settings: minute windows, own home, own ports."""
    (home / "dagster_home").mkdir(parents=True)
    shutil.copy(root / "dagster_home" / "dagster.yaml", home / "dagster_home")
    os.environ |= {
        "COIN_HOME": str(home),
        "COIN_EXCHANGES_MODE": "simulated",
        "COIN_EXCHANGES": ",".join(VENUES),
        "COIN_WINDOW": "1m",
        "COIN_GRACE": "3s",
        "COIN_START": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z"),
        "COIN_SIMULATOR_PORT": str(free_port(load().simulator_port)),
        "DAGSTER_HOME": str(home / "dagster_home"),
    }
    load.cache_clear()
    return dict(os.environ)


@contextlib.contextmanager
def _children(
    home: Path, environment: dict[str, str], port: int, *, simulated: bool = True
) -> Iterator[tuple[subprocess.Popen[bytes], ...]]:
    """Start the simulator and `dagster dev`, each with its log; end them, and all they started, on exit."""
    logs = home / "data" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    workspace = Path(__file__).resolve().parent.parent / "workspace.yaml"
    commands = {"dagster": ["-m", "dagster", "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]}
    if simulated:
        commands = {"simulator": ["-m", "coin_platform", "simulate", "--seed", "7"], **commands}
    started = []
    try:
        for name, arguments in commands.items():
            with (logs / f"{name}.log").open("wb") as log:
                command = [sys.executable, *arguments]
                started.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )
        yield tuple(started)
    finally:
        for process in reversed(started):
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its group: first by Ctrl-C, so that long runs drain."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(DRAIN)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _next_minute(count: int) -> float:
    """Return when the `count`th minute from now begins, at least one whole minute away."""
    return (time.time() // 60 + count) * 60


class _Watch:
    """Looks at the journal and the lake until something is true, and shows how far it is."""

    def __init__(
        self, settings: Settings, home: Path, deadline: float, processes: tuple["subprocess.Popen[bytes]", ...]
    ) -> None:
        self._settings, self._home, self._deadline = settings, home, deadline
        self._simulator, self._dagster = processes
        self._lake, self._broker = open_lake(settings), connect(settings)
        self._sources = [source for kind in exchanges_of(None, settings) for source in sources(kind, settings)]
        self.regions = [region for region in Region if exchanges_of(region, settings)]

    def until(self, what: str, is_done: Callable[[], bool]) -> None:
        """Wait until `is_done()`. Raises `DemoError` when the time is over or Dagster ended."""
        console.print(f"waiting for: {what}")
        shown = 0.0
        while not is_done():
            if time.monotonic() > self._deadline:
                raise DemoError(f"{what}: not within the time; the logs are in {self._home / 'data' / 'logs'}")
            if self._dagster.poll() is not None:
                raise DemoError(f"dagster dev ended by itself; its log is {self._home / 'data/logs/dagster.log'}")
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                console.print(
                    f"  {datetime.now(UTC):%H:%M:%S}  {self._frames()} records, {self.finished()} windows done"
                )
            time.sleep(0.5)

    def regions_with_frames(self) -> int:
        """Return how many regions have stored something from each of their exchanges and channels."""
        return sum(
            all(
                self._end(source.topic, source.partition)
                for source in self._sources
                if source.exchange.region is region
            )
            for region in self.regions
        )

    def finished(self) -> int:
        """Return how many windows are in every table."""
        return len(set.intersection(*map(self._done, self._sources)))

    def is_complete(self) -> bool:
        """Whether every window that holds records of a source, up to the last one, is in that source's tables."""
        return all(self._wanted(source) <= self._done(source) for source in self._sources)

    def _wanted(self, source: Source) -> set[Window]:
        length = self._settings.window_length
        first, last = int(self._settings.start.timestamp() * 1e6), self._last_time() // length * length
        found = (Window(start, start + length) for start in range(first, last + length, length))
        return {window for window in found if has_records(self._broker, source, window)}

    def _done(self, source: Source) -> set[Window]:
        tables = (source.channel.value, "dead")
        return set.intersection(*(set(self._lake.windows(table, source.exchange.name)) for table in tables))

    def _last_time(self) -> int:
        newest = 0
        for source in self._sources:
            end = self._end(source.topic, source.partition)
            for record in self._broker.read(source.topic, source.partition, max(0, end - 1), end):
                newest = max(newest, record.time)
        return newest

    def _frames(self) -> int:
        return sum(self._end(source.topic, source.partition) for source in self._sources)

    def _end(self, topic: str, partition: int) -> int:
        return self._broker.end_offset(topic, partition)


def _failed_checks(home: Path) -> list[str]:
    """Return a line for each failed check and each failed window run, from Dagster's own event log."""
    import dagster as dg

    from coin_platform.orchestration.alerts import failed_checks

    with dg.DagsterInstance.from_config(str(home / "dagster_home")) as instance:
        runs = [run for run in instance.get_runs() if run.job_name.startswith("tables_")]
        lines = [line for run in runs for line in failed_checks(instance, run.run_id)]
        return lines + [f"run {run.run_id} of {run.job_name} failed" for run in runs if run.is_failure]


class Balance(NamedTuple):
    """What an exchange sent against what the lake holds."""

    sent: int
    missing: int
    double: int
    without_rows: int


def balance(lake: Lake, exchange: str, sent: Counter[str], data: Counter[str]) -> Balance:
    """Compare the hashes of sent messages with the stored frames, and sent market data with the rows made of it."""
    stored: Counter[str] = Counter()
    with_rows: Counter[str] = Counter()
    for channel in ("ticker", "orderbook"):
        frames = lake.scan(f"raw_{channel}", exchanges=[exchange]).filter(pl.col("kind") == "w").collect()
        offsets = set(lake.scan(channel, exchanges=[exchange]).select("offset").collect()["offset"])
        for offset, payload in frames.select("offset", "payload").iter_rows():
            name = digest(payload)
            stored[name] += 1
            with_rows[name] += offset in offsets
    return Balance(
        sent=sum(sent.values()),
        missing=(sent - stored).total(),
        double=(stored - sent).total(),
        without_rows=(data - with_rows).total(),
    )


def report(settings: Settings, home: Path, failed: list[str]) -> int:
    """Print what was sent and what is stored, per exchange; return 0 only if it adds up."""
    lake = open_lake(settings)
    sent: dict[str, Counter[str]] = {}
    data: dict[str, Counter[str]] = {}
    with (home / "data/simulator/sent.jsonl").open(encoding="utf-8") as log:
        for line in map(json.loads, log):
            sent.setdefault(line["exchange"], Counter())[line["hash"]] += 1
            if line["kind"] == "data":
                data.setdefault(line["exchange"], Counter())[line["hash"]] += 1
    table = Table(
        "exchange", "sent", "missing", "double", "no row", "rows", "dead", "gaps", "p50 ms", "p95", "p99", "files"
    )
    is_right = not failed
    for kind in exchanges_of(None, settings):
        name = kind.name
        found = balance(lake, name, sent.get(name, Counter()), data.get(name, Counter()))
        rows = pl.concat(
            [
                lake.scan(channel, exchanges=[name]).select("received_time", "exchange_time").collect()
                for channel in _CURATED
            ]
        )
        late = (rows["received_time"] - rows["exchange_time"]).dt.total_microseconds() / 1000
        windows = {t: lake.windows(t, name) for t in (*_CURATED, *(f"raw_{c}" for c in _CURATED), "dead")}
        facts = [lake.provenance(channel, name, window) or {} for channel in _CURATED for window in windows[channel]]
        gaps = sum(int(fact["missing"]) + int(fact["faults"]) for fact in facts)
        dead = lake.scan("dead", exchanges=[name]).collect().height
        quantiles = [late.quantile(q) for q in (0.5, 0.95, 0.99)]
        numbers = [found.sent, found.missing, found.double, found.without_rows, rows.height, dead, gaps]
        files = sum(map(len, windows.values()))
        table.add_row(name, *map(str, numbers), *(f"{value or 0:.1f}" for value in quantiles), str(files))
        is_right = (
            is_right and found.sent > 0 and not (found.missing or found.double or found.without_rows or dead or gaps)
        )
    console.print(table)
    for line in failed:
        console.print(f"FAILED {line}")
    console.print("everything adds up: sent = stored" if is_right else "the numbers do NOT add up")
    return 0 if is_right else 1


_CURATED = ("ticker", "orderbook")
