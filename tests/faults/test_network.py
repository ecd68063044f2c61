"""A network between us and Kafka that breaks, swallows or crawls: who appends does not notice, and nothing is lost."""

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from coin_platform.broker.kafka import KafkaBroker
from infra.stack import Kafka
from tests.kit.delivery import Writer, first_seen, stored
from tests.kit.figures import figure
from tests.kit.proxy import Proxy, Toxics
from tests.kit.topics import PARTITIONS, fresh_topic
from tests.kit.waiting import slowness_of_this_machine, until

pytestmark = [pytest.mark.kafka, pytest.mark.alone]

OUTAGES = {
    "drop": Toxics(),
    "blackhole": Toxics(timeout=0),
    "reset": Toxics(reset_peer=0),
}
MIB = 1 << 20


@pytest.fixture
def proxy(kafka: Kafka) -> Iterator[Proxy]:
    with Proxy(f"127.0.0.1:{kafka.hidden[0]}", port=kafka.shown[0]) as proxy:
        yield proxy


@pytest.fixture
def witness(kafka: Kafka, tmp_path: Path) -> Iterator[KafkaBroker]:
    """Someone who sees what Kafka has, and does not come by the proxy."""
    with closing(KafkaBroker([kafka.address], tmp_path / "witness")) as broker:
        yield broker


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("outage", OUTAGES)
def test_K1_A5_a_broker_out_of_reach_costs_nothing_but_time(
    kafka: Kafka, proxy: Proxy, witness: KafkaBroker, tmp_path: Path, outage: str, seconds: int
) -> None:
    topic = fresh_topic(kafka)
    with closing(KafkaBroker([proxy.address], tmp_path / "spool")) as broker, Writer(broker, topic) as writer:
        until(lambda: witness.end_offset(topic, 0) > 500)
        proxy.up = proxy.down = OUTAGES[outage]
        proxy.is_down = outage == "drop"
        began = time.monotonic()
        until(lambda: time.monotonic() - began > seconds, seconds + 5)
        before = witness.end_offset(topic, 0)
        assert writer.appended - before > 0.8 * 1_000 * seconds
        proxy.up = proxy.down = Toxics()
        proxy.is_down = False
        acknowledged = until(lambda: witness.end_offset(topic, 0) > before, 15)
        slowness = slowness_of_this_machine()
        until(lambda: broker.shipper.waiting < 500)
        assert writer.slowest < 0.5 * slowness_of_this_machine()
    assert first_seen(stored(witness, topic)) == list(range(writer.appended))
    assert acknowledged <= 3 * slowness
    figure("K1", f"first acknowledgement after {seconds} s of {outage}", round(acknowledged, 2), "s")


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.long)])
def test_K1_A6_two_seconds_of_latency_delay_and_cost_nothing(
    kafka: Kafka, proxy: Proxy, witness: KafkaBroker, tmp_path: Path, seconds: int
) -> None:
    topic = fresh_topic(kafka)
    with closing(KafkaBroker([proxy.address], tmp_path / "spool", patience=30)) as broker:
        with Writer(broker, topic, rate=500) as writer:
            until(lambda: witness.end_offset(topic, 0) > 200)
            proxy.down = Toxics(latency=2_000)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.monotonic()
            until(lambda: time.monotonic() - began > seconds, seconds + 5)
            assert broker.shipper.waiting < 500 * 7, "it keeps up"
            assert writer.slowest < 0.5 * slowness_of_this_machine()
        broker.flush()
        assert broker.shipper.waiting == 0
    assert first_seen(stored(witness, topic)) == list(range(writer.appended))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 64 * 1024  # KiB


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_K1_A6_a_narrow_line_carries_what_it_can_and_the_rest_waits_on_disk(
    kafka: Kafka, proxy: Proxy, witness: KafkaBroker, tmp_path: Path, seconds: int
) -> None:
    topic = fresh_topic(kafka)

    def arrived() -> int:
        return sum(witness.end_offsets([(topic, partition) for partition in range(PARTITIONS)]).values())

    with closing(KafkaBroker([proxy.address], tmp_path / "spool")) as broker:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(Writer(broker, topic, rate=1_000, size=1_000, partition=partition))
                for partition in range(PARTITIONS)
            ]  # 4 MB/s, half of it after compression
            until(lambda: arrived() > 200)
            proxy.up = Toxics(bandwidth=64)
            until(lambda: broker.shipper.waiting > 10_000)  # more than passes before Kafka's client gives a request up
            narrow = arrived()
            fitted = until(lambda: arrived() > narrow + 500, 50)
            before = arrived()
            until(lambda: arrived() - before > 0.5 * 64_000 / 500 * seconds, seconds + 10)  # a round takes 5 s at most
            assert max(writer.slowest for writer in writers) < 0.5 * slowness_of_this_machine()
            proxy.up = Toxics()
        until(lambda: broker.shipper.waiting == 0, 120)
    for partition, writer in enumerate(writers):
        assert first_seen(stored(witness, topic, partition)) == list(range(writer.appended))
    figure("K1", "until a backlog moves over a line of 64 KB/s", round(fitted, 1), "s")
