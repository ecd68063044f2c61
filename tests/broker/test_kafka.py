"""A broker on Kafka whose topics are missing, or whose servers do not answer."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from coin_platform.broker import LocalBroker, connect, kafka_client
from coin_platform.broker import kafka as kafka_broker
from coin_platform.broker.kafka import KafkaBroker, spool_folder
from coin_platform.collect.gap_reports import loss_reporter
from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Region
from coin_platform.topic_names import GAPS, processed_topic, raw_topic
from infra.stack import Kafka
from tests.kit.topics import NOBODY, fresh_topic, kafka_settings
from tests.kit.waiting import until


@pytest.mark.kafka
def test_A8_a_collector_without_its_topics_ends_with_one_line(kafka: Kafka, tmp_path: Path) -> None:
    place = {"COIN_HOME": str(tmp_path), "COIN_BROKER_URL": f"kafka://{kafka.address}", "COIN_TOPIC_KOREA": "absent"}
    command = [sys.executable, "-W", "ignore", "-m", "coin_platform", "collect", "--region", "korea"]
    done = subprocess.run(command, env={**os.environ, **place}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "kafka has no topic absentSocketDataIn-ticker" in done.stderr
    assert "run `coin topics create`" in done.stderr


@pytest.mark.kafka
def test_the_ends_of_many_topics_are_told_also_when_only_some_have_been_asked_for_before(
    kafka: Kafka, tmp_path: Path
) -> None:
    topics = [fresh_topic(kafka) for _ in range(4)]
    servers = kafka_client.servers(kafka_settings(kafka.address, tmp_path))
    with closing(KafkaBroker(servers, tmp_path / "spool")) as broker:
        for count in range(1, len(topics) + 1):
            places = [(topic, 0) for topic in topics[:count]]
            assert broker.end_offsets(places) == dict.fromkeys(places, 0)


def test_a_broker_that_is_away_stops_nobody_who_appends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = kafka_settings(NOBODY, tmp_path)
    topic = "koreaSocketDataIn-ticker"
    with closing(kafka_broker.connect(ours, patience=0.2)) as broker:
        broker.append(topic, 0, "h", b"x")
        assert not broker.flush(), "what a killed worker left waits here, so its successor waits and does not end"
        assert broker.shipper.waiting == 1
        with pytest.raises(BrokerUnreachable, match=rf"topic {topic} partition 0: kafka at {NOBODY}: .*bootstrap"):
            broker.end_offset(topic, 0)
    assert f"kafka at {NOBODY}" in caplog.text
    assert "what is appended waits on disk" in caplog.text


def test_S8_raw_frames_that_had_to_be_given_up_are_a_gap(tmp_path: Path) -> None:
    wanted = kafka_settings(NOBODY, tmp_path, spool_bytes=2 << 20)
    okx, raw = EXCHANGES["okx"], raw_topic("asia", Channel.TICKER)
    spooled = LocalBroker(spool_folder(wanted))
    with closing(connect(wanted, on_loss=loss_reporter(wanted))) as made:
        for number in range(400):
            made.append(raw, okx.partition, "h", (b"%d" % number).ljust(10_000))
            made.append(processed_topic(Region.ASIA, Channel.TRADE), okx.partition, "h", b"x" * 10_000)
        until(lambda: spooled.end_offset(GAPS, okx.gap_partition), name="a gap is told")
    [gap, *_] = (json.loads(record.value) for record in spooled.read(GAPS, okx.gap_partition, 0, 100))
    assert (gap["exchange"], gap["channel"], gap["pair"], gap["cause"]) == ("okx", "ticker", None, "spool_overflow")
    assert gap["from"] <= gap["to"] and gap["reason"].endswith("records given up before kafka took them: overflow")
