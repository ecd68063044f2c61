"""Clocks that are wrong, from the collector's record to the windows, on the embedded log."""

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from coin_platform.broker import LocalBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Kind, Microseconds, Window
from coin_platform.orchestration.log_clock import LogClock
from coin_platform.orchestration.offsets import is_closed
from coin_platform.preprocess.worker import Worker
from coin_platform.records import Header
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.topic_names import processed_topic
from tests.kit.recordings import frames

HOUR = 3600 * SECOND
MINUTE = 60 * SECOND
BEGIN: Microseconds = 1_795_000_020 * SECOND  # a whole minute
YEAR_2036: Microseconds = 2_082_758_400 * SECOND
UPBIT = EXCHANGES["upbit"]
PAYLOAD = frames("upbit", "ticker")[0].payload
MINUTES = 8
STEP = 10 * SECOND  # between two records


class Platform:
    """An exchange's tickers on a log of this machine, whose wall clock may be wrong."""

    def __init__(self, folder: Path) -> None:
        self.true, self.error = BEGIN, 0
        self.settings = Settings(home=folder, exchanges=("upbit",), channels=(Channel.TICKER,))
        [self.source] = [source for source in sources(UPBIT, self.settings) if source.channel is Channel.TICKER]
        self.broker = LocalBroker(folder, clock=self.wall, monotonic=self.monotonic, retention_hours=24)
        self.clock = LogClock(self.wall, self.monotonic)
        self.number = 0

    def wall(self) -> Microseconds:
        return self.true + self.error

    def monotonic(self) -> float:
        return self.true / SECOND

    def collect(self, minutes: int) -> None:
        for _ in range(minutes * MINUTE // STEP):
            self.number += 1
            header = Header(Kind.SOCKET, 1, "c", self.number, self.wall())
            self.broker.append(self.source.topic, self.source.partition, header.pack(), PAYLOAD)
            self.broker.flush()
            self.now = self.clock.look(self.broker, [(self.source.topic, self.source.partition)])
            self.true += STEP

    def process(self) -> int:
        Worker(UPBIT.region, [UPBIT], self.settings, self.broker, clock=self.wall).drain()
        self.broker.flush()
        return self.broker.end_offset(processed_topic(UPBIT.region, Channel.TICKER), self.source.partition)

    def counts(self) -> list[int]:
        """Return how many records each window of a minute holds."""
        bounds = [
            self.broker.offset_for_time(self.source.topic, self.source.partition, BEGIN + number * MINUTE)
            for number in range(MINUTES + 1)
        ]
        return [stop - start for start, stop in pairwise(bounds)]

    def closed(self) -> int:
        """Return how many of the windows are closed."""
        windows = [Window(BEGIN + number * MINUTE, BEGIN + (number + 1) * MINUTE) for number in range(600)]
        return sum(is_closed(self.broker, self.source, window, 0, lambda: self.now) for window in windows)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path)
    with closing(platform.broker):
        yield platform


@pytest.mark.parametrize("error", [HOUR, -HOUR, 60 * SECOND, -60 * SECOND, 25 * HOUR, YEAR_2036 - BEGIN])
def test_D3_a_jump_of_the_clock_loses_misplaces_and_closes_nothing(platform: Platform, error: int) -> None:
    platform.collect(2)
    platform.error = error
    platform.collect(3)
    assert platform.closed() <= 6, "none that is still to come"
    platform.error = 0
    platform.collect(MINUTES - 5)
    counts = platform.counts()
    per_minute = MINUTE // STEP
    if abs(error) > 2 * MINUTE:
        assert counts == [per_minute] * MINUTES
    else:  # a small step is followed, and no record is further from its window than that
        assert sum(counts) == per_minute * MINUTES
        assert all(sum(counts[:number]) <= per_minute * (number + 1) for number in range(MINUTES))
    assert platform.process() == platform.number
    assert platform.broker.begin_offset(platform.source.topic, platform.source.partition) == 0


@pytest.mark.parametrize("rate", [1.05, 0.95])
def test_D3_a_clock_that_runs_wrong_is_followed(platform: Platform, rate: float) -> None:
    for _ in range(MINUTES):
        platform.error = int((platform.true - BEGIN) * (rate - 1))
        platform.collect(1)
    assert sum(platform.counts()) >= platform.number - 2 * MINUTE // STEP
    assert all(count >= 1 for count in platform.counts()[:-1])
    assert platform.process() == platform.number
