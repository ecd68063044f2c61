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
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
from rich.console import Console
from rich.table import Table

from coin_platform.broker import connect
from coin_platform.collect.collector import exchanges_of
from coin_platform.errors import CoinPlatformError, SettingsError
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Lake, open_lake
from coin_platform.model import Microseconds, Region, Window
from coin_platform.orchestration.reading import has_records
from coin_platform.preprocess.transform import Outcome, Source
from coin_platform.report import Summary, write
from coin_platform.settings import Mode, Settings, load
from coin_platform.simulator import VENUES
from coin_platform.simulator.server import digest
from coin_platform.sources import sources
from coin_platform.wire import processed_topic

console = Console(force_terminal=False, width=140, highlight=False)

DRAIN = 20.0  # seconds that Dagster has to end its runs
UI_PORT = 3000
RATE = 2  # steps of the market a second: ten exchanges, collectors, workers and windows share two cores


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


def run(seconds: int, services: Sequence[str] = ()) -> int:
    """Run the demo within `seconds` on the embedded default or on real `services`: `kafka`, `seaweedfs`.

    Return 0 only if all that was sent is stored, once, and every check passed.
    """
    root = load().home
    home = root / "data" / "demo"
    shutil.rmtree(home, ignore_errors=True)
    with _stack(root, home / "stack", services) as addresses:
        environment = _environment(root, home, addresses)
        if "kafka" in services:
            subprocess.run([sys.executable, "-m", "coin_platform", "topics", "create"], env=environment, check=True)
        return _run(Settings(), home, environment, time.monotonic() + seconds)


def _run(settings: Settings, home: Path, environment: dict[str, str], deadline: float) -> int:
    port = free_port(UI_PORT)
    with _children(home, environment, port) as (simulator, dagster):
        console.print(f"Dagster UI: http://127.0.0.1:{port} (logs in {home})")
        watch = _Watch(settings, home, deadline, (simulator, dagster))
        watch.until("first frames of every region", lambda: watch.regions_with_frames() == len(watch.regions))
        stop_at = _next_minute(2) - 6
        watch.until("the end of the second window", lambda: time.time() >= stop_at)
        ended = datetime.now(UTC)  # what is missing from now on is missing on purpose
        simulator.send_signal(signal.SIGTERM)
        simulator.wait(10)
        watch.fix_end()
        watch.until("all windows materialised", watch.is_complete)
        failed = _failed_checks(home)
    return report(settings, home, ended, failed)


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


@contextlib.contextmanager
def _stack(root: Path, folder: Path, services: Sequence[str]) -> Iterator[dict[str, str]]:
    """Start real services of our own on free ports; yield the settings that lead to them."""
    if not services:
        yield {}
        return
    ports = ["--kafka-port", str(free_port(9092)), "--s3-port", str(free_port(8333))]
    stack = [sys.executable, "-m", "infra.stack", "--folder", str(folder), *ports]
    try:
        if subprocess.run([*stack, "up", *services], cwd=root, check=False).returncode:
            raise DemoError(f"the services did not start: {' '.join(services)}")
        yield dict(line.split("=", 1) for line in (folder / "settings.env").read_text().split())
    finally:
        subprocess.run([*stack, "down", *services], cwd=root, check=True)


def _environment(root: Path, home: Path, addresses: dict[str, str]) -> dict[str, str]:
    """Give this process and its children the demo's settings: minute windows, own home, own ports."""
    (home / "dagster_home").mkdir(parents=True)
    shutil.copy(root / "dagster_home" / "dagster.yaml", home / "dagster_home")
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
def _children(
    home: Path, environment: dict[str, str], port: int, *, simulated: bool = True
) -> Iterator[tuple[subprocess.Popen[bytes], ...]]:
    """Start the simulator and `dagster dev`, each with its log; end them, and all they started, on exit."""
    logs = home / "data" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    workspace = Path(__file__).resolve().parent.parent / "workspace.yaml"
    commands = {"dagster": ["-m", "dagster", "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]}
    if simulated:
        commands = {"simulator": ["-m", "coin_platform", "simulate", "--seed", "7", "--rate", str(RATE)], **commands}
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
        self._end_time: Microseconds = 0
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
        """Return how many windows of an exchange's channel are in their tables."""
        return sum(len(self._done(source)) for source in self._sources)

    def fix_end(self) -> None:
        """Want no windows later than now: collectors go on logging that they are there."""
        self._end_time = self._last_time()

    def is_complete(self) -> bool:
        """Whether every window that holds records of a source, up to the last one, is in that source's tables."""
        return all(self._wanted(source) <= self._done(source) for source in self._sources)

    def _wanted(self, source: Source) -> set[Window]:
        length = self._settings.window_length
        first, last = int(self._settings.start.timestamp() * 1e6), self._end_time // length * length
        found = (Window(start, start + length) for start in range(first, last + length, length))
        return {window for window in found if has_records(self._broker, source, window)}

    def _done(self, source: Source) -> set[Window]:
        tables = (source.channel.value, "dead", "gap")
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
    """Return a line for each failed check and each failed window run, from Dagster's own event log.

    Not for gaps: the exchanges end before the last window, so the report counts those that began before.
    """
    import dagster as dg

    from coin_platform.orchestration.alerts import failed_checks

    with dg.DagsterInstance.from_config(str(home / "dagster_home")) as instance:
        runs = [run for run in instance.get_runs() if run.job_name.startswith("tables_")]
        lines = [line for run in runs for line in failed_checks(instance, run.run_id) if ": no_gap: " not in line]
        return lines + [f"run {run.run_id} of {run.job_name} failed" for run in runs if run.is_failure]


class Balance(NamedTuple):
    """What an exchange sent against what the lake holds."""

    sent: int
    missing: int
    double: int
    without_rows: int  # stored market data that gave no row, and is not declared as a double or as before its book
    declared: int


def balance(lake: Lake, kind: Exchange, sent: Counter[str], data: Counter[str]) -> Balance:
    """Compare the hashes of sent messages with the stored frames, and sent market data with the rows made of it."""
    stored: Counter[str] = Counter()
    without = declared = 0
    for source in sources(kind, load()):
        channel = source.channel.value
        frames = lake.scan(f"raw_{channel}", exchanges=[kind.name]).filter(pl.col("kind") == "w").collect()
        names = [digest(payload) for payload in frames["payload"]]
        stored.update(names)
        facts = [lake.provenance(channel, kind.name, window) or {} for window in lake.windows(channel, kind.name)]
        outcomes = Counter({name: sum(int(fact[f"frames_{name}"]) for fact in facts) for name in Outcome})
        # a book that is bridged over REST waits for it; other books have no such excuse
        declared += (
            outcomes[Outcome.DUPLICATE] + outcomes[Outcome.IGNORED] + kind.is_bridged * outcomes[Outcome.INVALID]
        )
        told = sum(name in data for name in names)
        # frames over REST are not in the log of what was sent, so this can only err on the strict side
        rest = sum(int(fact["frames"]) for fact in facts) - frames.height
        without += max(0, told + rest - outcomes[Outcome.ROWS] - outcomes[Outcome.DEAD]) if facts else told
    return Balance(
        sent=sum(sent.values()),
        missing=(sent - stored).total(),
        double=(stored - sent).total(),
        without_rows=max(0, without - declared),
        declared=declared,
    )


def report(settings: Settings, home: Path, ended: datetime, failed: list[str]) -> int:
    """Print what was sent and what is stored, per exchange; 0 only if it adds up, without a gap before `ended`."""
    lake, broker = open_lake(settings), connect(settings)
    sent: dict[str, Counter[str]] = {}
    data: dict[str, Counter[str]] = {}
    with (home / "data/simulator/sent.jsonl").open(encoding="utf-8") as log:
        for line in map(json.loads, log):
            sent.setdefault(line["exchange"], Counter())[line["hash"]] += 1
            if line["kind"] == "data":
                data.setdefault(line["exchange"], Counter())[line["hash"]] += 1
    names = ("sent", "missing", "double", "no row", "declared", "rows", "live", "dead", "gaps", "p50 ms", "p95", "p99")
    columns, lines = ("exchange", *names, "files"), []
    is_right = not failed
    for kind in exchanges_of(None, settings):
        name, found = kind.name, list(sources(kind, settings))
        balanced = balance(lake, kind, sent.get(name, Counter()), data.get(name, Counter()))
        channels = [source.channel.value for source in found]
        rows = sum(lake.scan(channel, exchanges=[name]).select(pl.len()).collect().item() for channel in channels)
        windows = {t: lake.windows(t, name) for t in (*channels, *(f"raw_{c}" for c in channels), "dead", "gap")}
        gaps = lake.scan("gap", exchanges=[name], end=ended).select(pl.len()).collect().item()
        dead = lake.scan("dead", exchanges=[name]).select(pl.len()).collect().item()
        outs = {processed_topic(kind.region, source.channel) for source in found}
        live = sum(broker.end_offset(out, kind.partition) for out in outs)
        numbers = [*balanced, rows, live, dead, gaps, *_latency(lake, name)]
        lines.append((name, *map(str, numbers), str(sum(map(len, windows.values())))))
        wrong = balanced.missing or balanced.double or balanced.without_rows or dead or gaps
        is_right = is_right and balanced.sent > 0 and live > 0 and not wrong
    broker.close()
    table = Table(*columns)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for line in failed:
        console.print(f"FAILED {line}")
    wrongs = failed if is_right or failed else ["the numbers do not add up"]
    write(home / "report.html", lake, [line[0] for line in lines], Summary(columns, lines, wrongs))
    console.print(f"report: {home / 'report.html'}")
    console.print("everything adds up: sent = stored" if is_right else "the numbers do NOT add up")
    return 0 if is_right else 1


def _latency(lake: Lake, exchange: str) -> Iterator[str]:
    """Yield the percentiles of exchange time to received time in ms, of what is told at once."""
    parts = [
        lake.scan(channel, exchanges=[exchange]).filter(pl.col("transport") == "ws")
        for channel in ("ticker", "orderbook", "trade")
    ]
    late = pl.concat([part.select((pl.col("received_time") - pl.col("exchange_time")).alias("age")) for part in parts])
    ages = late.collect()["age"].dt.total_microseconds() / 1000
    for quantile in (0.5, 0.95, 0.99):
        yield f"{ages.quantile(quantile) or 0:.1f}"
