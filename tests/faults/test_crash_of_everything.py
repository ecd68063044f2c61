"""All of `coin up` killed or hung up on at random moments: the next start makes all windows, without a hand."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import psutil
import pytest

from coin_platform.broker import Broker, LocalBroker, kafka_client, kafka_topics
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.lake import open_lake
from coin_platform.model import SECOND, Gap, Kind, Microseconds, Region, Window
from coin_platform.orchestration.failed_windows import failed_windows
from coin_platform.orchestration.handed_on import is_outdated
from coin_platform.runtime.ports import free_ports
from coin_platform.selection import sources
from coin_platform.settings import Settings, load
from coin_platform.tables.schema import latest
from infra.stack import Service
from infra.stack import settings as addresses
from tests.kit.accounts import Accounts
from tests.kit.figures import figure
from tests.kit.history import once
from tests.kit.stored_history import gaps_from, sent_from, stored_from
from tests.kit.waiting import until

MOMENTS = 20
LONGEST_LIFE = 45.0  # seconds from a start to a crash: the first windows are made after some 30
STANDSTILL_SECONDS = 600.0  # in which not one more window is made: they are given up, however slow the machine is
MINUTE = 60 * SECOND

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]


class Deployment:
    """`coin up` with all simulated exchanges and windows of a minute, in a home of its own.

    `services` are Kafka and S3, which go on while all of the home ends; without them journal and folder are used.
    """

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, services: Sequence[Service] = ()) -> None:
        self.home = home
        values = {
            "COIN_HOME": str(home),
            "COIN_EXCHANGES_MODE": "simulated",
            "COIN_EXCHANGES": ",".join(EXCHANGES),
            "COIN_WINDOW": "1m",
            "COIN_GRACE": "3s",
            "COIN_BATCH_INTERVAL": "1",
            "COIN_START": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z"),
            "COIN_SIMULATOR_PORT": str(free_ports(1)[0]),
            **addresses(services),
        }
        if services:
            suffix = uuid.uuid4().hex[:8]
            values |= {f"COIN_TOPIC_{region.upper()}": f"{region}{suffix}" for region in Region}
            values["COIN_LAKE_URL"] += f"/{suffix}"
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        load.cache_clear()
        self.settings: Settings = load()
        self.broker: Broker = LocalBroker(self.settings.path(self.settings.journal_dir))
        if services:
            kafka_topics.create(self.settings)
            self.broker = KafkaBroker(kafka_client.servers(self.settings), home / "reader")
        self.sources: list[Source] = [
            source for exchange in EXCHANGES.values() for source in sources(exchange, self.settings)
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run `coin up`. While processes of the one before are left it is refused, and it waits for that by itself."""
        with (self.home / "up.log").open("ab") as log:
            command = [sys.executable, "-W", "ignore", "-m", "coin_platform", "up"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.home, start_new_session=True)

    def kill_all(self, chance: random.Random) -> None:
        """End every process of this home by `kill -9`, in any order, as a power cut does."""
        assert self.process is not None
        while left := self.processes():
            chance.shuffle(left)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait(30)

    def hang_up(self) -> None:
        """Close the terminal of `coin up`: nothing of it is left a while later."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGHUP)
        self.process.wait(60)
        until(lambda: not self.processes(), 60)

    def processes(self) -> list[psutil.Process]:
        """Return every process that runs with this home."""
        own_processes = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_ours = process.pid != os.getpid() and process.environ().get("COIN_HOME") == str(self.home)
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    own_processes.append(process)
        return own_processes

    def windows(self, until: int) -> dict[Source, set[Window]]:
        """Return the windows that each source's log asks for: all from its first record until a time."""
        windows = {}
        for source in self.sources:
            first = next(self.broker.read(source.topic, source.partition, 0, 1)).time // MINUTE * MINUTE
            windows[source] = {Window(start, start + MINUTE) for start in range(first, until, MINUTE)}
        return windows

    def missing(self, windows_of_source: dict[Source, set[Window]]) -> tuple[int, list[Window]]:
        """Return how many windows of tables are not in the lake, and which were made before what precedes them.

        Each of the latter that is made again may show the next one to be such a window, until the last is made again.
        """
        lake, count = open_lake(self.settings), 0
        for source, windows in windows_of_source.items():
            for table in (f"raw_{source.channel}", source.channel.value, "dead", "gap"):
                count += len(windows - set(lake.windows(table, source.exchange.name)))
        outdated = [
            window
            for source, windows in windows_of_source.items()
            for window in windows
            if not count and is_outdated(lake, [source], window)
        ]
        return count, sorted(outdated)


def is_in_gap(gaps: Sequence[Gap], time: Microseconds) -> bool:
    """Return whether one of the gaps covers a time."""
    return any(gap.start - SECOND <= time and (gap.stop is None or time <= gap.stop + SECOND) for gap in gaps)


@pytest.fixture(params=["local", pytest.param("services", marks=[pytest.mark.kafka, pytest.mark.s3])])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """Give a home in which nothing runs yet; leave nothing behind."""
    names = ("kafka", "seaweedfs") if request.param == "services" else ()
    made = Deployment(tmp_path, monkeypatch, [request.getfixturevalue(name) for name in names])
    with closing(made.broker):
        try:
            yield made
        finally:
            if made.process is not None:
                made.kill_all(random.Random())
            load.cache_clear()


def test_D9_D11_after_twenty_crashes_of_everything_all_windows_are_made_without_a_hand(deployment: Deployment) -> None:
    chance = random.Random(20)
    for moment in range(MOMENTS):
        deployment.start()
        time.sleep(chance.uniform(1, LONGEST_LIFE))
        if moment % 2:
            deployment.hang_up()
        else:
            deployment.kill_all(chance)
    deployment.start()
    started = time.monotonic()
    until(
        lambda: all(deployment.broker.end_offset(source.topic, source.partition) for source in deployment.sources), 300
    )
    expected = deployment.windows(int(time.time() // 60 + 1) * MINUTE)
    assert all(expected.values())
    last, moved = deployment.missing(expected), time.monotonic()
    while (missing := deployment.missing(expected)) != (0, []):
        if missing != last:
            last, moved = missing, time.monotonic()
        assert time.monotonic() - moved < STANDSTILL_SECONDS, f"windows of tables are missing: {missing}"
        time.sleep(5)
    place = "on the journal" if isinstance(deployment.broker, LocalBroker) else "on Kafka and S3"
    figure("D9", f"until all windows are made after {MOMENTS} crashes, {place}", round(time.monotonic() - started), "s")
    deployment.hang_up()
    lake = open_lake(deployment.settings)
    recorded: dict[str, list[Gap]] = {name: [] for name in EXCHANGES}
    for source in deployment.sources:
        name, channel = source.exchange.name, source.channel
        raw, table, gaps = (
            pl.concat(
                rows for window in sorted(expected[source]) if (rows := lake.read(table_name, name, window)) is not None
            )
            for table_name in (f"raw_{channel}", channel.value, "gap")
        )
        assert raw["offset"].to_list() == list(range(raw.height)), f"{source}: each record once, none left out"
        log = deployment.broker.read(source.topic, source.partition, 0, raw.height)
        newest = latest("gap", gaps.lazy()).collect()  # each gap as its last row has it
        own_gaps = [gap for gap in gaps_from(name, newest) if gap.channel is channel]
        recorded[name] += own_gaps
        assert Accounts(source, log, table, own_gaps).unexplained == [], f"{source}: frames without a row or a reason"
        assert table.height > 0
    for exchange in EXCHANGES.values():
        own_sources = [source for source in deployment.sources if source.exchange is exchange]
        sent = sent_from(deployment.home / "data/simulator", exchange.name)
        records = once(stored_from(deployment.broker, own_sources))
        stored = Counter(record.hash for record in records if record.hash and record.kind is Kind.SOCKET)
        sent_hashes = Counter(message.hash for message in sent)
        assert not stored - sent_hashes, f"{exchange.name}: stored twice, or never sent"
        lost = sent_hashes - stored
        lost_messages = [message for message in sent if message.kind == "data" and message.hash in lost]
        unreported = [message for message in lost_messages if not is_in_gap(recorded[exchange.name], message.time)]
        assert unreported == [], f"{exchange.name}: lost, and no gap says so"
    home = deployment.home / "dagster_home"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        late = [
            failed
            for failed in failed_windows(instance, deployment.settings)
            if failed.window in expected[own_sources[0]]
        ]
    assert late == [], "no window waits for a hand"
