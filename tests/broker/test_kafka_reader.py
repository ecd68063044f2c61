"""Records that Kafka holds, read by offset or ahead."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from coin_platform.broker import connect, kafka_reader, kafka_topics
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.broker.kafka_offsets import KafkaOffsets
from coin_platform.broker.kafka_reader import KafkaReader
from coin_platform.errors import SettingsError
from coin_platform.records import Record
from infra.stack import Kafka
from tests.kit.topics import PARTITIONS, fresh_topic, own_region


@pytest.fixture
def broker(kafka: Kafka, tmp_path: Path) -> Iterator[KafkaBroker]:
    with closing(KafkaBroker([kafka.address], tmp_path)) as made:
        yield made


@pytest.mark.kafka
def test_D25_a_foreign_record_whose_header_is_no_text_is_read_like_any_other(kafka: Kafka, tmp_path: Path) -> None:
    topic = fresh_topic(kafka)
    with closing(KafkaProducer(bootstrap_servers=kafka.address)) as producer:
        for headers in ([("f", b"\xff")], [("other", b"x"), ("f", b"w,1,c,1,2")], []):
            producer.send(topic, b"?", partition=0, headers=headers)
        producer.flush()
    with closing(KafkaBroker([kafka.address], tmp_path)) as broker:
        found = [record.header for record in broker.read(topic, 0, 0, 3)]
    assert found == ["\\xff", "w,1,c,1,2", ""]


@pytest.mark.parametrize(
    ("header", "wanted"), [(b"\xff", "\\xff"), (None, ""), (b"", ""), (b"\xed\xa0\x80", "\\xed\\xa0\\x80")]
)
def test_D25_a_foreign_header_becomes_a_text_that_every_table_holds(header: bytes | None, wanted: str) -> None:
    found = SimpleNamespace(offset=7, timestamp=1, headers=[("f", header)], value=None)
    assert kafka_reader._record(found) == Record(7, 1000, wanted, b"")
    wanted.encode()


@pytest.mark.kafka
def test_a_record_on_the_wire_has_one_header_the_exact_bytes_and_the_exchange_as_its_key(
    kafka: Kafka, tmp_path: Path
) -> None:
    ours = own_region(kafka, tmp_path)
    kafka_topics.create(ours)
    topic = f"{ours.topic_korea}SocketDataIn-ticker"
    with closing(connect(ours)) as broker:
        broker.append(topic, 1, "w,1,a,7,1729678813578000", b'{"price": 1.50}')
        broker.flush()
        (seen,) = broker.read(topic, 1, 0, 1)
    consumer = KafkaConsumer(bootstrap_servers=kafka.address, auto_offset_reset="earliest", enable_auto_commit=False)
    with closing(consumer):
        place = TopicPartition(topic, 1)
        consumer.assign([place])
        (raw,) = consumer.poll(10_000)[place]
    assert (raw.key, raw.value, raw.offset) == (b"bithumb", b'{"price": 1.50}', 0)
    assert raw.headers == [("f", b"w,1,a,7,1729678813578000")]
    assert raw.timestamp_type == 1, "the log's own clock"
    assert seen.time == raw.timestamp * 1_000


@pytest.mark.kafka
def test_offsets_that_kafka_keeps_for_itself_do_not_hold_up_a_reader(kafka: Kafka, broker: KafkaBroker) -> None:
    topic = fresh_topic(kafka)
    producer = KafkaProducer(bootstrap_servers=kafka.address, transactional_id=uuid.uuid4().hex)
    with closing(producer):
        producer.init_transactions()
        for value in (b"0", b"2"):  # each transaction ends with a marker that has an offset
            producer.begin_transaction()
            producer.send(topic, value, partition=0)
            producer.commit_transaction()
    assert broker.end_offset(topic, 0) == 4
    assert [(record.offset, record.value) for record in broker.read(topic, 0, 0, 4)] == [(0, b"0"), (2, b"2")]
    assert list(broker.read(topic, 0, 3, 4)) == []


@pytest.mark.kafka
def test_reads_that_take_turns_do_not_disturb_each_other(kafka: Kafka, broker: KafkaBroker) -> None:
    topic = fresh_topic(kafka)
    for number in range(100):
        for partition in range(PARTITIONS):
            broker.append(topic, partition, "h", b"%d" % number)
    broker.flush()
    readers = [broker.read(topic, partition, 10, 90) for partition in range(PARTITIONS)]
    assert [record.value for record in readers[3]] == [b"%d" % number for number in range(10, 90)]
    turns = list(zip(*readers[:3], strict=True))
    assert [[record.value for record in turn] for turn in turns] == [[b"%d" % n] * 3 for n in range(10, 90)]
    stopped = broker.read(topic, 0, 0, 100)
    assert next(stopped).value == b"0"
    assert next(broker.read(topic, 0, 99, 100)).value == b"99"
    assert next(stopped).value == b"1"


@pytest.mark.kafka
def test_reads_that_change_between_topics_cost_no_tenth_of_a_second_each(kafka: Kafka, broker: KafkaBroker) -> None:
    names = [fresh_topic(kafka) for _ in range(3)]
    for name in names:
        broker.append(name, 0, "h", name.encode())
    broker.flush()
    for name in names:
        assert [record.value for record in broker.read(name, 0, 0, 1)] == [name.encode()]
    took = []
    for name in 10 * names:
        started = time.monotonic()
        assert [record.value for record in broker.read(name, 0, 0, 1)] == [name.encode()]
        took.append(time.monotonic() - started)
    assert median(took) < 2 / 30


@pytest.mark.kafka
def test_what_was_prefetched_is_read_without_a_question(
    kafka: Kafka, broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [fresh_topic(kafka) for _ in range(3)]
    places = [(name, partition) for name in names for partition in range(PARTITIONS)]
    for name, partition in places:
        for number in range(4):
            broker.append(name, partition, "h", b"%d" % number)
    broker.flush()
    broker.prefetch(dict.fromkeys(places, (0, 1)))  # the first time may bring only some
    for place in places:
        assert [record.value for record in broker.read(*place, 0, 1)] == [b"0"]
    stops: dict[tuple[str, int], int] = {}
    while not stops or any(stop < 4 for stop in stops.values()):
        stops = broker.prefetch(dict.fromkeys(places, (1, 4)))
    with monkeypatch.context() as deaf:
        deaf.setattr(KafkaOffsets, "_ask", lambda *_: pytest.fail("asked"))
        deaf.setattr(KafkaReader, "_poll", lambda *_: pytest.fail("polled"))
        for place in places:
            assert [record.value for record in broker.read(*place, 1, 4)] == [b"1", b"2", b"3"]


@pytest.mark.kafka
def test_many_records_of_a_partition_are_left_to_its_read(kafka: Kafka, broker: KafkaBroker) -> None:
    topic, most = fresh_topic(kafka), kafka_reader._PREFETCH_PARTITION_RECORDS
    for partition, count in enumerate((most, most + 1)):
        for number in range(count):
            broker.append(topic, partition, "h", b"%d" % number)
    broker.flush()
    wanted = {(topic, 0): (0, most), (topic, 1): (0, most + 1)}
    stops = broker.prefetch(wanted)
    assert (set(broker._reader._prefetched), stops[topic, 1]) == ({(topic, 0)}, most + 1)
    for place, stop in stops.items():
        assert [record.value for record in broker.read(*place, 0, stop)] == [b"%d" % number for number in range(stop)]


@pytest.mark.kafka
def test_a_prefetch_holds_no_more_than_it_should(
    kafka: Kafka, broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = fresh_topic(kafka)
    for partition in range(PARTITIONS):
        for _ in range(20):
            broker.append(topic, partition, "h", os.urandom(100_000))
    broker.flush()
    monkeypatch.setattr("coin_platform.broker.kafka_reader._PREFETCH_BYTES", 3_000_000)
    stops = broker.prefetch({(topic, partition): (0, 20) for partition in range(PARTITIONS)})
    held = sum(map(len, broker._reader._prefetched.values()))
    assert 0 < held <= 20 + 30, "a poll gives one partition's batches, or those of some"
    for partition in range(PARTITIONS):
        assert len(list(broker.read(topic, partition, 0, stops[topic, partition]))) == stops[topic, partition]


@pytest.mark.kafka
def test_what_is_not_there_is_named_with_the_remedy(kafka: Kafka, broker: KafkaBroker) -> None:
    with pytest.raises(SettingsError, match=r"kafka has no topic absent partition 0: run `coin topics create`"):
        broker.end_offset("absent", 0)
    topic = fresh_topic(kafka)
    with pytest.raises(SettingsError, match=f"kafka has no topic {topic} partition {PARTITIONS}"):
        list(broker.read(topic, PARTITIONS, 0, 10))
