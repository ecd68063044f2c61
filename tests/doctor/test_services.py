"""The doctor on a real Kafka and a real S3 server, and with each of them down or wrong. Nothing is changed by it."""

from pathlib import Path
from typing import Any

import pytest

from coin_platform.broker import kafka_topics
from coin_platform.broker.kafka_client import administration
from coin_platform.doctor import services
from coin_platform.doctor.checks import Diagnosis, State
from coin_platform.doctor.machine import ClockSamples
from coin_platform.errors import BrokerUnreachable, ClusterError, LakeError, SettingsError
from coin_platform.lake import open_lake
from coin_platform.settings import Settings
from infra.stack import Kafka, SeaweedFS, ZooKeeper
from infra.stack.redis import Redis
from tests.kit.s3 import S3Proxy, s3_client
from tests.kit.topics import NOBODY, kafka_settings, own_region


def states(findings: list[Diagnosis]) -> list[State]:
    return [finding.state for finding in findings]


def in_s3(endpoint: str, home: Path, prefix: str, **more: Any) -> Settings:
    """Return settings with a lake in S3."""
    values = {"lake_url": f"s3://lake/{prefix}", "s3_endpoint": endpoint, "s3_access_key": "key", "s3_secret_key": "s"}
    return Settings(**{"home": home, **values, **more})


@pytest.mark.kafka
def test_a_kafka_that_runs_is_fine_and_missing_topics_are_named(kafka: Kafka, tmp_path: Path) -> None:
    ours = own_region(kafka, tmp_path)
    [found] = services.kafka(ours)
    assert found.state is State.FINE and found.text.startswith("1 brokers of kafka at 127.0.0.1")
    before = names(kafka)
    [missing] = [finding for finding in services.topics(ours) if "lacks" in finding.text]
    assert missing.state is State.WRONG and missing.remedy == "run `coin topics create`"
    assert names(kafka) == before, "nothing was created"
    kafka_topics.create(ours)
    [found] = services.topics(ours)
    assert found.state is State.FINE and found.text.endswith("topics as they must be")


@pytest.mark.kafka
def test_too_few_brokers_and_wrong_topics_are_named(kafka: Kafka, tmp_path: Path) -> None:
    ours = own_region(kafka, tmp_path)
    kafka_topics.create(ours)
    wants_more = ours.model_copy(update={"kafka_replication": 3})
    [found] = services.kafka(wants_more)
    assert found.state is State.WRONG and "fewer than COIN_KAFKA_REPLICATION=3" in found.text and found.remedy
    assert "it has 1 copies, fewer than 3" in services.topics(wants_more)[0].text


def test_a_kafka_that_is_down_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    for look in (services.kafka, services.topics):
        with pytest.raises(BrokerUnreachable, match=f"kafka at {NOBODY}: .*is it running"):
            look(kafka_settings(NOBODY, tmp_path))


@pytest.mark.s3
def test_an_s3_server_with_conditional_writes_is_fine_and_keeps_no_probe(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    samples, ours = ClockSamples(), in_s3(seaweedfs.address, tmp_path, "doctor")
    [found] = services.lake(ours, samples)
    assert found == (State.FINE, "s3://lake/doctor/ answers and honours conditional writes", "")
    assert abs(samples.ahead["S3"]) < 30, "both are the clock of this machine"
    assert "Contents" not in s3_client(seaweedfs.address).list_objects_v2(Bucket="lake", Prefix="doctor/")
    assert list(tmp_path.iterdir()) == [], "no deployment was made"


@pytest.mark.s3
def test_an_s3_server_that_ignores_conditions_is_a_warning(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    with S3Proxy(seaweedfs.address) as proxy:
        proxy.strip = True
        [found] = services.lake(in_s3(proxy.endpoint, tmp_path, "blind"), ClockSamples())
    assert found.state is State.WARNING and "ignores conditional writes" in found.text and found.remedy


@pytest.mark.s3
def test_a_lake_of_another_deployment_or_with_other_windows_is_wrong(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    theirs = in_s3(seaweedfs.address, tmp_path / "theirs", "owned", deployment="theirs")
    open_lake(theirs).file.claim()
    ours = theirs.model_copy(update={"deployment": "ours"})
    [found] = services.lake(ours, ClockSamples())
    assert found.state is State.WRONG and "belongs to deployment theirs" in found.text
    assert "coin lake adopt" in found.remedy
    assert states(services.lake(theirs, ClockSamples())) == [State.FINE]
    other_windows = in_s3(seaweedfs.address, tmp_path, "owned", deployment="theirs", window="15m")
    with pytest.raises(LakeError, match="set COIN_WINDOW=60m"):
        services.lake(other_windows, ClockSamples())


@pytest.mark.s3
def test_a_bucket_that_does_not_exist_is_one_line_with_the_remedy(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    ours = in_s3(seaweedfs.address, tmp_path, "x").model_copy(update={"lake_url": "s3://nosuch/x"})
    with pytest.raises(LakeError, match="COIN_LAKE_URL"):
        services.lake(ours, ClockSamples())


def test_an_s3_server_that_is_down_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="does not answer; is it running, is COIN_S3_ENDPOINT right"):
        services.lake(in_s3(f"http://{NOBODY}", tmp_path, "x"), ClockSamples())


def test_a_lake_in_a_folder_and_a_local_journal_need_no_service(tmp_path: Path) -> None:
    ours = Settings(home=tmp_path)
    assert states(services.lake(ours, ClockSamples())) == [State.FINE]
    assert states(services.journal(ours)) == [State.FINE]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingsError, match="there is no broker 'redis'"):
        services.journal(Settings(home=tmp_path, broker_url="redis://x"))


@pytest.mark.redis
def test_a_redis_that_runs_is_fine_and_nothing_is_written(redis_server: Redis, tmp_path: Path) -> None:
    keys = redis_server.client().keys()
    ours = Settings(home=tmp_path, redis_url=redis_server.address)
    assert services.redis(ours) == [(State.FINE, f"{redis_server.address} answers", "")]
    assert redis_server.client().keys() == keys


def test_a_redis_that_is_down_is_one_line_with_the_remedy_and_without_the_password(tmp_path: Path) -> None:
    ours = Settings(home=tmp_path, redis_url=f"redis://user:canary-1@{NOBODY}/0")
    with pytest.raises(ClusterError, match=f"redis://{NOBODY}/0: .*; ") as caught:
        services.redis(ours)
    assert "canary" not in str(caught.value)


def names(kafka: Kafka) -> set[str]:
    """Return the topics that Kafka has."""
    with administration([kafka.address]) as admin:
        return set(admin.list_topics())


@pytest.mark.zookeeper
def test_a_zookeeper_that_runs_is_fine_and_one_with_shorter_sessions_is_a_warning(
    zookeeper: ZooKeeper, tmp_path: Path
) -> None:
    ours = Settings(home=tmp_path, zookeeper=zookeeper.address)
    text = f"zookeeper at {zookeeper.address} answers, with a session of 6 s"
    assert services.zookeeper(ours) == [(State.FINE, text, "")]
    [found] = services.zookeeper(ours.model_copy(update={"zookeeper_session": 30.0}))
    assert found.state is State.WARNING and "grants sessions of 10 s, not 30 s" in found.text
    assert found.remedy.endswith("as COIN_ZOOKEEPER_SESSION")


def test_a_zookeeper_that_is_down_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(services, "_ZOOKEEPER_SECONDS", 0.5)
    [found] = services.zookeeper(Settings(home=tmp_path, zookeeper=NOBODY))
    assert found.state is State.WRONG and f"zookeeper at {NOBODY} lets nobody in" in found.text
    assert "check COIN_ZOOKEEPER" in found.remedy
