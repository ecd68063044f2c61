"""Kafka as a broker: the record on the wire, the topics, and what is said when something is missing."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from typer.testing import CliRunner

from coin_platform.broker import LocalBroker, connect, kafka_client, kafka_reader, kafka_topics
from coin_platform.broker import kafka as kafka_broker
from coin_platform.broker.kafka import KafkaBroker, spool_folder
from coin_platform.broker.kafka_offsets import KafkaOffsets
from coin_platform.broker.kafka_reader import KafkaReader
from coin_platform.collect.gap_reports import loss_reporter
from coin_platform.commands import topics as commands
from coin_platform.errors import BrokerUnreachable, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Region
from coin_platform.records import Record
from coin_platform.settings import Settings, load
from coin_platform.topic_names import GAPS, processed_topic, raw_topic
from infra.stack import Kafka
from tests.kit.topics import PARTITIONS, fresh_topic

NOBODY = "127.0.0.1:1"  # a port where nobody listens


@pytest.fixture
def broker(kafka: Kafka, tmp_path: Path) -> Iterator[KafkaBroker]:
    with closing(KafkaBroker([kafka.address], tmp_path)) as made:
        yield made


def settings(address: str, folder: Path, **more: object) -> Settings:
    return Settings(home=folder, broker_url=f"kafka://{address}", **more)  # type: ignore[arg-type]


def region(kafka: Kafka, folder: Path, **more: object) -> Settings:
    """Return settings whose Korean raw topics nobody else uses."""
    return settings(kafka.address, folder, topic_korea=f"korea{uuid.uuid4().hex}", **more)


# Records


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
    ours = region(kafka, tmp_path)
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


# Topics


@pytest.mark.kafka
def test_a_topic_has_a_partition_for_each_exchange_of_its_region(kafka: Kafka, tmp_path: Path) -> None:
    ours = region(kafka, tmp_path)
    made = kafka_topics.create(ours)
    assert [name for name in made if name.startswith(ours.topic_korea)] == [
        f"{ours.topic_korea}SocketDataIn-{channel}{suffix}"
        for channel in ("ticker", "Orderbook", "trade", "candle")
        for suffix in ("", "-DLT")
    ]
    assert kafka_topics.create(ours) == []
    kafka_topics.check(ours)
    with kafka_client.administration(kafka_client.servers(ours)) as client:
        found = kafka_topics.states(client, ours)
        held = kafka_topics.holdings(client, [state.topic.name for state in found])
    assert all(state.exists and not state.faults for state in found)
    sizes = {name: len(partitions) for name, partitions in held.items()}
    assert sizes[f"{ours.topic_korea}SocketDataIn-ticker"] == 4
    assert sizes["Region.Asia_OrderbookPreprocessing"] == 3
    assert sizes["neSocketDataIn-candle-DLT"] == 3
    assert sizes["MarketGaps"] == len(EXCHANGES)
    for kind in EXCHANGES.values():
        for topic in (state.topic for state in found if f"{kind.region}Socket" in state.topic.name):
            assert topic.exchanges[kind.partition] == kind.name


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("partitions", "wrong", "fault"),
    [
        (1, {}, "it has 1 partitions, not 4"),
        (4, {"message.timestamp.type": "CreateTime"}, "message.timestamp.type is CreateTime, not LogAppendTime"),
        (4, {"max.message.bytes": "1048588"}, "max.message.bytes is 1048588, less than 16777216"),
        (4, {"retention.ms": "3600000"}, "retention.ms is 3600000, less than 604800000"),
        (4, {"cleanup.policy": "compact"}, "cleanup.policy is compact, not delete"),
    ],
)
def test_A8_a_topic_that_is_wrong_is_refused_and_left_alone(
    kafka: Kafka, tmp_path: Path, partitions: int, wrong: dict[str, str], fault: str
) -> None:
    ours = region(kafka, tmp_path)
    name = f"{ours.topic_korea}SocketDataIn-ticker"
    options = {"num_partitions": partitions, "replication_factor": 1, "configs": {**kafka_topics.config(1), **wrong}}
    with closing(KafkaAdminClient(bootstrap_servers=kafka.address)) as admin:
        admin.create_topics({name: options}, wait_for_metadata=True)
    for refuse in (kafka_topics.check, kafka_topics.create, connect):
        with pytest.raises(SettingsError, match=f"{name}: {fault}"):
            refuse(ours)
    with kafka_client.administration([kafka.address]) as client:
        found = {state.topic.name: state for state in kafka_topics.states(client, ours)}
    assert found[name].faults == [fault]
    assert not found[f"{ours.topic_korea}SocketDataIn-trade"].exists, "nothing was made beside it"


@pytest.mark.kafka
def test_a_topic_that_is_kept_longer_or_for_ever_is_right(kafka: Kafka, tmp_path: Path) -> None:
    ours = region(kafka, tmp_path)
    name = f"{ours.topic_korea}SocketDataIn-ticker"
    configs = {**kafka_topics.config(1), "retention.ms": "-1", "max.message.bytes": str(32 << 20)}
    with closing(KafkaAdminClient(bootstrap_servers=kafka.address)) as admin:
        admin.create_topics(
            {name: {"num_partitions": 4, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True
        )
    assert name not in kafka_topics.create(ours)
    kafka_topics.check(ours)


@pytest.mark.kafka
def test_too_few_copies_are_a_fault_where_more_are_wanted(kafka: Kafka, tmp_path: Path) -> None:
    kafka_topics.create(ours := region(kafka, tmp_path))
    with pytest.raises(SettingsError, match=r"it has 1 copies, fewer than 3; .*min\.insync\.replicas is 1, not 2"):
        kafka_topics.check(ours.model_copy(update={"kafka_replication": 3}))


@pytest.mark.kafka
def test_the_commands_make_and_show_the_topics(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = f"korea{uuid.uuid4().hex[:6]}"
    values = {"HOME": tmp_path, "BROKER_URL": f"kafka://{kafka.address}", "TOPIC_KOREA": prefix}
    for name, value in values.items():
        monkeypatch.setenv(f"COIN_{name}", str(value))
    monkeypatch.setenv("COLUMNS", "200")
    load.cache_clear()

    def coin(command: str) -> str:
        return CliRunner().invoke(commands.app, [command], catch_exceptions=False).stdout

    try:
        assert "missing: run `coin topics create`" in coin("describe")
        assert f"{prefix}SocketDataIn-ticker-DLT" in coin("create")
        assert "all topics exist" in coin("create")
        with closing(KafkaBroker([NOBODY], tmp_path / "data/journal/spool", patience=0.1)) as away:
            away.append(f"{prefix}SocketDataIn-trade", 0, "h", b"waits")
            spool = away.shipper.spool(f"{prefix}SocketDataIn-trade", 0)
            spool.give_up([Record(7, 1, "h", b""), Record(8, 2, "h", b"")], "overflow")
            spool.next -= 2
        (shown,) = [line for line in coin("describe").splitlines() if f"{prefix}SocketDataIn-trade " in line]
        assert [cell.strip() for cell in shown.strip("│").split("│")][1:] == ["4", "0-0 0-0 0-0 0-0", "1", "2", "ok"]
    finally:
        load.cache_clear()


@pytest.mark.kafka
def test_A8_a_collector_without_its_topics_ends_with_one_line(kafka: Kafka, tmp_path: Path) -> None:
    place = {"COIN_HOME": str(tmp_path), "COIN_BROKER_URL": f"kafka://{kafka.address}", "COIN_TOPIC_KOREA": "absent"}
    command = [sys.executable, "-W", "ignore", "-m", "coin_platform", "collect", "--region", "korea"]
    done = subprocess.run(command, env={**os.environ, **place}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "kafka has no topic absentSocketDataIn-ticker" in done.stderr
    assert "run `coin topics create`" in done.stderr


# A broker that is away


def test_a_broker_that_is_away_stops_nobody_who_appends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = settings(NOBODY, tmp_path)
    topic = "koreaSocketDataIn-ticker"
    with closing(kafka_broker.connect(ours, patience=0.2)) as broker:
        broker.append(topic, 0, "h", b"x")
        assert not broker.flush(), "what a killed worker left waits here, so its successor waits and does not end"
        assert broker.shipper.waiting == 1
        with pytest.raises(BrokerUnreachable, match=rf"topic {topic} partition 0: kafka at {NOBODY}: .*bootstrap"):
            broker.end_offset(topic, 0)
    assert f"kafka at {NOBODY}" in caplog.text
    assert "what is appended waits on disk" in caplog.text


@pytest.mark.parametrize("url", ["kafka:", "kafka://", "kafka://host", "kafka:host:9092", "kafka://a:1,b", "local:"])
def test_an_address_that_is_none_of_kafka_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"COIN_BROKER_URL=.*kafka://host:9092"):
        kafka_topics.check(Settings(home=tmp_path, broker_url=url))


def test_S8_raw_frames_that_had_to_be_given_up_are_a_gap(tmp_path: Path) -> None:
    wanted = settings(NOBODY, tmp_path, spool_bytes=2 << 20)
    okx, raw = EXCHANGES["okx"], raw_topic("asia", Channel.TICKER)
    spooled = LocalBroker(spool_folder(wanted))
    with closing(connect(wanted, on_loss=loss_reporter(wanted))) as made:
        for number in range(400):
            made.append(raw, okx.partition, "h", (b"%d" % number).ljust(10_000))
            made.append(processed_topic(Region.ASIA, Channel.TRADE), okx.partition, "h", b"x" * 10_000)
        deadline = time.monotonic() + 20
        while not spooled.end_offset(GAPS, okx.gap_partition):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    [gap, *_] = (json.loads(record.value) for record in spooled.read(GAPS, okx.gap_partition, 0, 100))
    assert (gap["exchange"], gap["channel"], gap["pair"], gap["cause"]) == ("okx", "ticker", None, "spool_overflow")
    assert gap["from"] <= gap["to"] and gap["reason"].endswith("records given up before kafka took them: overflow")
