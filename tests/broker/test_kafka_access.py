"""A real Kafka with TLS and users: every client of ours gets in, and who is refused is told why in one line."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from coin_platform.broker import kafka_client, kafka_topics
from coin_platform.broker.kafka import KafkaBroker, _check_once, connect
from coin_platform.errors import BrokerUnreachable, CoinPlatformError, SettingsError
from coin_platform.model import Channel
from coin_platform.settings import Mechanism, Security, Settings
from coin_platform.topic_names import raw_topic
from infra.certificates import Authority
from infra.stack import Kafka
from tests.kit.waiting import until

pytestmark = pytest.mark.kafka
WRONG = "a-wrong-password"


@pytest.fixture(autouse=True)
def _nothing_checked_before() -> Iterator[None]:
    _check_once.cache_clear()
    yield
    _check_once.cache_clear()


def settings(kafka: Kafka, home: Path, protocol: Security, **more: Any) -> Settings:
    """Return settings for the listener of a protocol, with all that it wants unless told otherwise."""
    assert kafka.authority is not None
    values: dict[str, Any] = {"home": home, "topic_korea": f"k{uuid.uuid4().hex}", "kafka_security_protocol": protocol}
    values["broker_url"] = f"kafka://127.0.0.1:{kafka.secured[protocol]}"
    if protocol.has_tls:
        values["kafka_ca"] = kafka.authority.ca
    if protocol.has_sasl:
        values |= {"kafka_user": kafka.user, "kafka_password": SecretStr(kafka.password)}
    else:
        values |= {f"kafka_{part}": kafka.authority.folder / f"client.{end}" for part, end in KEYS.items()}
    return Settings(**values | more)


KEYS = {"certificate": "pem", "key": "key"}


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [(Security.SASL_SSL, Mechanism.SCRAM_SHA_512), (Security.SSL, Mechanism.PLAIN)],
)
def test_D21_producer_consumers_and_administration_work_over_TLS(
    kafka: Kafka, tmp_path: Path, protocol: Security, mechanism: Mechanism
) -> None:
    ours = settings(kafka, tmp_path, protocol, kafka_sasl_mechanism=mechanism)
    kafka_topics.create(ours)
    topic = raw_topic(ours.topic_korea, Channel.TICKER)
    with closing(connect(ours)) as broker:
        broker.append(topic, 0, "header", b"value")
        broker.flush()
        assert [record.value for record in broker.read(topic, 0, 0, broker.end_offset(topic, 0))] == [b"value"]
        assert broker.prefetch({(topic, 0): (0, 1)}) == {(topic, 0): 1}
        broker.commit("group", topic, 0, 1)
        assert broker.committed("group", topic, 0) == 1


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        (Security.SASL_SSL, Mechanism.PLAIN),
        (Security.SASL_SSL, Mechanism.SCRAM_SHA_256),
        (Security.SASL_PLAINTEXT, Mechanism.PLAIN),
        (Security.SASL_PLAINTEXT, Mechanism.SCRAM_SHA_512),
    ],
)
def test_D21_each_mechanism_logs_in(kafka: Kafka, tmp_path: Path, protocol: Security, mechanism: Mechanism) -> None:
    with kafka_client.administered(settings(kafka, tmp_path, protocol, kafka_sasl_mechanism=mechanism)) as admin:
        assert len(admin.describe_cluster()["brokers"]) == 1


def refusal(ours: Settings) -> str:
    """Return the line with which a command ends."""
    with pytest.raises(CoinPlatformError) as error, kafka_client.administered(ours, patience=0.3):
        pass
    assert isinstance(error.value, SettingsError | BrokerUnreachable)
    text = str(error.value)
    assert "\n" not in text and WRONG not in text
    return text


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("protocol", [Security.SASL_SSL, Security.SASL_PLAINTEXT])
def test_D21_a_wrong_password_is_one_line_with_the_remedy(
    kafka: Kafka, tmp_path: Path, protocol: Security, mechanism: Mechanism
) -> None:
    password = SecretStr(WRONG)
    ours = settings(kafka, tmp_path, protocol, kafka_sasl_mechanism=mechanism, kafka_password=password)
    assert "check COIN_KAFKA_USER and COIN_KAFKA_PASSWORD" in refusal(ours)


def test_D21_a_certificate_of_an_unknown_authority_is_one_line_with_the_remedy(kafka: Kafka, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    for ca in (other.ca, None):
        text = refusal(settings(kafka, tmp_path, Security.SASL_SSL, kafka_ca=ca))
        assert "CERTIFICATE_VERIFY_FAILED" in text and "check COIN_KAFKA_CA" in text


def test_D21_a_certificate_that_is_due_or_a_wrong_one_is_one_line_with_the_remedy(kafka: Kafka, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    other.issue("client", "DNS:localhost")
    shown = {f"kafka_{part}": other.folder / f"client.{end}" for part, end in KEYS.items()}
    for more in (dict.fromkeys(shown), shown):
        assert "COIN_KAFKA_CERTIFICATE" in refusal(settings(kafka, tmp_path, Security.SSL, **more))


@pytest.mark.parametrize(
    ("spoken", "listener"), [(Security.PLAINTEXT, Security.SASL_SSL), (Security.SASL_SSL, Security.SASL_PLAINTEXT)]
)
def test_D21_the_wrong_protocol_for_a_port_names_the_setting(
    kafka: Kafka, tmp_path: Path, spoken: Security, listener: Security
) -> None:
    place = f"kafka://127.0.0.1:{kafka.secured[listener]}"
    if spoken is Security.PLAINTEXT:
        ours = Settings(home=tmp_path, broker_url=place)
    else:
        ours = settings(kafka, tmp_path, spoken, broker_url=place)
    assert "COIN_KAFKA_SECURITY_PROTOCOL" in refusal(ours)


@pytest.mark.parametrize("name", ["kafka_ca", "kafka_certificate", "kafka_key"])
@pytest.mark.parametrize("content", [None, "nonsense"])
def test_D21_a_file_that_is_missing_or_is_no_certificate_is_named(
    kafka: Kafka, tmp_path: Path, name: str, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "file.pem").write_text(content)
    ours = settings(kafka, tmp_path, Security.SSL, **{name: Path("file.pem")})
    text = refusal(ours)
    assert f"COIN_{name.upper()}={tmp_path / 'file.pem'}" in text


def test_D21_records_wait_on_disk_while_the_login_is_refused_and_the_log_says_why(
    kafka: Kafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = settings(kafka, tmp_path, Security.SASL_PLAINTEXT)
    kafka_topics.create(ours)
    topic = raw_topic(ours.topic_korea, Channel.TRADE)
    wrong = kafka_client.security(ours.model_copy(update={"kafka_password": SecretStr(WRONG)}))
    with closing(KafkaBroker(kafka_client.servers(ours), tmp_path / "spool", security=wrong, patience=0.2)) as broker:
        broker.append(topic, 0, "header", b"kept")
        until(lambda: "COIN_KAFKA_PASSWORD" in caplog.text, 30, name="the log names the password")
    assert WRONG not in caplog.text
    right = kafka_client.security(ours)
    with closing(KafkaBroker(kafka_client.servers(ours), tmp_path / "spool", security=right)) as broker:
        broker.append(topic, 0, "header", b"new")
        broker.flush()
        assert [record.value for record in broker.read(topic, 0, 0, 2)] == [b"kept", b"new"]
