"""Redis has the records of the topics under the same offsets, so the feed goes on there where it stopped."""

import json
from typing import Any

from coin_platform.broker import MemoryBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.serve.feed.redis_source import MOST_RECORDS, RedisSource
from coin_platform.serve.feed.source import FeedPlace, Position, Reading, places_of
from coin_platform.settings import Settings
from coin_platform.topic_names import GAPS, processed_topic
from tests.kit.clock import StillClock
from tests.kit.feed import append_gap, append_processed
from tests.kit.memory_streams import MemoryStreams

UPBIT = EXCHANGES["upbit"]
TICKERS = processed_topic(UPBIT.region, Channel.TICKER), UPBIT.partition
PLACES = places_of(Settings(exchanges=("upbit",)))


class World:
    """A topic of tickers, and the part of it that Redis has."""

    def __init__(self, count: int = 10, since: int = 0) -> None:
        self.now, self.clock = 0, StillClock()
        self.broker, self.streams = MemoryBroker(clock=lambda: self.now), MemoryStreams()
        self.streams.log = "first"
        self.source = RedisSource(self.streams, self.streams, PLACES, since, clock=self.clock)
        self.tell(count)

    def tell(self, count: int, first: int = 0) -> None:
        for offset in range(first, first + count):
            self.now = offset
            append_processed(self.broker, "upbit", "BTC-KRW", offset=offset)
        self.streams.held[TICKERS] = list(self.broker.read(*TICKERS, 0, 1 << 40))

    def read(self, positions: dict[FeedPlace, Position]) -> tuple[list[Any], Reading]:
        reading = self.source.read(positions)
        return [json.loads(record.text).get("offset", record.text) for record in reading.records], reading


def holes(reading: Reading) -> list[tuple[str, int | None, str]]:
    told = [json.loads(record.text) for record in reading.records if record.missing]
    return [(hole["channel"], hole["missed_records"], hole["reason"]) for hole in told]


def test_W5_it_goes_on_where_another_source_stopped() -> None:
    world = World()
    offsets, reading = world.read({TICKERS: Position(4, "first")})
    assert (offsets, reading.positions) == ([4, 5, 6, 7, 8, 9], {TICKERS: Position(10, "first")})
    assert world.read(reading.positions) == ([], Reading([], {}))
    assert world.read({TICKERS: Position(15, "first")})[0] == [], "redis is behind, nothing is told twice"


def test_W5_missing_offsets_are_a_hole_at_their_place() -> None:
    world = World()
    del world.streams.held[TICKERS][6], world.streams.held[TICKERS][:3]
    offsets, reading = world.read({TICKERS: Position(1, "first")})
    assert [offset for offset in offsets if isinstance(offset, int)] == [3, 4, 5, 7, 8, 9]
    assert holes(reading) == [
        ("ticker", 2, "redis does not have the records"),
        ("ticker", 1, "redis does not have the records"),
    ]
    assert [bool(record.missing) for record in reading.records] == [
        True,
        False,
        False,
        False,
        True,
        False,
        False,
        False,
    ]


def test_a_feed_that_begins_here_begins_with_newest_records_and_without_a_hole() -> None:
    world = World(MOST_RECORDS + 5, since=MOST_RECORDS)
    offsets, reading = world.read({})
    assert (offsets, holes(reading)) == ([*range(MOST_RECORDS, MOST_RECORDS + 5)], [])
    world.tell(1, MOST_RECORDS + 5)
    world.clock.now += 0.5
    assert world.read(reading.positions)[0] == [MOST_RECORDS + 5]


def test_gaps_are_read_too_and_foreign_records_are_left_out() -> None:
    world = World(0)
    append_gap(world.broker, "upbit", "BTC-KRW")
    world.broker.append(GAPS, UPBIT.gap_partition, "", b"foreign")
    append_gap(world.broker, "upbit", None)
    place = GAPS, UPBIT.gap_partition
    world.streams.held[place] = list(world.broker.read(*place, 0, 10))
    _, reading = world.read({place: Position(0, "first")})
    assert [(record.type, record.pair) for record in reading.records] == [("gap", "BTC-KRW"), ("gap", None)]
    assert reading.positions == {place: Position(3, "first")}


def test_a_topic_that_was_made_anew_is_told_from_its_begin() -> None:
    world = World()
    _, reading = world.read({TICKERS: Position(4, "first")})
    world.streams.held[TICKERS] = world.streams.held[TICKERS][:3]
    world.streams.log = "second"
    assert world.read(reading.positions)[0] == [], "it looks once a second"
    world.clock.now += 1.0
    _, again = world.read(reading.positions)
    assert holes(again) == [("ticker", None, "the topic was made anew")]
    assert [record.offset for record in again.records] == [None, 0, 1, 2]
    assert again.positions == {TICKERS: Position(3, "second")}
