"""Our processes killed and ended: the simulated exchanges know what they sent, the history checker compares."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from coin_platform.broker import Broker, LocalBroker, kafka_topics
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, BookUpdate, Event, Gap, Microseconds, Ticker, Trade
from coin_platform.records import Record, frame, unpack
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.simulator.sent_log import digest
from coin_platform.tables.dataframes import batch
from coin_platform.tables.gap_table import Fault, Gaps, is_book
from coin_platform.tables.processed import time_text
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import GAPS
from infra.stack import ROOT, free_ports, is_listening
from tests.kit.delivery import until
from tests.kit.figures import figure
from tests.kit.history import CLEAN, Sent, Stored, check, gaps_from, once, sent_from, stored_from
from tests.kit.witness import read

NAMES = ("okx", "bybit")
UNWRITTEN: Microseconds = SECOND // 20  # K2: what a killed collector may not have brought to the disk yet


class Platform:
    """Simulated exchanges of Asia and what collects them, each in a process of its own."""

    def __init__(self, home: Path, broker_url: str, spool: Path, channels: str) -> None:
        self.home, self.witness = home, home / "read.txt"
        self.values: dict[str, Any] = {
            "home": home,
            "broker_url": broker_url,
            "exchanges_mode": "simulated",
            "exchanges": ",".join(NAMES),
            "channels": channels,
            "simulator_port": free_ports(1)[0],
            "topic_asia": f"asia{uuid.uuid4().hex}",
        }
        self.settings = Settings(**self.values)
        is_local = broker_url == "local:"
        folder = self.settings.path(self.settings.journal_dir)
        self.broker: Broker = (
            LocalBroker(folder) if is_local else KafkaBroker(kafka_topics.servers(self.settings), spool)
        )
        self.sources: list[Source] = [each for name in NAMES for each in sources(EXCHANGES[name], self.settings)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str, module: str = "coin_platform", log: Path | None = None) -> None:
        """Start `coin NAME`; its log is in `home` unless said otherwise."""
        environment = {**os.environ, **{f"COIN_{key.upper()}": str(value) for key, value in self.values.items()}}
        environment["WITNESS"] = str(self.witness)
        command = [sys.executable, "-W", "ignore", "-m", module, name, *arguments]
        with (log or self.home / f"{name}.log").open("ab") as file:
            self.processes[name] = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=file, stderr=file)

    def end(self, name: str) -> float:
        """End a process as its supervisor does; return how long that took. Raises `AssertionError` if not clean."""
        started = time.monotonic()
        self.processes[name].send_signal(signal.SIGTERM)
        code = self.processes[name].wait(30)
        del self.processes[name]
        assert code == 0, f"{name} ended with {code}: {(self.home / f'{name}.log').read_text()[-2000:]}"
        return time.monotonic() - started

    def kill(self, name: str) -> Microseconds:
        """Kill a process and return when."""
        moment = time.time_ns() // 1000
        self.processes[name].kill()
        self.processes.pop(name).wait()
        return moment

    def count(self) -> int:
        """Return how many records there are."""
        return sum(self.broker.end_offsets([(each.topic, each.partition) for each in self.sources]).values())

    def until_more(self) -> None:
        """Wait until every source has a new frame."""
        before = {source: self.broker.end_offset(source.topic, source.partition) for source in self.sources}
        until(lambda: all(self._has_frame(source, start) for source, start in before.items()), 40)

    def _has_frame(self, source: Source, start: int) -> bool:
        """Whether there is a frame from an offset on; the other records are ours."""
        place = source.topic, source.partition
        new = self.broker.read(*place, start, self.broker.end_offset(*place))
        return any(unpack(record.header).kind.is_frame for record in new)

    def stored(self) -> list[Stored]:
        return stored_from(self.broker, self.sources)

    def sent(self) -> list[Sent]:
        return sent_from(self.home / "data" / "simulator")

    def gaps(self) -> list[Gap]:
        """Return the ledger of all that is stored."""
        found: list[Gap] = []
        for source in self.sources:
            place = source.topic, source.partition
            records = [*self.broker.read(*place, 0, self.broker.end_offset(*place))]
            rows = batch(source, records)
            faults = [Fault(offset, str(fault.pair), *fault[1:]) for offset, fault in rows.transform.faults]
            gaps = Gaps(source, None)
            gaps.read(records, rows.rows if is_book(source) else None, faults)
            found += gaps_from(source.exchange.name, gaps.table())
        return found

    def told_gaps(self) -> list[dict[str, str]]:
        """Return what topic `MarketGaps` says."""
        places = [(GAPS, EXCHANGES[name].gap_partition) for name in NAMES]
        return [
            json.loads(record.value)
            for place in places
            for record in self.broker.read(*place, 0, self.broker.end_offset(*place))
        ]


@contextmanager
def running(home: Path, broker_url: str, channels: str = "ticker,trade") -> Iterator[Platform]:
    """Run the exchanges; whatever else was started is killed in the end."""
    home.mkdir(parents=True)
    platform = Platform(home, broker_url, home / "reader", channels)
    if broker_url != "local:":
        kafka_topics.create(platform.settings)
    with closing(platform.broker):
        try:
            platform.start("simulate", "--seed", "7", "--rate", "50")
            until(lambda: is_listening(platform.settings.simulator_port), 40)  # or a gap would begin with each test
            yield platform
        finally:
            for process in platform.processes.values():
                process.kill()
                process.wait()


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def url(request: pytest.FixtureRequest) -> str:
    return "local:" if request.param == "local" else f"kafka://{request.getfixturevalue('kafka').address}"


@pytest.fixture
def platform(url: str, tmp_path: Path) -> Iterator[Platform]:
    with running(tmp_path / "home", url) as made:
        yield made


def lag(sent: Sequence[Sent], stored: Sequence[Stored]) -> Microseconds:
    """Return the longest that a message was on its way to us: so long before a kill it may not have been read yet."""
    times = {(message.exchange, message.hash): message.time for message in sent}
    return max(record.time - times.get((record.exchange, record.hash or ""), record.time) for record in stored)


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_S1_S8_K2_A1_a_collector_killed_again_and_again_loses_what_it_had_just_read(
    platform: Platform, rounds: int
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills: list[Microseconds] = []
    for _ in range(rounds):
        platform.start("collect", "--region", "asia", module="tests.kit.witness")
        platform.until_more()
        moment, wait = time.monotonic(), chance.uniform(0, 1)
        until(lambda: time.monotonic() - moment > wait)  # noqa: B023
        kills.append(platform.kill("collect"))
    platform.start("collect", "--region", "asia")
    platform.until_more()
    platform.end("simulate")
    platform.end("collect")
    sent, stored = platform.sent(), platform.stored()
    found = check(sent, once(stored))
    assert (found.phantom, found.double, found.reordered) == ([], [], [])
    slack = UNWRITTEN + lag(sent, stored)
    early = [each for each in found.lost if not any(kill - slack <= each.time <= kill + SECOND for kill in kills)]
    assert early == [], f"lost {len(early)} of {len(sent)} earlier than {slack / 1000:.0f} ms before a kill"
    print(
        f"{len(sent)} sent, {len(found.lost)} lost around {rounds} kills, {len(stored) - len(once(stored))} sent again"
    )
    assert check(sent, once(stored), gaps=platform.gaps()).counts == CLEAN
    known = {(each.epoch, each.connection, each.number) for each in stored}
    costs = [time for frame, time in read(platform.witness).items() if frame not in known]
    before = [min(kills, key=lambda kill: abs(kill - time)) - time for time in costs]
    print("oldest frames that were read and lost, ms before a kill:", sorted(cost / 1000 for cost in before)[-20:])
    over = platform.values["broker_url"].partition(":")[0]
    told = f"before one of {rounds} kills, over {over}, the oldest frame was read that it cost"
    figure("K2", told, round(max(before, default=0) / 1000), "ms")
    assert max(before, default=0) <= UNWRITTEN


def test_S1_A2_whoever_is_asked_to_end_does_so_at_once_and_loses_nothing(platform: Platform) -> None:
    platform.start("collect", "--region", "asia")
    platform.start("preprocess", "--region", "asia")
    platform.until_more()
    asked = time.time_ns() // 1000
    times = {"collect": platform.end("collect")}
    platform.start("collect", "--region", "asia")
    platform.until_more()
    times |= {name: platform.end(name) for name in ("simulate", "preprocess", "collect")}
    sent, stored = platform.sent(), platform.stored()
    found = check(sent, stored)
    assert (found.phantom, found.double, found.reordered) == ([], [], [])
    assert [message for message in found.lost if message.time < asked] == []
    newest = max(record.epoch for record in stored)
    first = min(record.time for record in stored if record.epoch == newest)
    assert [message for message in found.lost if message.time > first] == [], "the exchange closed after its last word"
    assert check(sent, stored, gaps=platform.gaps()).counts == CLEAN
    for name, seconds in times.items():
        assert seconds < 10
        figure("S1", f"until `coin {name}` has ended", round(seconds, 2), "s")


def key(record: Record, event: Event) -> object:
    """Return what makes two events the same."""
    match event:
        case Trade():
            return (event.pair, event.id)
        case BookUpdate():
            return (event.pair, event.last_sequence)
    return digest(record.value)


def events(platform: Platform, source: Source) -> tuple[set[object], Counter[object]]:
    """Return what was stored of a source, and how often each of it is a row."""
    transform, stored, told = Transform(source), set(), Counter[object]()
    end = platform.broker.end_offset(source.topic, source.partition)
    for record in platform.broker.read(source.topic, source.partition, 0, end):
        told.update(key(record, entry.event) for entry in transform.entries(record))
        header = unpack(record.header)
        if header.kind.is_frame:
            decoded = source.exchange.decode(frame(source.exchange.name, source.channel, header, record.value))
            stored |= {key(record, event) for event in decoded if isinstance(event, Ticker | Trade | BookUpdate)}
    return stored, told


def test_F5_a_collector_that_takes_over_leaves_no_gap_and_no_double(url: str, tmp_path: Path) -> None:
    begun = str(time_text(time.time_ns() // 1000))
    with running(tmp_path / "home", url, "ticker,orderbook,trade") as platform:
        platform.start("collect", "--region", "asia")
        platform.until_more()
        old = platform.processes.pop("collect")
        started = time.monotonic()
        platform.start("collect", "--region", "asia", "--take-over")
        assert old.wait(60) == 0, (platform.home / "collect.log").read_text()[-2000:]
        seconds = round(time.monotonic() - started, 1)
        figure("F5", "from the start of a collector that takes over to the end of the other", seconds, "s")
        platform.until_more()
        ended = time.time_ns() // 1000
        platform.end("simulate")
        platform.end("collect")
        sent, stored = platform.sent(), platform.stored()
        assert len({record.epoch for record in stored}) == 2
        assert check(sent, stored).counts == CLEAN
        assert [gap for gap in platform.gaps() if gap.start < ended] == []
        told = [gap for gap in platform.told_gaps() if begun < gap["from"] < str(time_text(ended))]
        assert told == []  # of the whole topic, which others have written too
        for source in platform.sources:
            found, rows = events(platform, source)
            assert set(rows) == found, f"{source}: events without a row"
            assert [event for event, times in rows.items() if times > 1] == [], f"{source}: rows told twice"


def test_S1_S8_A3_who_was_frozen_goes_on_and_what_that_cost_is_recorded(platform: Platform) -> None:
    for name in ("collect", "preprocess"):
        platform.start(name, "--region", "asia")
    platform.until_more()
    until(lambda: "first records" in (platform.home / "preprocess.log").read_text(), 40)  # all have started
    for name in ("collect", "preprocess"):
        platform.processes[name].send_signal(signal.SIGSTOP)
    time.sleep(6)
    for name in ("preprocess", "collect"):
        platform.processes[name].send_signal(signal.SIGCONT)
    platform.until_more()
    for name in ("simulate", "collect", "preprocess"):
        platform.end(name)
    assert check(platform.sent(), platform.stored(), gaps=platform.gaps()).counts == CLEAN


def test_S1_A16_a_log_that_takes_no_line_stops_nobody(tmp_path: Path) -> None:
    with running(tmp_path / "home", "local:") as platform:
        platform.start("collect", "--region", "asia", log=Path("/dev/full"))
        platform.until_more()
        platform.until_more()
        assert platform.processes["collect"].poll() is None
        platform.end("simulate")
        process = platform.processes.pop("collect")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, 120)  # 120: Python could not flush its log either
        assert check(platform.sent(), platform.stored(), gaps=platform.gaps()).counts == CLEAN


def test_S8_A16_a_full_disk_of_the_local_log_ends_the_collector_with_a_line_and_a_gap(tmp_path: Path) -> None:
    with running(tmp_path / "home", "local:") as platform:
        platform.start("collect", "--region", "asia")
        platform.until_more()
        folder = platform.settings.path(platform.settings.journal_dir)
        largest = max(path.stat().st_size for path in folder.rglob("*.db*") if ".new" not in path.name)
        process = platform.processes.pop("collect")
        psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (largest + 65_536,) * 2)
        full = time.time_ns() // 1000
        assert process.wait(60) == 2
        [line] = [text for text in (platform.home / "collect.log").read_text().splitlines() if text[:5] == "coin:"]
        assert f"journal {folder}" in line
        assert "free space on that disk" in line
        platform.start("collect", "--region", "asia")
        platform.until_more()
        platform.end("simulate")
        platform.end("collect")
        sent, stored = platform.sent(), platform.stored()
        assert all(message.time > full - UNWRITTEN - lag(sent, stored) for message in check(sent, stored).lost)
        assert check(sent, stored, gaps=platform.gaps()).counts == CLEAN
