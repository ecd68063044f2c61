"""Brokers that forget or die: a producer's fatal state is left at once, and copies lose nothing."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from coin_platform.broker import kafka_client, kafka_topics
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.errors import BrokerUnreachable
from infra.stack import Kafka
from tests.kit.delivery import Writer, first_seen, stored
from tests.kit.figures import figure
from tests.kit.topics import fresh_topic
from tests.kit.waiting import slowness_of_this_machine, until

pytestmark = pytest.mark.kafka

NODES = 3


@pytest.mark.alone
def test_K3_A7_a_broker_that_forgot_what_a_producer_sent_is_sent_the_rest_by_another(
    kafka: Kafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = fresh_topic(kafka)
    with closing(KafkaBroker([kafka.address], tmp_path, patience=20)) as broker:
        for number in range(100):  # each in a batch of its own
            broker.append(topic, 0, "h", b"%d" % number)
            broker.flush()
        try:
            kafka.nodes[0].end(signal.SIGKILL)
            [folder] = (kafka.nodes[0].folder / "data").glob(f"{topic}-0")
            log = folder / f"{0:020}.log"
            os.truncate(log, log.stat().st_size // 2)
            for other in (*folder.glob("*.snapshot"), *folder.glob("*index")):
                other.unlink()
        finally:
            kafka.start()
        kept = stored(broker, topic)
        assert kept == list(range(len(kept)))
        assert 20 < len(kept) < 80
        started = time.monotonic()
        for number in range(100, 2_000):
            broker.append(topic, 0, "h", b"%d" % number)
        broker.flush()
        seconds, slowness = time.monotonic() - started, slowness_of_this_machine()
        assert "OutOfOrderSequenceNumberError" in caplog.text
        assert broker.shipper.waiting == 0
        assert stored(broker, topic) == [*kept, *range(100, 2_000)]
    assert seconds < 5 * slowness
    figure("K3", "from a producer's fatal state on Apache Kafka to all sent by another", round(seconds, 2), "s")


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Three brokers."""
    with Kafka(tmp_path_factory.mktemp("cluster"), nodes=NODES) as cluster:
        assert isinstance(cluster, Kafka)
        yield cluster


def leader(cluster: Kafka, topic: str) -> int:
    """Return the number of the node that leads the topic's first partition; -1 while nobody knows one."""
    with suppress(BrokerUnreachable), kafka_client.administration(cluster.address.split(",")) as admin:
        [description] = admin.describe_topics([topic])
        return int(description["partitions"][0]["leader_id"])
    return -1


def is_known(address: str, topic: str) -> bool:
    """Return whether a node knows both partitions of the topic and their leaders."""
    with suppress(BrokerUnreachable), kafka_client.administration([address]) as admin:
        [description] = admin.describe_topics([topic])
        return [entry["leader_id"] >= 0 for entry in description["partitions"]] == [True, True]
    return False


@pytest.mark.long
@pytest.mark.timeout(300)
def test_S1_A1_with_three_copies_a_leader_that_is_killed_costs_nothing(cluster: Kafka, tmp_path: Path) -> None:
    topic = "copied"
    with closing(KafkaAdminClient(bootstrap_servers=cluster.address.split(","))) as admin:
        options = {"num_partitions": 2, "replication_factor": NODES, "configs": kafka_topics.config(NODES)}
        admin.create_topics({topic: options}, wait_for_metadata=True)
    for address in cluster.address.split(","):  # each node learns of it on its own
        until(lambda: is_known(address, topic), 60)  # noqa: B023
    longest = 0.0
    with closing(KafkaBroker(cluster.address.split(","), tmp_path, patience=60)) as broker:
        with Writer(broker, topic, rate=2_000) as first, Writer(broker, topic, rate=2_000, partition=1) as second:
            for _ in range(3):
                before = broker.end_offset(topic, 0)
                until(lambda: broker.end_offset(topic, 0) > before + 2_000, 60)  # noqa: B023
                number = leader(cluster, topic)
                assert number > 0
                cluster.nodes[number - 1].end(signal.SIGKILL)
                until(lambda: leader(cluster, topic) not in (number, -1), 60)  # noqa: B023
                longest = max(longest, until(lambda: broker.shipper.waiting < 1_000, 60))
                cluster.start_node(number)
                until(cluster.is_healthy, 90)
        broker.flush()
        assert broker.shipper.waiting == 0
        for partition, writer in enumerate((first, second)):
            numbers = stored(broker, topic, partition)
            assert first_seen(numbers) == list(range(writer.appended))
            assert len(numbers) < 1.2 * writer.appended, "few are sent again"
    figure(
        "S1",
        "from another leader elected to the backlog sent, after a broker of three was killed",
        round(longest, 1),
        "s",
    )
