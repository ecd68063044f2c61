"""The worker and real services: a broker that restarts, groups that others join, topics that go, S3 that is away."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import polars as pl
import pytest
from kafka import KafkaAdminClient, KafkaConsumer

from coin_platform.broker import Broker, LocalBroker, connect, kafka_topics
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.broker.ownership import EXPIRE_SECONDS, FRESH_SECONDS, RENEW_SECONDS
from coin_platform.errors import BrokerUnreachable, LakeError, PartitionBusy
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake
from coin_platform.lake.s3 import S3Store
from coin_platform.model import Channel, Kind
from coin_platform.preprocess import worker
from coin_platform.preprocess.lander import Lander
from coin_platform.preprocess.partition import Partition
from coin_platform.preprocess.worker import Worker
from coin_platform.records import Header
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables.dataframes import batch
from coin_platform.topic_names import group, processed_topic
from infra.stack import Kafka, SeaweedFS
from tests.kit.recordings import frames
from tests.kit.s3 import Fault, S3Proxy, s3_client
from tests.kit.waiting import until

GOOD = [frame.payload for frame in frames("upbit", "ticker")]
UPBIT = EXCHANGES["upbit"]


class Korea:
    """Upbit's tickers in topics that no other test uses, and the region's worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        [self.source] = [each for each in sources(UPBIT, settings) if each.channel is Channel.TICKER]
        self.collector = self.connect("collector")
        self.number = 0

    def connect(self, who: str) -> Broker:
        """Connect as a process of its own would."""
        return connect(self.settings.model_copy(update={"journal_dir": Path(who)}))

    def append(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            header = Header(Kind.SOCKET, 1, "c", self.number, time.time_ns() // 1000)
            payload = GOOD[self.number % len(GOOD)] if self.number % 10 else b"{half"
            self.collector.append(self.source.topic, self.source.partition, header.pack(), payload)
        self.collector.flush()

    def worker(self, broker: Broker) -> Worker:
        return Worker(UPBIT.region, [UPBIT], self.settings, broker)

    def is_done(self) -> bool:
        place = (self.source.topic, self.source.partition)
        done = self.collector.committed(group(UPBIT.region, Channel.TICKER), *place)
        return done == self.collector.end_offset(*place) >= self.number

    def places(self) -> list[tuple[int, int]]:
        topic = processed_topic(UPBIT.region, Channel.TICKER)
        end = self.collector.end_offset(topic, 0)
        bodies = [json.loads(record.value) for record in self.collector.read(topic, 0, self.before, end)]
        return [(body["offset"], body["index"]) for body in bodies]

    before = 0  # where the processed topic ended when the test began

    def check(self) -> None:
        """Every row once, in order."""
        raw = list(self.collector.read(self.source.topic, self.source.partition, 0, self.number * 2))
        table = batch(self.source, raw).rows.sort("offset", "index")
        places = self.places()
        assert places == list(table.select("offset", "index").iter_rows())
        assert len(places) > self.number // 2


@pytest.fixture
def korea(kafka: Kafka, tmp_path: Path) -> Iterator[Korea]:
    ours = Settings(
        home=tmp_path,
        exchanges=("upbit",),
        channels=(Channel.TICKER, Channel.ORDERBOOK),
        broker_url=f"kafka://{kafka.address}",
        topic_korea=f"korea{uuid.uuid4().hex}",
    )
    kafka_topics.create(ours)
    made = Korea(ours)
    made.before = made.collector.end_offset(processed_topic(UPBIT.region, Channel.TICKER), 0)
    with closing(made.collector):
        yield made


class Running:
    """A worker at work on a thread of its own."""

    def __init__(self, region: Worker) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=region.run, args=(self._stop,))

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.mark.kafka
def test_D13_of_two_hosts_one_preprocesses_and_no_record_is_doubled(korea: Korea) -> None:
    seconds = {"first": 0.0, "second": 0.0}

    def host(name: str) -> KafkaBroker:
        broker = korea.connect(name)
        assert isinstance(broker, KafkaBroker)
        broker._ownership._clock = lambda: seconds[name]
        broker._ownership._sleep = lambda _: None  # nobody claims at the same time
        return broker

    korea.append(20)
    first, second = host("first"), host("second")
    one = korea.worker(first)
    assert one.step(1e9) == 20
    with pytest.raises(BrokerUnreachable, match="preprocesses it, or has ended without a word"):
        korea.worker(second)
    seconds["first"] += RENEW_SECONDS
    one.step(1e9)
    with pytest.raises(PartitionBusy, match=r"is preprocessed by process \d+ of"):
        korea.worker(second)
    # The first one freezes with results that are on its disk alone.
    korea.append(20)
    seconds["first"] += FRESH_SECONDS
    [partition] = [partition for partition in one.partitions if partition.source == korea.source]
    assert partition.work(korea.collector.end_offset(*partition.place)) == 20
    first.shipper.spool(partition.out, 0).journal.flush()
    assert not first.shipper.flush(0.2, [(partition.out, 0)])
    # The second one follows it, since it counts no more.
    with suppress(BrokerUnreachable):
        korea.worker(second)
    seconds["second"] += EXPIRE_SECONDS
    other = korea.worker(second)
    assert other.step(1e9) == 20
    korea.check()
    # The first one thaws.
    with pytest.raises(PartitionBusy, match="is preprocessed by"):
        one.step(1e9)
    first._patience = 0.2  # what it kept goes nowhere
    first.close()
    second.close()
    korea.append(20)
    again = host("first")
    with closing(again):
        assert korea.worker(again).step(1e9) == 20
        korea.check()


@pytest.mark.kafka
def test_A4_a_broker_that_restarts_costs_the_worker_nothing_but_time(
    kafka: Kafka, korea: Korea, caplog: pytest.LogCaptureFixture
) -> None:
    korea.append(200)
    with closing(korea.connect("worker")) as broker, Running(korea.worker(broker)):
        until(korea.is_done, 90)
        kafka.stop()
        try:
            until(lambda: ": waits: " in caplog.text, 60)
        finally:
            kafka.start()
        korea.append(200)
        until(lambda: ": goes on, after " in caplog.text, 60)
        until(korea.is_done, 90)
    korea.check()


@pytest.mark.kafka
def test_a_region_that_moves_from_worker_to_worker_by_hand_tells_every_row_once(korea: Korea) -> None:
    for who in ("one", "other", "one"):
        korea.append(50)
        with closing(korea.connect(who)) as broker:
            region = korea.worker(broker)
            region.drain()
            with closing(korea.connect(who)) as second, pytest.raises(PartitionBusy, match="end that one first"):
                korea.worker(second)  # of the same machine
            korea.append(7)
            for partition in region.partitions:
                partition.work(broker.end_offset(*partition.place))  # stored, but not committed
            broker.flush()
    with closing(korea.connect("other")) as broker:
        korea.worker(broker).drain()
    assert korea.is_done()
    korea.check()


def joined(address: str, name: str, topic: str) -> KafkaConsumer:
    """Return a new member of a group that got its partitions."""
    while True:  # until the test's own time limit
        member = KafkaConsumer(
            topic, bootstrap_servers=address, group_id=name, enable_auto_commit=False, session_timeout_ms=6000
        )
        member.poll(3000)
        if member.assignment():
            return member
        member.close()  # kafka-python 3.0.12 never ends a join that began in a poll whose time was up


@pytest.mark.kafka
def test_A10_others_that_join_and_leave_the_group_do_not_disturb_the_worker(
    kafka: Kafka, korea: Korea, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.1)
    name = group(UPBIT.region, Channel.TICKER)
    with closing(korea.connect("worker")) as broker, Running(korea.worker(broker)):
        for count in range(3):
            with closing(joined(kafka.address, name, korea.source.topic)):
                korea.append(40)
                until(lambda: len(korea.places()) >= korea.number - korea.number // 10, 90)
                until(lambda count=count: caplog.text.count(": waits: ") > count, 90)  # type: ignore[misc]
            until(lambda count=count: caplog.text.count(": goes on, after ") > count, 90)  # type: ignore[misc]
        korea.append(10)
        until(korea.is_done, 90)
    korea.check()


@pytest.mark.kafka
def test_K4_a_topic_that_is_deleted_and_made_anew_stops_only_itself(
    kafka: Kafka, korea: Korea, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SURVEY_SECONDS", 1.0)
    monkeypatch.setattr(worker, "PROBE_SECONDS", 0.0)
    [books] = [each for each in sources(UPBIT, korea.settings) if each.channel is Channel.ORDERBOOK]
    with closing(korea.connect("worker")) as broker, Running(korea.worker(broker)):
        korea.append(20)
        until(korea.is_done, 90)
        with closing(KafkaAdminClient(bootstrap_servers=kafka.address)) as admin:
            admin.delete_topics([books.topic])
        until(lambda: f"{books.topic}: vanished, the others go on" in caplog.text, 60)
        korea.append(20)
        until(korea.is_done, 90)
        kafka_topics.create(korea.settings)
        until(lambda: f"{books.topic}: is back" in caplog.text, 60)
        korea.append(20)
        until(korea.is_done, 90)
    korea.check()


# S3


class Clock:
    """A monotonic clock that only the test, and who sleeps, moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.mark.s3
def test_S1_ten_minutes_without_s3_stop_only_the_landing_and_lose_nothing(
    seaweedfs: SeaweedFS, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(home=tmp_path, exchanges=("upbit",), channels=(Channel.TICKER,))
    clock, broker = Clock(), LocalBroker(tmp_path / "journal")
    [source] = sources(UPBIT, settings)
    with closing(broker), S3Proxy(seaweedfs.address) as proxy:
        options = {
            "aws_endpoint_url": proxy.endpoint,
            "aws_allow_http": "true",
            "aws_region": "us-east-1",
            "aws_access_key_id": "key",
            "aws_secret_access_key": "secret",
        }
        client, prefix = s3_client(proxy.endpoint), uuid.uuid4().hex
        store = S3Store(client, "lake", prefix, scan_options=options, single_writer=False, sleep=clock.sleep)
        lake = Lake(store, settings.window_length)
        lander, partition = Lander(UPBIT.region, [UPBIT], settings, broker, lake), Partition(source, broker, settings)
        number = refused = 0

        def second() -> None:
            nonlocal number, refused
            for _ in range(2):
                number += 1
                header = Header(Kind.SOCKET, 1, "c", number, time.time_ns() // 1000)
                broker.append(source.topic, 0, header.pack(), GOOD[number % len(GOOD)])
            broker.flush()
            partition.work(broker.end_offset(source.topic, 0))
            try:
                lander.step(clock.time)
            except LakeError:
                refused += 1
            clock.time += 1.0

        for _ in range(30):
            second()
        before = lander.landings[0].position
        assert before > 0 and refused == 0
        proxy.faults = [Fault(method, 1 << 30, status=503) for method in ("PUT", "GET", "HEAD")]
        away = clock.time
        while clock.time < away + 600:
            second()
        assert refused > 20 and lander.landings[0].position == before
        assert partition.position == number, "processing goes on"
        proxy.faults = []
        for _ in range(12):
            second()
        assert lander.landings[0].position > number - 30
        clock.time += 10
        second()
        wanted = _rows(source, broker, lander.landings[0].position)
        assert lander.landings[0].position == number
        landed = lake.scan("ticker").drop("exchange").collect()
        assert landed.sort("offset", "index").equals(wanted)
        assert landed.select(pl.struct("offset", "index").n_unique()).item() == landed.height


def _rows(source: Source, broker: Broker, stop: int) -> pl.DataFrame:
    return batch(source, broker.read(source.topic, source.partition, 0, stop)).rows.sort("offset", "index")
