"""Whatever happens to Kafka, to a producer or to this process: nothing is lost, and order holds."""

import itertools
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from math import inf
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.errors import (
    IllegalStateError,
    InvalidProducerEpochError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumberError,
    ProducerFencedError,
    UnknownProducerIdError,
)

from coin_platform.broker.contract import Unsent
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.broker.kafka_client import client
from coin_platform.broker.shipper import Producer, SendAnswer, Shipper
from coin_platform.broker.spool import Loss, losses, waiting
from coin_platform.errors import DeliveryError, PartitionBusy
from coin_platform.journal import JournalWriter, path_of
from coin_platform.records import Record
from infra.stack import Kafka
from tests.kit.delivery import Writer, first_seen, stored
from tests.kit.figures import figure
from tests.kit.topics import fresh_topic
from tests.kit.waiting import until

TOPIC = "koreaSocketDataIn-ticker"


class TooLarge(Exception):
    """What this cluster says to a record that it will never take."""


class Reply:
    """A record's fate."""

    def __init__(self) -> None:
        self.is_done = False
        self.exception: Exception | None = None


class Cluster:
    """A log that producers write to; `verdict` decides about a partition's batch: an error refuses all of it."""

    def __init__(self) -> None:
        self.logs: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
        self.producers: list[Line] = []
        self.misuses: list[str] = []
        self.is_up = True
        self.verdict: Callable[[str, int, list[bytes]], Exception | None] = lambda *_: None
        self.speed = float("inf")  # bytes a second that a line carries
        self.latency = 0.0  # seconds until its answers come

    def connect(self) -> Producer:
        if not self.is_up:
            raise ConnectionRefusedError("nobody listens")
        self.producers.append(Line(self))
        return self.producers[-1]

    def taken(self, partition: int = 0) -> list[int]:
        return [int(value) for value in self.logs[TOPIC, partition]]


class Line:
    """A producer as the shipper sees it; notes when it is not used as promised."""

    def __init__(self, cluster: Cluster) -> None:
        self.is_over = self.has_failed = False
        self.largest = 0  # bytes that were on their way at once
        self.rounds = 0  # that were answered
        self._cluster = cluster
        self._fatal: Exception | None = None
        self._held: dict[tuple[str, int], list[tuple[bytes, Reply]]] = {}
        self._arrival = 0.0

    def send(self, topic: str, partition: int, record: Record) -> SendAnswer:
        if self.is_over or self.has_failed:
            self._cluster.misuses.append(f"a producer is used again that {'is over' if self.is_over else 'failed'}")
        reply = Reply()
        self._held.setdefault((topic, partition), []).append((record.value, reply))
        return reply

    def wait(self, seconds: float) -> None:
        if not self._cluster.is_up:
            time.sleep(min(seconds, 0.01))
            return
        size = sum(len(value) for batch in self._held.values() for value, _ in batch)
        self.largest = max(self.largest, size)
        self._arrival = self._arrival or time.monotonic() + self._cluster.latency + size / self._cluster.speed
        time.sleep(max(0.0, min(seconds, self._arrival - time.monotonic())))
        if time.monotonic() < self._arrival:
            return
        self._arrival = 0.0
        self.rounds += 1
        for (topic, partition), batch in self._held.items():
            values = [value for value, _ in batch]
            error = self._fatal or self._cluster.verdict(topic, partition, values)
            self.has_failed |= error is not None
            if isinstance(error, TooLarge):
                self._fatal = error  # as kafka-python does: all that a producer holds shares the fate of one
            if error is None:
                self._cluster.logs[topic, partition] += values
            for _, reply in batch:
                reply.exception, reply.is_done = error, True
        self._held.clear()

    def is_too_large(self, error: Exception) -> bool:
        return isinstance(error, TooLarge)

    def discard(self) -> None:
        self.is_over = True


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    assert cluster.misuses == []


@contextmanager
def shipping(folder: Path, cluster: Cluster, patience: float = 5.0, **options: object) -> Iterator[Shipper]:
    shipper = Shipper(folder, cluster.connect, **options)  # type: ignore[arg-type]
    try:
        yield shipper
    finally:
        shipper.close(patience)


def append(shipper: Shipper, numbers: range, partition: int = 0) -> None:
    for number in numbers:
        shipper.append(TOPIC, partition, "h", b"%d" % number)


# Order and repetition


def test_what_is_flushed_has_been_taken_in_order_and_is_forgotten_on_disk(tmp_path: Path, cluster: Cluster) -> None:
    with shipping(tmp_path, cluster) as shipper:
        for start in range(0, 5_000, 1_000):
            append(shipper, range(start, start + 1_000))
            shipper.flush(5)
            assert cluster.taken() == list(range(start + 1_000))
        append(shipper, range(3), partition=1)
    assert cluster.taken(1) == [0, 1, 2]
    with shipping(tmp_path, cluster) as successor:
        append(successor, range(5_000, 5_001))
    assert cluster.taken() == list(range(5_001)), "a clean end leaves nothing to be sent twice"


def test_a_flush_has_all_journals_synced_side_by_side(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[bool]] = []
    with shipping(tmp_path, cluster) as shipper:
        spools = [shipper.spool(TOPIC, partition) for partition in range(4)]

        def flush(journal: JournalWriter) -> None:
            asked.append([each.journal._flush_to == 1 for each in spools])
            real(journal)

        real = JournalWriter.flush
        monkeypatch.setattr(JournalWriter, "flush", flush)
        for partition in range(4):
            append(shipper, range(1), partition)
        shipper.flush(5)
        assert asked[0] == [True] * 4, "all were asked before the first is waited for"
        assert [cluster.taken(partition) for partition in range(4)] == [[0]] * 4


@pytest.mark.parametrize(
    "error",
    [
        OutOfOrderSequenceNumberError,
        UnknownProducerIdError,
        InvalidProducerEpochError,
        ProducerFencedError,
        IllegalStateError,
        KafkaTimeoutError,
    ],
)
def test_K3_A7_a_fatal_state_is_left_by_another_producer_that_sends_in_order(
    tmp_path: Path, cluster: Cluster, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    errors: Iterator[Exception | None] = iter([None, error("of a test"), error("again"), None])
    cluster.verdict = lambda *_: next(errors, None)
    with shipping(tmp_path, cluster) as shipper:
        append(shipper, range(10))
        shipper.flush(5)
        append(shipper, range(10, 4_000))
        shipper.flush(5)
        assert "wait on disk" not in caplog.text, "within its 5 s"
        assert cluster.taken() == list(range(4_000))
        assert [line.is_over for line in cluster.producers] == [True, True, False]


def test_a_batch_whose_fate_is_unknown_is_sent_again_before_what_follows_it(tmp_path: Path, cluster: Cluster) -> None:
    def take_and_deny(topic: str, partition: int, values: list[bytes]) -> Exception:
        cluster.logs[topic, partition] += values
        cluster.verdict = lambda *_: None
        return TimeoutError("the answer was lost")

    cluster.verdict = take_and_deny
    with shipping(tmp_path, cluster) as shipper:
        append(shipper, range(3_000))
        shipper.flush(5)
        append(shipper, range(3_000, 3_100))
    assert len(cluster.taken()) > 3_100
    assert first_seen(cluster.taken()) == list(range(3_100))


def test_an_outage_is_told_once_and_lasts_as_long_as_it_lasts(
    tmp_path: Path, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cluster.is_up = False
    with shipping(tmp_path, cluster) as shipper:
        append(shipper, range(100))
        shipper.flush(0.8)  # several tries
        assert shipper.waiting == 100
        cluster.is_up = True
        shipper.flush(5)
        assert cluster.taken() == list(range(100))
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines if "does not take" in line] == [f"kafka does not take {TOPIC}[0]"]
    assert sum("again, after" in line for line in lines) == 1
    assert any(line.startswith("100 records wait on disk") for line in lines)


def test_a_partition_that_kafka_refuses_does_not_hold_up_the_others(tmp_path: Path, cluster: Cluster) -> None:
    cluster.verdict = lambda topic, partition, values: KafkaTimeoutError("no leader") if partition == 1 else None
    with shipping(tmp_path, cluster, patience=0) as shipper:
        append(shipper, range(10), partition=1)
        for start in range(0, 2_000, 500):
            append(shipper, range(start, start + 500))
            until(lambda: len(cluster.taken()) == start + 500)  # noqa: B023
        assert (cluster.taken(), cluster.taken(1)) == (list(range(2_000)), [])
        assert shipper.waiting == 10
        cluster.verdict = lambda *_: None


def test_a_spool_that_cannot_be_read_does_not_hold_up_the_others(tmp_path: Path, cluster: Cluster) -> None:
    cluster.is_up = False
    with shipping(tmp_path, cluster, patience=0) as shipper:
        append(shipper, range(5), partition=1)
        append(shipper, range(5))
        shipper.flush(0)
        file = path_of(tmp_path, TOPIC, 1)
        file.rename(file.with_suffix(".away"))
        file.mkdir()
        cluster.is_up = True
        until(lambda: cluster.taken() == list(range(5)))
        assert cluster.taken(1) == []
        assert shipper.waiting == 5
        file.rmdir()
        file.with_suffix(".away").rename(file)
        until(lambda: cluster.taken(1) == list(range(5)))


# Bounds


def test_no_more_is_on_its_way_than_the_bound_and_nobody_starves(tmp_path: Path, cluster: Cluster) -> None:
    cluster.is_up = False
    with shipping(tmp_path, cluster, in_flight=300_000) as shipper:
        for number, partition in itertools.product(range(20), range(4)):
            shipper.append(TOPIC, partition, "h", (b"%d" % number).ljust(100_000))
        shipper.append(TOPIC, 0, "h", b"20".ljust(1_000_000))  # alone larger than the bound
        shipper.flush(0)
        cluster.is_up = True
        shipper.flush(10)
        assert [cluster.taken(partition) for partition in range(4)] == [list(range(21)), *[list(range(20))] * 3]
        assert max(line.largest for line in cluster.producers) <= 1_000_000


def test_when_rounds_take_long_more_is_gathered_for_each(tmp_path: Path, cluster: Cluster) -> None:
    cluster.latency = 0.05
    with shipping(tmp_path, cluster) as shipper:
        for value in range(100):
            shipper.append(TOPIC, 0, "h", b"%d" % value)
            time.sleep(0.01)
        until(lambda: len(cluster.taken()) == 100)
    assert cluster.taken() == list(range(100))
    assert sum(line.rounds for line in cluster.producers) < 10  # of 0.05 and 0.03 s they would be 13


def test_K1_A6_what_just_fits_a_narrow_line_is_not_followed_by_more_than_it_carries(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next round has all that waits, and the line carries it, in vain, until Kafka's client gives it up."""
    for name, value in {
        "_SLICE_SECONDS": 0.02,
        "_ROUND_SHORT_SECONDS": 0.05,
        "_ROUND_MAX_SECONDS": 0.25,
        "_GIVE_UP_SECONDS": 0.6,
        "_ROUND_MIN_BYTES": 256,
    }.items():
        monkeypatch.setattr(f"coin_platform.broker.shipper.{name}", value)
    cluster.speed = 4_000
    with shipping(tmp_path, cluster) as shipper:
        append(shipper, range(1_000, 1_200))  # 0.2 s
        until(lambda: bool(cluster.producers) and cluster.producers[0].largest > 0)
        append(shipper, range(1_200, 3_000))  # 1.8 s, more than an answer may take
        shipper.flush(10)
    assert cluster.taken() == list(range(1_000, 3_000))
    assert len(cluster.producers) == 1, "none was thrown away with what it held"


def test_K1_A6_late_answers_are_no_narrow_line(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a line with seconds of latency carries the least that a round may have, and ever more waits."""
    for name, value in {
        "_SLICE_SECONDS": 0.02,
        "_ROUND_SHORT_SECONDS": 0.05,
        "_ROUND_MAX_SECONDS": 0.4,
        "_ROUND_MIN_BYTES": 256,
    }.items():
        monkeypatch.setattr(f"coin_platform.broker.shipper.{name}", value)
    cluster.latency = 0.1
    with shipping(tmp_path, cluster) as shipper:
        append(shipper, range(1_000, 1_001))
        shipper.flush(5)
        append(shipper, range(1_001, 2_000))  # 300 rounds of the least size
        shipper.flush(10)
    assert cluster.taken() == list(range(1_000, 2_000))
    assert sum(line.rounds for line in cluster.producers) < 20


def test_beyond_the_limit_the_oldest_are_given_up_and_that_is_recorded(
    tmp_path: Path, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.is_up = False
    told: list[Loss] = []
    before = time.time_ns() // 1_000
    with shipping(tmp_path, cluster, limit_bytes=4_000_000, on_loss=told.append) as shipper:
        for number in range(1_000):
            shipper.append(TOPIC, 0, "h", (b"%d" % number).ljust(10_000))
        until(lambda: sum(loss.records for loss in told) >= 600)
        until(lambda: 0 < shipper.spool(TOPIC, 0).unsent.bytes <= 4_000_000)
        assert shipper.spool(TOPIC, 0).unsent.records == 1_000 - sum(loss.records for loss in told)
        cluster.is_up = True
        shipper.flush(10)
        lost = sum(loss.records for loss in told)
        assert 600 <= lost < 800
        assert cluster.taken() == list(range(lost, 1_000))
        assert shipper.spool(TOPIC, 0).unsent == Unsent(0, 0, lost)
    assert list(losses(tmp_path)) == told
    assert {(loss.topic, loss.partition, loss.cause) for loss in told} == {(TOPIC, 0, "overflow")}
    assert all(before <= loss.from_time <= loss.to_time <= time.time_ns() // 1_000 for loss in told)
    assert all(first.to_time <= second.from_time for first, second in itertools.pairwise(told))
    assert sum("given up, overflow" in record.getMessage() for record in caplog.records) == len(told)


def test_a_record_that_kafka_never_takes_is_given_up_alone(tmp_path: Path, cluster: Cluster) -> None:
    cluster.verdict = lambda topic, partition, values: TooLarge() if b"7" in values else None
    cluster.is_up = False
    with shipping(tmp_path, cluster) as shipper:
        append(shipper, range(20))
        for partition in range(1, 4):  # single records, which are refused with it
            append(shipper, range(1), partition)
        shipper.flush(0)
        cluster.is_up = True
        shipper.flush(10)
        append(shipper, range(20, 30))
    assert cluster.taken() == [*range(7), *range(8, 30)]
    assert [cluster.taken(partition) for partition in range(1, 4)] == [[0]] * 3
    assert [(loss.partition, loss.cause, loss.records) for loss in losses(tmp_path)] == [(0, "too_large", 1)]


# Ends and successors


def test_close_leaves_what_kafka_has_not_taken_to_the_next_writer(tmp_path: Path, cluster: Cluster) -> None:
    threads = threading.active_count()
    cluster.is_up = False
    started = time.monotonic()
    with shipping(tmp_path, cluster, patience=0.2) as shipper:
        append(shipper, range(50))
    assert time.monotonic() - started < 3
    assert threading.active_count() == threads
    with pytest.raises(DeliveryError, match="closed"):
        append(shipper, range(1))
    cluster.is_up = True
    with shipping(tmp_path, cluster) as successor:
        successor.spool(TOPIC, 0)
        assert successor.flush(5)
        assert cluster.taken() == list(range(50))
        append(successor, range(50, 60))
    assert cluster.taken() == list(range(60))


def test_close_does_not_wait_for_answers_that_do_not_come(tmp_path: Path, cluster: Cluster) -> None:
    started = time.monotonic()
    with shipping(tmp_path, cluster, patience=0.2) as shipper:
        append(shipper, range(1))
        shipper.flush(5)
        cluster.is_up = False  # from now on its producer never answers
        append(shipper, range(1, 10))
    assert time.monotonic() - started < 3
    assert cluster.producers[0].is_over
    cluster.is_up = True
    with shipping(tmp_path, cluster) as successor:
        successor.spool(TOPIC, 0)
        assert successor.flush(5)
    assert cluster.taken() == list(range(10))


def test_a_claim_fails_while_another_writes_and_a_flush_says_whether_something_is_left_to_send(
    tmp_path: Path, cluster: Cluster
) -> None:
    cluster.is_up = False
    with shipping(tmp_path, cluster, patience=0) as shipper, shipping(tmp_path, cluster, patience=0) as other:
        append(shipper, range(5))
        with pytest.raises(PartitionBusy, match=f"process {os.getpid()}"):
            other.spool(TOPIC, 0)
    with shipping(tmp_path, cluster, patience=0) as successor:
        assert successor.spool(TOPIC, 0).waiting == 5
        assert not successor.flush(0.1)
        assert successor.flush(0.1, [(TOPIC, 1)]), "that partition has nothing to send"


def test_F5_the_records_of_a_guest_are_sent_by_its_host_and_then_by_itself(tmp_path: Path, cluster: Cluster) -> None:
    with shipping(tmp_path, cluster, guest=True) as guest:
        with shipping(tmp_path, cluster) as host:
            append(host, range(10))
            host.flush(5)
            for number in range(10, 50, 2):
                append(guest, range(number, number + 1))
                assert not guest.flush(inf), "on the disk, and left to the host"
                append(host, range(number + 1, number + 2))
                host.flush(5)
            assert cluster.taken() == list(range(50))
            assert not guest.spool(TOPIC, 0).is_ours
            append(guest, range(50, 60))
            guest.flush(inf)
        assert guest.spool(TOPIC, 0).is_ours
        append(guest, range(60, 70))
        guest.flush(5)
        assert cluster.taken() == list(range(70))


# With a real Kafka

_ENDLESS = """
import sys, itertools
from pathlib import Path
from coin_platform.broker.kafka import KafkaBroker

broker = KafkaBroker([sys.argv[1]], Path(sys.argv[2]), patience=0.05)
for number in itertools.count():
    broker.append(sys.argv[3], 0, "h", b"%d" % number)
    if number % 500 == 0:
        broker.flush()
        print(number, flush=True)
"""


def write_and_kill(server: str, spool: Path, topic: str, least: int) -> int:
    """Append in another process until `least` records were flushed, kill it, and return how many surely were."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(_ENDLESS), server, str(spool), topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            flushed = next(number for number in map(int, process.stdout) if number >= least)
        finally:
            process.send_signal(signal.SIGKILL)
    return flushed + 1


@pytest.mark.kafka
def test_K2_what_a_killed_process_had_on_disk_is_sent_by_the_next_one(kafka: Kafka, tmp_path: Path) -> None:
    topic = fresh_topic(kafka)
    flushed = write_and_kill("127.0.0.1:1", tmp_path, topic, 2_000)  # a port where nobody listens
    with closing(KafkaBroker([kafka.address], tmp_path)) as broker:
        assert broker.end_offset(topic, 0) == 0
        broker.claim(topic, 0)
        assert broker.flush()
        numbers = stored(broker, topic)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= flushed


@pytest.mark.kafka
def test_S1_killed_while_it_sends_nothing_is_lost_and_repetitions_are_in_order(kafka: Kafka, tmp_path: Path) -> None:
    topic = fresh_topic(kafka)
    flushed = write_and_kill(kafka.address, tmp_path, topic, 5_000)
    with closing(KafkaBroker([kafka.address], tmp_path)) as broker:
        broker.claim(topic, 0)
        assert broker.flush()
        numbers = first_seen(stored(broker, topic))
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= flushed


@pytest.mark.kafka
def test_K1_A4_an_outage_of_the_broker_loses_nothing_and_ends_when_it_is_back(
    kafka: Kafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = fresh_topic(kafka)
    with closing(KafkaBroker([kafka.address], tmp_path)) as broker:
        with Writer(broker, topic) as writer:
            until(lambda: broker.end_offset(topic, 0) > 100)
            try:
                kafka.stop()
                gone = time.monotonic()
                until(lambda: time.monotonic() - gone > 6)
                assert broker.shipper.waiting > 1_000
            finally:
                kafka.start()
            seconds = until(lambda: "again, after" in caplog.text, 4.5)
            figure("K1", "first acknowledgement after 6 s without broker", round(seconds, 2), "s")
        until(lambda: not broker.shipper.waiting, 60)
        assert first_seen(stored(broker, topic)) == list(range(writer.appended))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("coin_platform")]
    assert len(lines) == 2, lines
    assert lines[0].startswith(f"kafka does not take {topic}[0]")
    assert lines[1].startswith(f"kafka takes {topic}[0] again")


@pytest.mark.kafka
def test_K1_a_broker_that_is_away_is_asked_for_about_once_a_second(
    kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    topic = fresh_topic(kafka)
    with closing(client(KafkaProducer, [kafka.address], 10)) as producer:
        producer.send(topic, b"1", partition=0).get(10)
        caplog.set_level(logging.INFO, "kafka.net.manager")
        try:
            kafka.stop()
            due = producer.send(topic, b"2", partition=0)
            began = time.time()
            time.sleep(12)
            ended = time.time()
        finally:
            kafka.start()
        calls = [record.created for record in caplog.records if "Initializing connection" in record.getMessage()]
        times = [began, *(moment for moment in calls if began < moment < ended), ended]
        pauses = [round(after - before, 2) for before, after in itertools.pairwise(times)]
        assert max(pauses) < 3, pauses
        due.get(20)


@pytest.mark.kafka
def test_a_record_larger_than_the_topic_takes_is_the_only_one_lost(kafka: Kafka, tmp_path: Path) -> None:
    topic = fresh_topic(kafka, {"max.message.bytes": "1000"})
    other = fresh_topic(kafka)
    with closing(KafkaBroker([kafka.address], tmp_path)) as broker:
        broker.append(topic, 0, "h", b"1")
        broker.append(topic, 0, "h", os.urandom(50_000))
        broker.append(topic, 0, "h", b"2")
        broker.append(other, 0, "h", b"3")
        broker.flush()
        assert [record.value for record in broker.read(other, 0, 0, 10)] == [b"3"]
        assert [record.value for record in broker.read(topic, 0, 0, 10)] == [b"1", b"2"]
    assert [(loss.cause, loss.records) for loss in losses(tmp_path)] == [("too_large", 1)]


def test_D25_a_foreign_file_among_the_spools_is_left_out_and_a_damaged_spool_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "backup.db").write_text("not ours")
    assert waiting(tmp_path) == {}
    (tmp_path / "t" / "0.db").write_text("not a journal" * 1_000)
    with pytest.raises(DeliveryError, match=r"journal \S+0\.db: file is not a database; [^\n]*move it away"):
        waiting(tmp_path)
