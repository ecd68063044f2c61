"""The topics of Kafka: created, compared, refused and shown; and the addresses of the servers."""

import uuid
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from typer.testing import CliRunner

from coin_platform.broker import connect, kafka_client, kafka_topics
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.commands import topics as commands
from coin_platform.errors import SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.records import Record
from coin_platform.settings import Settings, load
from infra.stack import Kafka
from tests.kit.topics import NOBODY, own_region


@pytest.mark.kafka
def test_a_topic_has_a_partition_for_each_exchange_of_its_region(kafka: Kafka, tmp_path: Path) -> None:
    ours = own_region(kafka, tmp_path)
    made = kafka_topics.create(ours)
    assert [name for name in made if name.startswith(ours.topic_korea)] == [
        f"{ours.topic_korea}SocketDataIn-{channel}{suffix}"
        for channel in ("ticker", "Orderbook", "trade", "candle", "instrument")
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
    for exchange in EXCHANGES.values():
        for topic in (state.topic for state in found if f"{exchange.region}Socket" in state.topic.name):
            assert topic.exchanges[exchange.partition] == exchange.name


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
    ours = own_region(kafka, tmp_path)
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
    ours = own_region(kafka, tmp_path)
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
    kafka_topics.create(ours := own_region(kafka, tmp_path))
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


@pytest.mark.parametrize("url", ["kafka:", "kafka://", "kafka://host", "kafka:host:9092", "kafka://a:1,b", "local:"])
def test_an_address_that_is_none_of_kafka_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"COIN_BROKER_URL=.*kafka://host:9092"):
        kafka_topics.check(Settings(home=tmp_path, broker_url=url))
