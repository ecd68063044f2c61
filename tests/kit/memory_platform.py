"""A log and a lake in memory, what a collector would log, and the tables of its windows of a minute."""

from typing import Any

import dagster as dg
import polars as pl

from coin_platform.broker import MemoryBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Kind, Microseconds, Pair, Window
from coin_platform.orchestration.assets import tables
from coin_platform.orchestration.materialise import materialise_raw, materialise_rows
from coin_platform.orchestration.materialise_gaps import materialise_gaps
from coin_platform.orchestration.partitions import key_of
from coin_platform.records import Facts, Header, Transport
from coin_platform.selection import sources
from tests.kit.dagster import GivenLake, GivenTopics
from tests.kit.log_and_lake import FIRST, MINUTE, SECOND, SETTINGS
from tests.kit.recordings import frames


def source(exchange: str, channel: Channel) -> Source:
    """Return the source of an exchange's channel."""
    return next(feed for feed in sources(EXCHANGES[exchange], SETTINGS) if feed.channel is channel)


class Clock:
    """A log's clock that the test moves."""

    def __init__(self) -> None:
        self.time = FIRST.start + 1

    def __call__(self) -> Microseconds:
        self.time += 1
        return self.time


class MemoryPlatform:
    """A fresh log and lake, which Dagster's resources of tests know, too."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.broker, self.lake = MemoryBroker(clock=self.clock), Lake(MemoryStore(), MINUTE)
        GivenTopics.broker, GivenLake.lake = self.broker, self.lake

    def log(self, place: Source, header: Header, payload: bytes) -> None:
        """Log a record, at the time of the clock."""
        self.broker.append(place.topic, place.partition, header.pack(), payload)

    def say(
        self, place: Source, number: int, payload: bytes, name: str = "c", time: Microseconds | None = None
    ) -> None:
        """Log a message of a connection. It was received at the time of the clock unless given."""
        self.log(place, Header(Kind.SOCKET, 1, name, number, time or self.clock.time), payload)

    def tell(self, place: Source, kind: Kind, number: int, time: Microseconds, name: str, reason: str = "") -> None:
        """Log a record of our own about a connection of one pair."""
        self.log(place, Header(kind, 1, name, number, time), Facts(pairs=["BTC-KRW"], reason=reason).pack())

    def want(self, place: Source, kind: Kind, time: Microseconds, reason: str = "") -> None:
        """Log which pairs a feed is asked for."""
        facts = Facts(transport=Transport.NONE, pairs=["BTC-KRW", "ETH-KRW"], reason=reason)
        self.log(place, Header(kind, 1, "ticker-0w-1", 0, time), facts.pack())

    def answer(self, place: Source, number: int, payload: bytes, pair: Pair) -> None:
        """Log a REST answer."""
        self.log(place, Header(Kind.REST, 1, "r", number, self.clock.time, pair), payload)

    def append(self, place: Source, stem: str, *, middle: int | None = None) -> int:
        """Log a recording; return how many frames. From frame `middle` on, the time is that of the second window."""
        payloads = [frame.payload for frame in frames(place.exchange.name, stem)]
        for number, payload in enumerate(payloads, 1):
            if number == middle:
                self.clock.time = SECOND.start
            self.say(place, number, payload)
        return len(payloads)

    def raw(self, place: Source, window: Window = FIRST, lake: Lake | None = None) -> "dg.MaterializeResult[Any]":
        """Make the raw table of a window."""
        return materialise_raw(place, window, self.broker, lake or self.lake, SETTINGS)

    def rows(self, place: Source, window: Window = FIRST) -> "dg.MaterializeResult[Any]":
        """Make the table of a channel of a window."""
        return materialise_rows(place, window, self.broker, self.lake)

    def gaps(self, place: Source, window: Window = FIRST, lake: Lake | None = None) -> "dg.MaterializeResult[Any]":
        """Make the table of gaps of a window."""
        return materialise_gaps(place.exchange, [place], window, lake or self.lake)

    def read(self, table: str, exchange: str, window: Window = FIRST) -> pl.DataFrame:
        """Return the rows of a window, which must be there."""
        rows = self.lake.read(table, exchange, window)
        assert rows is not None, f"{table} of {exchange} has no window {window}"
        return rows

    def materialise(self, exchange: str, window: Window = FIRST, **options: Any) -> dg.ExecuteInProcessResult:
        """Materialise all tables of an exchange's window as Dagster does."""
        return dg.materialize(
            list(tables(EXCHANGES[exchange], SETTINGS)),
            partition_key=key_of(window),
            resources={"topics": GivenTopics(), "lake": GivenLake()},
            **options,
        )
