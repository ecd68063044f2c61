"""W1 and W2: the speed of the worker, and at a paced load its delay, its CPU time and its memory."""

import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.compare import Outcome
from coin_platform.broker import LocalBroker, MemoryBroker
from coin_platform.clock import now
from coin_platform.collect.session import Session
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Region
from coin_platform.preprocess.worker import PROGRESS_SECONDS, Worker
from coin_platform.records import Header, Record, frame, unpack
from coin_platform.selection import sources, wanted_pairs
from coin_platform.settings import Settings
from coin_platform.simulator.faults import Faults
from coin_platform.topic_names import group
from tests.kit.hour import Clock, World

REGION = Region.ASIA
RATE = 5_000  # frames a second
SECONDS = 40
COUNT = 60_000  # different frames; then the same again, on other connections
NAMES = ("okx", "bybit", "gateio")

NumberedRecords = list[tuple[int, Record]]  # the number of the source, and its record


def run(folder: Path) -> Iterator[Outcome]:
    """Measure in `folder`."""
    settings = Settings(home=folder, exchanges=NAMES)
    records = _records(settings)
    yield from _flat_out(folder, records)
    yield from _paced(folder, records)


def _places(settings: Settings) -> list[Source]:
    return [source for name in NAMES for source in sources(EXCHANGES[name], settings)]


def _records(settings: Settings) -> NumberedRecords:
    """Return frames and checkpoints of all channels of the region, in the order in which they came."""
    clock = Clock(time.time_ns() // 1000 - 3600 * SECOND)
    broker = MemoryBroker(clock=lambda: clock.time)
    world = World(NAMES, broker, clock, settings, faults=Faults())
    while sum(broker.end_offset(source.topic, source.partition) for source in world.sources) < COUNT:
        world.run(50, SECOND // 10)
    records = [
        (record.time, at, record)
        for at, source in enumerate(world.sources)
        for record in broker.read(source.topic, source.partition, 0, 1 << 40)
    ]
    return [(at, record) for _, at, record in sorted(records)]


class _Recording:
    """Writes records as a collector does. Each frame is stored, then its session reads it."""

    def __init__(self, broker: LocalBroker, settings: Settings) -> None:
        self._broker, self._places = broker, _places(settings)
        self._settings, self._lap, self._sessions = settings, -1, dict[int, Session]()

    def write(self, lap: int, at: int, record: Record) -> None:
        """Write one record of a lap. Each lap is a new connection."""
        if lap != self._lap:
            self._lap, self._sessions = lap, {}
        source, moment, header = self._places[at], now(), unpack(record.header)
        header = Header(header.kind, 1 + lap, header.connection, header.number, moment.wall, header.pair)
        self._broker.append(source.topic, source.partition, header.pack(), record.value)
        if header.kind.is_frame:
            session = self._sessions.get(at)
            if session is None:
                pairs = wanted_pairs(source.exchange, self._settings)
                session = self._sessions[at] = Session(source.exchange, source.channel, pairs)
            for _ in session.received(frame(source.exchange.name, source.channel, header, record.value), moment):
                pass


def _flat_out(folder: Path, records: NumberedRecords) -> Iterator[Outcome]:
    """Measure how fast the worker alone processes a backlog."""
    settings = Settings(home=folder / "backlog", exchanges=NAMES)
    with closing(LocalBroker(folder / "backlog")) as broker:
        places = _places(settings)
        for at, record in records:
            broker.append(places[at].topic, places[at].partition, record.header, record.value)
        broker.flush()
        worker = Worker(REGION, list(dict.fromkeys(place.exchange for place in places)), settings, broker)
        begun, cpu = time.perf_counter(), time.process_time()
        worker.drain()
        taken, cpu = time.perf_counter() - begun, time.process_time() - cpu
    size = sum(len(record.value) for _, record in records) / len(records)
    note = f"{1e6 * cpu / len(records):.0f} CPU-µs a frame, {size:.0f} B each"
    yield Outcome("W1", "worker, a backlog of all channels", len(records) / taken, "frames/s", note=note)


class Load(NamedTuple):
    """The figures that the collector's process gives at its end."""

    frames: int
    seconds: float
    cpu: float


def _collect(folder: Path, records: NumberedRecords, ready: Event, loads: "multiprocessing.SimpleQueue[Load]") -> None:
    settings = Settings(home=folder, exchanges=NAMES)
    with closing(LocalBroker(settings.path(settings.journal_dir))) as broker:
        recording = _Recording(broker, settings)
        ready.wait(60)
        begun, cpu = time.perf_counter(), time.process_time()
        for number in range(RATE * SECONDS):
            lap, at = divmod(number, len(records))
            recording.write(lap, *records[at])
            if not number % 50 and (ahead := begun + number / RATE - time.perf_counter()) > 0:
                time.sleep(ahead)
        broker.flush()
        loads.put(Load(RATE * SECONDS, time.perf_counter() - begun, time.process_time() - cpu))


def _paced(folder: Path, records: NumberedRecords) -> Iterator[Outcome]:
    """Measure `coin preprocess`, with landing objects, while a collector works in another process."""
    context = multiprocessing.get_context("spawn")
    ready, loads = context.Event(), context.SimpleQueue()
    collector = context.Process(target=_collect, args=(folder, records, ready, loads))
    log = folder / "worker.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COIN_")}
    environment |= {"COIN_HOME": str(folder), "COIN_EXCHANGES": ",".join(NAMES)}
    command = [sys.executable, "-m", "coin_platform", "preprocess", "--region", REGION]
    with log.open("wb") as errors:
        worker = subprocess.Popen(command, env=environment, stderr=errors)
    try:
        collector.start()
        time.sleep(5)  # both have started
        ready.set()
        process, sizes = psutil.Process(worker.pid), list[float]()
        before, begun = process.cpu_times(), time.monotonic()
        while loads.empty() and time.monotonic() - begun < 4 * SECONDS:
            sizes.append(process.memory_info().rss / (1 << 20))
            time.sleep(0.5)
        load, after = loads.get(), process.cpu_times()
        collector.join(30)
        behind = _drained(folder)
    finally:
        for child in (collector, worker):
            with suppress(ProcessLookupError, ValueError):
                child.terminate()
        worker.wait(30)
        collector.join(30)
    lines = re.findall(
        r"asia: (\d+) records/s processed, (\d+) wait(?:; p50/p95/p99 ms: (.*?); slowest)?", log.read_text()
    )
    steady = [line for line in lines if line[2]][1:-1]
    rate = load.frames / load.seconds
    cpu = (after.user + after.system - before.user - before.system) / load.frames
    note = f"collector's work {1e6 * load.cpu / load.frames:.0f} CPU-µs a frame, without sockets"
    yield Outcome("W2", f"offered, of {RATE}", rate, "frames/s", note=note)
    yield Outcome("W2", "worker and landing, CPU a frame", 1e6 * cpu, "µs")
    yield Outcome("W2", "backlog gone after the last frame", behind, "s", must=5, is_least=False)
    if steady:
        waiting = max(int(line[1]) for line in steady)
        yield Outcome("W2", "most that waited", waiting, "frames", must=2 * RATE, is_least=False)
        ages = dict(part.rsplit(" ", 1) for part in steady[-1][2].split(", "))
        for stage in ("logged", "processed"):
            p50, p95, p99 = map(float, ages[stage].split("/"))
            note = f"p50 {p50:g}, p95 {p95:g}, in the last {PROGRESS_SECONDS:g} s"
            yield Outcome("W2", f"p99 of the stage {stage}", p99, "ms", note=note)
    yield Outcome(
        "W2", "resident memory of the worker", max(sizes), "MiB", note=f"{sizes[len(sizes) // 2]:.0f} half way"
    )


def _drained(folder: Path) -> float:
    """Return the seconds until all records are committed."""
    settings, begun = Settings(home=folder, exchanges=NAMES), time.monotonic()
    with closing(LocalBroker(settings.path(settings.journal_dir))) as broker:
        for source in _places(settings):
            end = broker.end_offset(source.topic, source.partition)
            while (broker.committed(group(REGION, source.channel), source.topic, source.partition) or 0) < end:
                if time.monotonic() - begun > 60:
                    return float("inf")
                time.sleep(0.05)
    return time.monotonic() - begun
