"""While Kafka is away the feed tells what the frames of this machine become; with Kafka back, nothing twice or late."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.broker import LocalBroker, MemoryBroker
from coin_platform.clock import wall
from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Kind
from coin_platform.records import Header
from coin_platform.selection import sources
from coin_platform.serve.feed.border import LATE, Border
from coin_platform.serve.feed.frames_source import FramesSource
from coin_platform.serve.feed.ladder import Ladder, LadderTimes, Rung, Service
from coin_platform.serve.feed.reader import LadderReader
from coin_platform.serve.feed.records import FeedRecord
from coin_platform.serve.feed.source import places_of
from coin_platform.serve.feed.tail import TopicSource
from coin_platform.settings import Settings
from coin_platform.tables import dead_letters
from coin_platform.tables.transform import Transform
from tests.kit.feed import append_gap
from tests.kit.recordings import frames

UPBIT = EXCHANGES["upbit"]
TEXTS = [frame.payload for frame in frames("upbit", "trade")]
AT_ONCE = LadderTimes(up_probes=1, up_seconds=0, down_probes=1, down_seconds=5, climb_seconds=0)


class World:
    """A collector's spool on this machine, Kafka, a worker, and a feed."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder, broker_url="kafka://127.0.0.1:1", exchanges=("upbit",))
        [self.source] = [each for each in sources(UPBIT, self.settings) if each.channel is Channel.TRADE]
        self.raw, self.out = (self.source.topic, self.source.partition), self.source.outputs[0]
        self.spool, self.kafka = LocalBroker(folder / "data/journal/spool"), MemoryBroker()
        self.transform, self.worked, self.collected = Transform(self.source), 0, 0
        self.border, self.now = Border(), 0.0
        self.local = FramesSource(self.settings, self.border)
        self.ladder = Ladder((Service.KAFKA, Service.LOCAL), AT_ONCE)
        log = TopicSource(self.kafka, places_of(self.settings), 0)
        self.reader = LadderReader(self.ladder, {Service.KAFKA: log, Service.LOCAL: self.local}, self.border)
        self.told: list[FeedRecord] = []
        self.note(Service.LOCAL)
        self.note(Service.KAFKA)

    def note(self, service: Service, failure: str = "") -> None:
        self.now += 1
        self.ladder.note(service, self.now, 0, failure)

    def collect(self, count: int) -> None:
        """Append trades that differ to the spool."""
        for _ in range(count):
            self.collected += 1
            trade = json.loads(TEXTS[0]) | {"sequential_id": 10**16 + self.collected, "sid": 10**16 + self.collected}
            header = Header(Kind.SOCKET, 1, "c", self.collected, wall())
            self.spool.append(*self.raw, header.pack(), json.dumps(trade).encode())
        self.spool.flush()

    def ship(self, *, trims: bool = True) -> None:
        """Bring what waits to Kafka, as the shipper does."""
        begin, end = self.spool.begin_offset(*self.raw), self.spool.end_offset(*self.raw)
        for record in self.spool.read(*self.raw, begin, end):
            self.kafka.append(*self.raw, record.header, record.value)
        if trims:
            self.spool.trim(*self.raw, end)
        while trims and self.spool.begin_offset(*self.raw) < end:
            self.spool.flush()

    def work(self, count: int = 1 << 30) -> None:
        """Process raw records, as the worker does."""
        for record in self.kafka.read(
            *self.raw, self.worked, min(self.kafka.end_offset(*self.raw), self.worked + count)
        ):
            _, values = dead_letters.encoded(self.transform, record)
            for value in values:
                self.kafka.append(*self.out, record.header, value)
            self.worked = record.offset + 1

    def kafka_is_back(self) -> None:
        """Let Kafka take what waits, and then one trade more."""
        self.note(Service.KAFKA)
        self.ship()
        self.work()
        self.collect(1)
        self.ship()
        self.work()

    def read(self) -> list[int | str]:
        """Read once, and return the frames of the new trades, and holes."""
        new = self.reader.read()
        self.told += new
        return [f"hole of {json.loads(r.text)['missed_records']}" if r.missing else r.frame for r in new]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.reader.close()
    world.spool.close()


def test_W5_A22_the_frames_of_this_machine_stand_in_for_kafka_and_nothing_comes_twice(world: World) -> None:
    world.collect(3)
    world.ship()
    world.work()
    assert world.read() == [1, 2, 3]
    world.note(Service.KAFKA, "kafka is away")
    assert world.ladder.rung is Rung.LOCAL
    world.collect(2)
    assert world.read() == [4, 5]
    world.collect(1)
    assert (world.read(), world.read()) == ([6], [])
    offsets = [record.offset or 0 for record in world.told]
    assert offsets == [0, 1, 2, 3, 4, 5], "they rise, so that a client knows which one is newer"
    world.kafka_is_back()
    assert world.read() == [7]
    assert [record.offset for record in world.told][-1] == 6
    keys = {"type": "trade", "exchange": "upbit", "pair": world.told[-1].pair, "epoch": 1}
    assert all(json.loads(record.text).items() >= keys.items() for record in world.told)


def test_W5_A22_what_kafka_has_and_did_not_tell_is_a_hole_at_once_and_does_not_come_late(world: World) -> None:
    world.collect(5)
    world.ship()
    world.work(2)
    assert world.read() == [1, 2]
    world.note(Service.KAFKA, "kafka is away")
    world.collect(2)
    assert world.read() == ["hole of None", 6, 7]
    world.kafka_is_back()
    assert world.read() == ["hole of 3", 8]
    assert json.loads(world.told[-2].text)["reason"] == LATE


def test_W5_A22_what_goes_to_kafka_before_it_was_read_here_is_a_hole_at_once(world: World) -> None:
    world.collect(1)
    assert world.ladder.rung is Rung.KAFKA
    world.note(Service.KAFKA, "kafka is away from this server, but not from the collector")
    assert world.read() == [1]
    world.collect(2)
    world.ship()
    assert world.read() == [], "they are trimmed already"
    world.collect(2)
    assert world.read() == ["hole of None", 4, 5]
    world.kafka_is_back()
    assert world.read() == ["hole of 2", 6]


def test_W5_A22_the_same_frames_are_not_told_again_in_a_second_outage(world: World) -> None:
    world.collect(2)
    world.note(Service.KAFKA, "kafka is away")
    assert world.read() == [1, 2]
    world.note(Service.KAFKA)
    assert world.read() == []
    world.note(Service.KAFKA, "kafka is away again")
    world.collect(1)
    assert world.read() == [3]


def test_W5_A22_a_frame_that_kafka_has_and_the_spool_still_holds_is_not_told_again(world: World) -> None:
    world.collect(3)
    world.ship(trims=False)
    world.work()
    assert world.read() == [1, 2, 3]
    world.note(Service.KAFKA, "kafka is away")
    world.collect(2)
    assert world.read() == [4, 5]
    assert [record.offset for record in world.told] == [0, 1, 2, 3, 4], "the offsets that kafka will give"


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["collect", "ship", "work", "one", "kafka", "read"]), max_size=30))
def test_W5_A22_no_walk_between_kafka_and_this_machine_tells_a_frame_twice_or_late(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world, is_down = World(Path(folder)), False
        for step in [*steps, "up", "ship", "work", "collect", "ship", "work", "read"]:
            match step:
                case "collect":
                    world.collect(1)
                case "ship" if not is_down:
                    world.ship()
                case "work" | "one" if not is_down:
                    world.work(1 if step == "one" else 1 << 30)
                case "kafka" | "up":
                    is_down = not is_down and step == "kafka"
                    world.note(Service.KAFKA, "away" if is_down else "")
                case "read":
                    world.read()
        world.reader.close()
        world.spool.close()
    numbers = [record.frame for record in world.told if not record.missing]
    assert numbers == sorted(set(numbers)), "in order, and once"
    late = [json.loads(record.text)["missed_records"] for record in world.told if record.missing]
    assert world.collected - len(numbers) == sum(count or 0 for count in late), "what is missing is told with its size"


def test_gaps_that_wait_are_told_once(world: World) -> None:
    world.note(Service.KAFKA, "kafka is away")
    append_gap(world.spool, "upbit", None)
    [gap] = [*world.reader.read()]
    assert gap.type == "gap"
    world.note(Service.KAFKA)
    append_gap(world.kafka, "upbit", None)
    append_gap(world.kafka, "upbit", "BTC-KRW")
    assert [record.pair for record in world.reader.read()] == ["BTC-KRW"]


def test_a_frame_that_cannot_be_decoded_costs_itself_alone(world: World) -> None:
    world.note(Service.KAFKA, "kafka is away")
    world.spool.append(*world.raw, Header(Kind.SOCKET, 1, "d", 1, wall()).pack(), b"{half")
    world.spool.append(*world.raw, "foreign", b"x")
    world.collect(1)
    assert world.read() == [1]


def test_C5_this_machine_is_of_use_only_while_its_collector_writes(tmp_path: Path) -> None:
    own, now = Settings(home=tmp_path, exchanges=("upbit",)), wall()
    local = FramesSource(own, Border(), clock=lambda: now)
    with pytest.raises(BrokerUnreachable, match="no collector of this machine has written a frame within 15 s"):
        local.probe()
    [source, *_] = sources(UPBIT, own)
    spool = LocalBroker(tmp_path / "data/journal/spool")
    spool.append(source.topic, source.partition, "h", b"x")
    spool.flush()
    local.probe()
    now += 20 * SECOND
    with pytest.raises(BrokerUnreachable):
        local.probe()
    local.close()
    spool.close()
