"""Whatever the ladder does: each record is told once and in order, and what is missing is a hole."""

import json
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.broker import MemoryBroker
from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.serve.feed.ladder import Ladder, LadderTimes, Rung, Service
from coin_platform.serve.feed.reader import LadderReader
from coin_platform.serve.feed.records import FeedRecord
from coin_platform.serve.feed.redis_source import RedisSource
from coin_platform.serve.feed.source import Positions, Reading, places_of
from coin_platform.serve.feed.tail import TopicSource
from coin_platform.settings import Settings
from coin_platform.topic_names import processed_topic
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.feed import append_processed
from tests.kit.memory_streams import MemoryStreams
from tests.kit.waiting import until

UPBIT = EXCHANGES["upbit"]
TRADES = processed_topic(UPBIT.region, Channel.TRADE), UPBIT.partition
PLACES = places_of(Settings(exchanges=("upbit",)))
AT_ONCE = LadderTimes(up_probes=1, up_seconds=0, down_probes=1, down_seconds=5, climb_seconds=0)


class World:
    """Kafka and Redis in memory, and a ladder that moves at once."""

    def __init__(self) -> None:
        self.kafka, self.redis = FaultyBroker(), MemoryStreams()
        self.ladder = Ladder((Service.KAFKA, Service.REDIS), AT_ONCE)
        self.reader = LadderReader(
            self.ladder,
            {
                Service.KAFKA: TopicSource(self.kafka, PLACES, 0),
                Service.REDIS: RedisSource(self.redis, self.redis, PLACES, 0),
            },
        )
        self.count, self.now = 0, 0.0
        self.told: list[FeedRecord] = []

    def append(self, count: int = 1) -> None:
        for _ in range(count):
            append_processed(self.kafka, "upbit", "BTC-KRW", channel=Channel.TRADE, offset=self.count)
            self.count += 1

    def copy(self, *, skips: bool = False) -> None:
        """Copy what Kafka has into Redis, all or all but the newest one."""
        held = self.redis.held[TRADES]
        new = list(MemoryBroker.read(self.kafka, *TRADES, held[-1].offset + 1 if held else 0, self.count))
        held += new[1:] if skips else new

    def note(self, service: Service, failure: str = "") -> None:
        self.now += 1
        self.ladder.note(service, self.now, 0, failure)

    def read(self) -> None:
        self.told += self.reader.read()

    @property
    def offsets(self) -> list[int | str]:
        return [json.loads(r.text)["missed_records"] * "-" if r.missing else r.offset or 0 for r in self.told]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.reader.close()


def test_W5_A22_the_feed_goes_on_from_redis_and_back_without_a_double(world: World) -> None:
    world.note(Service.KAFKA)
    world.note(Service.REDIS)
    world.append(3)
    world.copy()
    world.read()
    world.note(Service.KAFKA, "away")
    world.append(2)
    world.copy()
    world.read()
    world.note(Service.KAFKA)
    world.append(2)
    world.copy()
    world.read()
    assert world.offsets == [0, 1, 2, 3, 4, 5, 6]
    assert world.reader.moves == 2
    assert [move.after for move in world.ladder.moves] == [Rung.KAFKA_REDIS, Rung.REDIS, Rung.KAFKA_REDIS]


def test_W5_A22_what_redis_never_got_is_a_hole_and_does_not_come_late(world: World) -> None:
    world.note(Service.KAFKA)
    world.note(Service.REDIS)
    world.append(3)
    world.read()
    world.copy()
    world.note(Service.KAFKA, "away")
    world.append(3)
    world.copy(skips=True)
    world.read()
    world.note(Service.KAFKA)
    world.append(1)
    world.read()
    assert world.offsets == [0, 1, 2, "-", 4, 5, 6]


def test_a_read_that_fails_counts_as_a_bad_probe(world: World) -> None:
    with pytest.raises(BrokerUnreachable, match="nothing to read from: kafka: not asked yet; redis: not asked yet"):
        world.read()
    world.note(Service.KAFKA)
    world.note(Service.REDIS)
    world.kafka.refuse("end_offsets", BrokerUnreachable("kafka is away"))
    world.append(1)
    world.copy()
    with pytest.raises(BrokerUnreachable, match="kafka is away"):
        world.read()
    world.read()
    assert (world.offsets, world.ladder.rung) == ([0], Rung.REDIS)


def test_W5_A22_a_source_that_hangs_is_left_alone_and_what_it_answers_later_is_dropped(world: World) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Hanging(TopicSource):
        def read(self, positions: Positions) -> Reading:
            reading = super().read(positions)
            asked.set()
            answer.wait(30)
            return reading

    world.reader._sources[Service.KAFKA] = Hanging(world.kafka, PLACES, 0)
    world.note(Service.KAFKA)
    world.note(Service.REDIS)
    world.append(2)
    world.copy()
    reading = threading.Thread(target=world.read)
    reading.start()
    until(asked.is_set, 30)
    world.note(Service.KAFKA, "it hangs")
    reading.join(30)
    assert world.offsets == []
    world.read()
    assert world.offsets == [0, 1], "from redis"
    world.note(Service.KAFKA)
    answer.set()
    world.append(1)
    world.read()
    assert world.offsets == [0, 1, 2]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["append", "copy", "skip", "kafka", "redis", "read"]), max_size=40))
def test_W5_A22_no_walk_tells_a_record_twice_or_late_or_misses_one_silently(steps: list[str]) -> None:
    world = World()
    is_down = {Service.KAFKA: False, Service.REDIS: False}
    for service in is_down:
        world.note(service)
    for step in [*steps, "up", "append", "read"]:
        match step:
            case "append":
                world.append()
            case "copy" | "skip":
                world.copy(skips=step == "skip")
            case "kafka" | "redis":
                service = Service(step)
                is_down[service] = not is_down[service]
                world.note(service, "away" if is_down[service] else "")
            case "up":
                world.note(Service.KAFKA)
            case _ if world.ladder.source is not None:
                world.read()
    world.reader.close()
    place = first if isinstance(first := world.offsets[0], int) else 0
    for told in world.offsets:
        if isinstance(told, str):
            place += len(told)
        else:
            assert told == place, "in order, once, and every hole is told with its size"
            place += 1
    assert place == world.count
