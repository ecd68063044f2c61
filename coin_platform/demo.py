"""The main job, end to end: simulated exchanges, collectors, windows, checks, and a report that must add up."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from coin_platform import guard
from coin_platform.balance import failures, report
from coin_platform.broker import connect
from coin_platform.collect.collector import exchanges_of
from coin_platform.errors import CoinPlatformError, SettingsError
from coin_platform.home_lock import held
from coin_platform.lake import open_lake
from coin_platform.model import Region, Window
from coin_platform.orchestration.reading import has_records
from coin_platform.preprocess.transform import Source
from coin_platform.processes import ending_signals
from coin_platform.settings import Mode, Settings, load
from coin_platform.simulator import VENUES
from coin_platform.sources import sources

console = Console(force_terminal=False, width=140, highlight=False)

CHECKOUT = Path(__file__).resolve().parent.parent
BEAT = 5.0  # seconds between two looks at the tables: to look takes time from those that fill them
UI_PORT = 3000
DAGSTER_DEV = ("-m", "coin_platform.orchestration.ui", "dev")  # `dagster dev`, its UI under its own names only
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
    with held(root / "data" / "demo.lock", "coin demo", f"it writes {home}; wait for it or end it") as lock:
        shutil.rmtree(home, ignore_errors=True)
        return _run_with(services, root, home, seconds, lock)


def _run_with(services: Sequence[str], root: Path, home: Path, seconds: int, lock: int) -> int:
    with _stack(root, home / "stack", services) as addresses:
        environment = _environment(root, home, addresses)
        if "kafka" in services:
            subprocess.run([sys.executable, "-m", "coin_platform", "topics", "create"], env=environment, check=True)
        return _run(load(), home, environment, time.monotonic() + seconds, lock)


def _run(settings: Settings, home: Path, environment: dict[str, str], deadline: float, lock: int) -> int:
    port = free_port(UI_PORT)
    with _children(home, environment, port, [lock]) as (simulator, dagster):
        console.print(f"Dagster UI: http://127.0.0.1:{port} (logs in {home})")
        watch = _Watch(settings, home, deadline, (simulator, dagster))
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
        _set_up(Path(environment["DAGSTER_HOME"]))
        processes = stack.enter_context(_children(home, environment, port, locks, simulated=simulated))
        console.print(f"Dagster UI: http://127.0.0.1:{port}; Ctrl-C ends it")
        try:
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
        except KeyboardInterrupt:
            return 0
    console.print("a process ended by itself; see data/logs")
    return 1


def _set_up(dagster_home: Path) -> None:
    """Give a home of Dagster's our settings of it, unless it has some: without them runs get into each other's way."""
    dagster_home.mkdir(parents=True, exist_ok=True)
    if not (dagster_home / "dagster.yaml").exists():
        shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", dagster_home)


@contextlib.contextmanager
def _stack(root: Path, folder: Path, services: Sequence[str]) -> Iterator[dict[str, str]]:
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


def _environment(root: Path, home: Path, addresses: dict[str, str]) -> dict[str, str]:
    """Give this process and its children the demo's settings: minute windows, own home, own ports."""
    _set_up(home / "dagster_home")
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
        self._missing: dict[Source, set[Window]] = {}
        self._wanted = 0  # windows, of all sources
        self._sources = [source for kind in exchanges_of(None, settings) for source in sources(kind, settings)]
        self.regions = [region for region in Region if exchanges_of(region, settings)]

    def until(self, what: str, is_done: Callable[[], bool], beat: float = 0.5) -> None:
        """Wait until `is_done()`, asked every `beat` seconds. Raises `DemoError` when time is over or Dagster ended."""
        console.print(f"waiting for: {what}")
        shown = 0.0
        while not is_done():
            if time.monotonic() > self._deadline:
                raise DemoError(f"{what}: not within the time; the logs are in {self._home / 'data' / 'logs'}")
            if self._dagster.poll() is not None:
                raise DemoError(f"dagster dev ended by itself; its log is {self._home / 'data/logs/dagster.log'}")
            if time.monotonic() - shown >= BEAT:
                shown = time.monotonic()
                windows = f", {self._wanted - self._open()} of {self._wanted} windows done" if self._wanted else ""
                console.print(f"  {datetime.now(UTC):%H:%M:%S}  {self._frames()} records{windows}")
            time.sleep(beat)

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

    def fix_end(self) -> None:
        """Want no windows later than now: collectors go on logging that they are there."""
        length = self._settings.window_length
        first, last = int(self._settings.start.timestamp() * 1e6), self._last_time() // length * length
        found = [Window(start, start + length) for start in range(first, last + length, length)]
        for source in self._sources:
            self._missing[source] = {window for window in found if has_records(self._broker, source, window)}
        self._wanted = self._open()

    def is_complete(self) -> bool:
        """Whether every window that holds records of a source, up to the last one, is in that source's tables."""
        for name in {source.exchange.name for source, windows in self._missing.items() if windows}:
            stored = set(self._lake.windows("dead", name)).intersection(self._lake.windows("gap", name))
            for source, windows in self._missing.items():
                if windows and source.exchange.name == name:
                    windows -= stored.intersection(self._lake.windows(source.channel.value, name))
        return not self._open()

    def _open(self) -> int:
        return sum(map(len, self._missing.values()))

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
