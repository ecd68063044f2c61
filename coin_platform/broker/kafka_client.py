"""Connects clients of kafka-python to a cluster, and explains in one line what Kafka answers or refuses."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import (
    AuthorizationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from coin_platform import tls
from coin_platform.broker.contract import place_name
from coin_platform.errors import BrokerUnreachable, SettingsError
from coin_platform.settings import PREFIX, Settings

logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it writes a line for each attempt; our code logs a failure once
T = TypeVar("T")

ANSWER_SECONDS = 5.0  # that an answer of Kafka, or an acknowledgement in `flush`, may take
POLL_RECORDS = 1_000  # of one poll; more at once are read no faster, and freeing them leaves holes in the memory
_PROBE_SECONDS = 2.0  # that Kafka may take to say why it refuses a login
_BACKOFF_MAX_MS = 1_000  # between two attempts to reconnect; by default a client waits up to 30 s
_ADMIN_OPTIONS = {"request_timeout_ms": 10_000}
_CONSUMER_OPTIONS: Mapping[str, Any] = {
    "metrics_enabled": False,
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "allow_auto_create_topics": False,
    "request_timeout_ms": 10_000,
    "max_poll_records": POLL_RECORDS,
    "fetch_max_bytes": 64 << 20,
    "max_partition_fetch_bytes": 8 << 20,
    "fetch_max_wait_ms": 20,  # a consumer here wants records that are there, and never waits for new ones
}
_REMEDIES: dict[type[KafkaError], str] = {
    SaslAuthenticationFailedError: f"check {PREFIX}KAFKA_USER and {PREFIX}KAFKA_PASSWORD",
    UnsupportedSaslMechanismError: f"check {PREFIX}KAFKA_SASL_MECHANISM",
    AuthorizationError: f"give the user of {PREFIX}KAFKA_USER that right; docs/access.md lists them",
}


class KafkaCluster(NamedTuple):
    """Where a Kafka cluster is, how its clients secure a connection, and how many seconds an answer may take."""

    servers: Sequence[str]
    security: Mapping[str, Any]  # what `security` returns
    patience: float = ANSWER_SECONDS

    @property
    def patience_ms(self) -> int:
        """The time that an answer may take, in ms."""
        return int(self.patience * 1000)

    def consumer(self, **limits: int) -> KafkaConsumer:
        """Return a consumer that has found the cluster, with other `limits` of a fetch. Raises as `client` does."""
        return client(KafkaConsumer, self.servers, self.patience, **{**_CONSUMER_OPTIONS, **limits}, **self.security)

    def administrator(self) -> KafkaAdminClient:
        """Return an administration client that has found the cluster. Raises as `client` does."""
        return client(KafkaAdminClient, self.servers, self.patience, **_ADMIN_OPTIONS, **self.security)

    def unreachable(self, topic: str, partition: int, error: KafkaError) -> BrokerUnreachable:
        """Return the error that names the partition, the cluster and what Kafka answered."""
        return BrokerUnreachable(
            f"{place_name(topic, partition)}: kafka at {','.join(self.servers)}: {describe(error)}"
        )


def servers(settings: Settings) -> list[str]:
    """Return the addresses in COIN_BROKER_URL. Raises `SettingsError` if that is not `kafka://host:port,…`."""
    addresses = settings.broker_url.removeprefix("kafka://").split(",")
    is_kafka = settings.broker_url.startswith("kafka://")
    if not is_kafka or not all(
        host and port.isdigit() for host, _, port in (text.rpartition(":") for text in addresses)
    ):
        raise SettingsError(f"{PREFIX}BROKER_URL={settings.broker_url}: this needs Kafka, kafka://host:9092,host2:9092")
    return addresses


def security(settings: Settings) -> dict[str, Any]:
    """Return the options with which clients of kafka-python secure a connection.

    Raises `SettingsError` for a certificate or key that cannot be used.
    """
    protocol = settings.kafka_security_protocol
    options: dict[str, Any] = {"security_protocol": protocol.value}
    if protocol.has_tls:
        files = (settings.kafka_ca, settings.kafka_certificate, settings.kafka_key)
        paths = (settings.path(path) if path else None for path in files)
        options["ssl_context"] = tls.with_certificate(*paths, f"{PREFIX}KAFKA_")
    if protocol.has_sasl:
        assert settings.kafka_user and settings.kafka_password  # `Settings` refuses SASL without them
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism.value
        options["sasl_plain_username"] = settings.kafka_user
        options["sasl_plain_password"] = settings.kafka_password.get_secret_value()
    return options


def client(client_class: Callable[..., T], addresses: Sequence[str], patience: float, **options: Any) -> T:
    """Return a client of kafka-python that has found the cluster.

    Raises `SettingsError` if Kafka answers but refuses the login or is not trusted.
    Raises `KafkaError` if there is no answer within `patience` seconds.
    """
    connections: list[KafkaNetClient] = []

    def remember(**settings: object) -> KafkaNetClient:
        connections.append(KafkaNetClient(**settings))
        return connections[-1]

    try:
        return client_class(
            bootstrap_servers=list(addresses),
            bootstrap_timeout_ms=int(patience * 1000),
            reconnect_backoff_max_ms=_BACKOFF_MAX_MS,
            kafka_client=remember,
            **options,
        )
    except BaseException as error:
        for connection in connections:  # kafka-python would leave a thread and four open files after each failure
            connection.close()
        if isinstance(error, KafkaTimeoutError) and options.get("security_protocol", "PLAINTEXT") != "PLAINTEXT":
            _raise_refusal(addresses, options)
        raise


def describe(error: KafkaError) -> str:
    """Return in one line what Kafka answered, with the remedy where one is known."""
    text = " ".join(str(error).split())
    remedies = [remedy for error_class, remedy in _REMEDIES.items() if isinstance(error, error_class)]
    if "CERTIFICATE_VERIFY_FAILED" in text:
        remedies.append(f"check {PREFIX}KAFKA_CA, and that the certificate has the host of {PREFIX}BROKER_URL")
    elif "[SSL" in text:
        remedies.append(f"check {PREFIX}KAFKA_SECURITY_PROTOCOL, the port, and {PREFIX}KAFKA_CERTIFICATE")
    elif "bootstrap" in text:
        remedies.append(f"is it running, and does it speak {PREFIX}KAFKA_SECURITY_PROTOCOL there?")
    return "; ".join([text, *remedies[:1]])


@contextmanager
def administration(
    addresses: Sequence[str], patience: float = ANSWER_SECONDS, security: Mapping[str, Any] | None = None
) -> Iterator[KafkaAdminClient]:
    """Give an administration client, and close it in the end. `security` is what the function `security` returns.

    Raises `BrokerUnreachable` if Kafka does not answer within `patience` seconds, and `SettingsError` if it refuses us.
    """
    try:
        with closing(KafkaCluster(addresses, security or {}, patience).administrator()) as admin:
            yield admin
    except KafkaError as error:
        raise BrokerUnreachable(f"kafka at {','.join(addresses)}: {describe(error)}") from error


@contextmanager
def administered(settings: Settings, patience: float = ANSWER_SECONDS) -> Iterator[KafkaAdminClient]:
    """Give an administration client of the cluster in COIN_BROKER_URL. Raises as `administration` does."""
    with administration(servers(settings), patience, security(settings)) as admin:
        yield admin


def _raise_refusal(addresses: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise `SettingsError` if a server answers, but TLS fails or the login is refused.

    A client of kafka-python that found no cluster does not tell the cause. So this tries each address once more.
    """
    net = NetworkSelector(**options)
    manager = KafkaConnectionManager(net, **options, bootstrap_servers=list(addresses))
    try:
        for node in manager.cluster.bootstrap_brokers():
            connection = manager.get_connection(node.node_id, timeout_ms=_PROBE_SECONDS * 1000)
            try:
                net.run(_until_open, connection)
            except KafkaError as error:
                has_answered = connection.broker_version_data is not None
                if has_answered and connection.sasl_enabled and isinstance(error, KafkaConnectionError):
                    # Kafka answers, then closes. kafka-python drops an answer that arrives together with the end.
                    error = SaslAuthenticationFailedError("the login is refused")
                is_broken_off = "EOF" in str(error)  # a Kafka that is shutting down
                if isinstance(error, tuple(_REMEDIES)) or ("[SSL" in str(error) and not is_broken_off):
                    raise SettingsError(f"kafka at {node.host}:{node.port}: {describe(error)}") from error
    finally:
        manager.close()
        net.close()


async def _until_open(connection: KafkaConnection) -> None:
    await connection
