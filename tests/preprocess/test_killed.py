"""`coin preprocess` killed at any moment: every row exactly once in the processed topic, and in the landing objects."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import polars as pl
import pytest

from coin_platform.broker import LocalBroker
from coin_platform.clock import wall
from coin_platform.exchanges.base import Source
from coin_platform.lake import open_lake
from coin_platform.model import SECOND, Channel, Instant, Region
from coin_platform.settings import Settings
from coin_platform.tables import dead_letters
from coin_platform.tables.dataframes import rows_table
from coin_platform.tables.processed import encode
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import dead_letter_topic, group, processed_topic
from tests.kit.hour import Clock, World
from tests.kit.waiting import until

NAMES = ("okx", "gateio")
PACE = SECOND // 10


class Now(Clock):
    """The real time, for who wants to be asked in the simulated world's way."""

    def __init__(self) -> None:
        super().__init__(wall())

    def __call__(self) -> Instant:
        self.time = wall()
        return super().__call__()


class Home:
    """A journal that a collector writes, and the process that preprocesses it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder, exchanges=NAMES, landing_min_interval=0)
        self.broker = LocalBroker(self.settings.path(self.settings.journal_dir))
        self.world = World(NAMES, self.broker, Now(), self.settings)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COIN_")},
            "COIN_HOME": str(folder),
            "COIN_EXCHANGES": ",".join(NAMES),
            "COIN_LANDING_MIN_INTERVAL": "0",
        }

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-W", "ignore", "-m", "coin_platform", "preprocess", "--region", Region.ASIA]
        return subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL)

    def feed(self, seconds: float) -> None:
        """Log what the exchanges say for that long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.world.run(1, PACE)
            time.sleep(0.02)  # the real time has to pass: it is another process's
        self.broker.flush()

    def is_done(self, prefix: str) -> bool:
        """Whether all that is logged has been committed by a group, the worker's or the lander's."""
        return all(
            self.broker.committed(prefix + group(Region.ASIA, source.channel), source.topic, source.partition)
            == self.broker.end_offset(source.topic, source.partition)
            for source in self.world.sources
        )

    def values(self, topic: str, partition: int) -> list[bytes]:
        return [record.value for record in self.broker.read(topic, partition, 0, 1 << 40)]


def end(process: "subprocess.Popen[bytes]") -> None:
    """Make sure that it has ended."""
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()


def check(home: Home, source: Source) -> int:
    """Compare what is stored with what the log says; return how many rows that is."""
    name = f"{source.exchange.name} {source.channel}"
    transform = Transform(source, 0, home.settings.window_length)
    raw = list(home.broker.read(source.topic, source.partition, 0, 1 << 40))
    entries = [entry for record in raw for entry in transform.entries(record)]
    told = home.values(processed_topic(Region.ASIA, source.channel), source.partition)
    assert told == [encode(source.exchange, source.channel, entry) for entry in entries], name
    letters = home.values(dead_letter_topic(source.topic), source.partition)
    assert [dead_letters.unpack(value).offset for value in letters] == [dead.record.offset for dead in transform.dead]
    landed = open_lake(home.settings).scan(source.channel.value, exchanges=[source.exchange.name]).collect()
    wanted = rows_table(source.channel, [entry.row for entry in entries])
    if source.channel is Channel.CANDLE:
        wanted = wanted.unique(["pair", "open_time"], keep="last", maintain_order=True)
    order = ("offset", "index")
    assert landed.select(wanted.columns).sort(*order).equals(wanted.sort(*order)), name
    assert landed.select(pl.struct(order).n_unique()).item() == landed.height > 0
    return landed.height


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.long)])
def test_A1_a_worker_killed_at_any_moment_leaves_every_row_exactly_once(tmp_path: Path, rounds: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    home = Home(tmp_path)
    with closing(home.broker):
        for _ in range(rounds):
            process = home.start()
            try:
                home.feed(moments.uniform(0.5, 4.5))  # it has begun to work after about 2
                assert process.poll() is None
                process.send_signal(signal.SIGKILL)
            finally:
                end(process)
            home.feed(0.2)
        process = home.start()
        try:
            for prefix in ("", "Landing_"):
                until(lambda prefix=prefix: home.is_done(prefix), 60)  # type: ignore[misc]
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            end(process)
        assert sum(check(home, source) for source in home.world.sources) > 100 * rounds
