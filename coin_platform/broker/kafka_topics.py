"""The topics as Kafka must hold them: which there are, how they are made, and what is wrong with those it has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, TypeVar

from kafka import KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    AuthorizationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
    for_code,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from coin_platform import tls
from coin_platform.errors import BrokerUnreachable, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Region
from coin_platform.settings import PREFIX, Settings
from coin_platform.topic_names import GAPS, dead_letter_topic, processed_topic, raw_topic

T = TypeVar("T")

REMEDY = "run `coin topics create`"

_EQUAL = {"message.timestamp.type": "LogAppendTime", "compression.type": "zstd", "cleanup.policy": "delete"}
_AT_LEAST = {"max.message.bytes": 16 << 20, "retention.ms": 7 * 24 * 3600 * 1000}
_IN_SYNC = "min.insync.replicas"
_PROBE_SECONDS = 2.0  # that Kafka may take to say what is wrong
_REMEDIES: dict[type[KafkaError], str] = {
    SaslAuthenticationFailedError: f"check {PREFIX}KAFKA_USER and {PREFIX}KAFKA_PASSWORD",
    UnsupportedSaslMechanismError: f"check {PREFIX}KAFKA_SASL_MECHANISM",
    AuthorizationError: f"give the user of {PREFIX}KAFKA_USER that right; docs/access.md lists them",
}
_SAFE_COPIES = 3  # with so many, a record is taken when two have it


class Topic(NamedTuple):
    """A topic of ours; each of its partitions belongs to one exchange."""

    name: str
    exchanges: tuple[str, ...]  # by partition; empty where that is nobody's


class State(NamedTuple):
    """What Kafka has of a topic."""

    topic: Topic
    exists: bool
    faults: list[str]  # a line each


def topics(settings: Settings) -> Iterator[Topic]:
    """Yield every topic of every region and channel, whether it is collected now or not."""
    for region in Region:
        exchanges = _by_partition({kind.partition: kind.name for kind in EXCHANGES.values() if kind.region is region})
        for channel in Channel:
            raw = raw_topic(settings.topic_prefix(region), channel)
            for name in (raw, dead_letter_topic(raw), processed_topic(region, channel)):
                yield Topic(name, exchanges)
    yield Topic(GAPS, _by_partition({kind.gap_partition: kind.name for kind in EXCHANGES.values()}))


def _by_partition(names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(names.get(partition, "") for partition in range(max(names) + 1))


def servers(settings: Settings) -> list[str]:
    """Return the addresses in COIN_BROKER_URL. Raises `SettingsError` if that is not `kafka://host:port,…`."""
    found = settings.broker_url.removeprefix("kafka://").split(",")
    is_kafka = settings.broker_url.startswith("kafka://")
    if not is_kafka or not all(host and port.isdigit() for host, _, port in (text.rpartition(":") for text in found)):
        raise SettingsError(f"{PREFIX}BROKER_URL={settings.broker_url}: this needs Kafka, kafka://host:9092,host2:9092")
    return found


def security(settings: Settings) -> dict[str, Any]:
    """Return how clients of kafka-python secure a connection. Raises `SettingsError` for a wrong file."""
    protocol = settings.kafka_security_protocol
    options: dict[str, Any] = {"security_protocol": protocol.value}
    if protocol.has_tls:
        files = (settings.kafka_ca, settings.kafka_certificate, settings.kafka_key)
        paths = (settings.path(path) if path else None for path in files)
        options["ssl_context"] = tls.with_certificate(*paths, f"{PREFIX}KAFKA_")
    if protocol.has_sasl:
        assert settings.kafka_user and settings.kafka_password  # the settings see to it
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism.value
        options["sasl_plain_username"] = settings.kafka_user
        options["sasl_plain_password"] = settings.kafka_password.get_secret_value()
    return options


def client(kind: Callable[..., T], addresses: Sequence[str], patience: float, **options: Any) -> T:
    """Return a client of kafka-python that has found the cluster.

    Raises `SettingsError` if Kafka is there but refuses us or is not trusted, `KafkaError` after `patience` seconds.
    """
    made: list[KafkaNetClient] = []

    def remember(**settings: object) -> KafkaNetClient:
        made.append(KafkaNetClient(**settings))
        return made[-1]

    try:
        return kind(
            bootstrap_servers=list(addresses),
            bootstrap_timeout_ms=int(patience * 1000),
            reconnect_backoff_max_ms=1_000,  # by default 30 s pass before it looks whether a broker is back
            kafka_client=remember,
            **options,
        )
    except BaseException as error:
        for part in made:  # kafka-python would leave a thread and four files behind, each time
            part.close()
        if isinstance(error, KafkaTimeoutError) and options.get("security_protocol", "PLAINTEXT") != "PLAINTEXT":
            _refuse(addresses, options)
        raise


def describe(error: KafkaError) -> str:
    """Say in one line what Kafka answered, with the remedy where there is one."""
    text = " ".join(str(error).split())
    remedies = [remedy for kind, remedy in _REMEDIES.items() if isinstance(error, kind)]
    if "CERTIFICATE_VERIFY_FAILED" in text:
        remedies.append(f"check {PREFIX}KAFKA_CA, and that the certificate has the host of {PREFIX}BROKER_URL")
    elif "[SSL" in text:
        remedies.append(f"check {PREFIX}KAFKA_SECURITY_PROTOCOL, the port, and {PREFIX}KAFKA_CERTIFICATE")
    elif "bootstrap" in text:
        remedies.append(f"is it running, and does it speak {PREFIX}KAFKA_SECURITY_PROTOCOL there?")
    return "; ".join([text, *remedies[:1]])


def _refuse(addresses: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise `SettingsError` if Kafka is there, but refuses the login or TLS fails.

    A client of kafka-python that found no cluster does not say why, so each address is tried once more.
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
                    # Kafka answers, then closes; kafka-python drops what comes together with the end.
                    error = SaslAuthenticationFailedError("the login is refused")
                is_broken_off = "EOF" in str(error)  # as by a Kafka that ends
                if isinstance(error, tuple(_REMEDIES)) or ("[SSL" in str(error) and not is_broken_off):
                    raise SettingsError(f"kafka at {node.host}:{node.port}: {describe(error)}") from error
    finally:
        manager.close()
        net.close()


async def _until_open(connection: KafkaConnection) -> None:
    await connection


@contextmanager
def administration(
    addresses: Sequence[str], patience: float = 5.0, security: Mapping[str, Any] | None = None
) -> Iterator[KafkaAdminClient]:
    """Give a client that looks after topics, with `security` as the settings want it.

    Raises `BrokerUnreachable` if nobody answers within `patience` seconds, `SettingsError` if Kafka refuses us.
    """
    options = {"request_timeout_ms": 10_000, **(security or {})}
    try:
        with closing(client(KafkaAdminClient, addresses, patience, **options)) as made:
            yield made
    except KafkaError as error:
        raise BrokerUnreachable(f"kafka at {','.join(addresses)}: {describe(error)}") from error


@contextmanager
def administered(settings: Settings, patience: float = 5.0) -> Iterator[KafkaAdminClient]:
    """Give a client that looks after the topics of COIN_BROKER_URL; raises as `administration` does."""
    with administration(servers(settings), patience, security(settings)) as admin:
        yield admin


def states(admin: KafkaAdminClient, settings: Settings) -> list[State]:
    """Return what Kafka has of each topic."""
    wanted = list(topics(settings))
    there: dict[str, dict[str, Any]] = {}
    for found in admin.describe_topics([topic.name for topic in wanted]):
        error = for_code(found["error_code"])
        if not found["error_code"]:
            there[found["name"]] = found
        elif error is not UnknownTopicOrPartitionError:
            raise error(f"topic {found['name']}")
    names = [*_EQUAL, *_AT_LEAST, _IN_SYNC]  # all of them take seconds
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(names)) for name in there]
    configs = admin.describe_configs(asked, config_filter="all").get("topic", {}) if asked else {}
    return [
        State(
            topic,
            topic.name in there,
            list(_faults(topic, there[topic.name]["partitions"], configs[topic.name], settings.kafka_replication))
            if topic.name in there
            else [],
        )
        for topic in wanted
    ]


def holdings(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, dict[int, tuple[int, int]]]:
    """Return the offsets `[begin, end)` that Kafka holds, by topic and partition."""
    places = [
        TopicPartition(found["name"], partition["partition_index"])
        for found in admin.describe_topics(list(names))
        for partition in sorted(found["partitions"], key=lambda partition: int(partition["partition_index"]))
    ]
    begins = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
    held: dict[str, dict[int, tuple[int, int]]] = {}
    for place in places:
        held.setdefault(place.topic, {})[place.partition] = (begins[place].offset, ends[place].offset)
    return held


def check(settings: Settings, patience: float = 2.0) -> None:
    """Raise `SettingsError` if topics are missing or wrong, `BrokerUnreachable` if that cannot be seen now."""
    with administered(settings, patience) as admin:
        found = states(admin, settings)
    refuse(found)
    missing = [state.topic.name for state in found if not state.exists]
    if missing:
        raise SettingsError(f"kafka has no topic {_some(missing)}: {REMEDY}")


def create(settings: Settings) -> list[str]:
    """Make the topics that are missing and return their names. Raises `SettingsError` if one is there but wrong."""
    with administered(settings) as admin:
        found = states(admin, settings)
        refuse(found)
        missing = [state.topic for state in found if not state.exists]
        if missing:
            admin.create_topics(
                {
                    topic.name: {
                        "num_partitions": len(topic.exchanges),
                        "replication_factor": settings.kafka_replication,
                        "configs": config(settings.kafka_replication),
                    }
                    for topic in missing
                },
                wait_for_metadata=True,
            )
    return [topic.name for topic in missing]


def config(replication: int) -> dict[str, str]:
    """Return the settings of a new topic."""
    copies = {_IN_SYNC: "2"} if replication >= _SAFE_COPIES else {}
    return _EQUAL | {name: str(value) for name, value in _AT_LEAST.items()} | copies


def refuse(found: Sequence[State]) -> None:
    """Raise `SettingsError` if topics are there but wrong; nobody but their owner should change them."""
    wrong = [f"{state.topic.name}: {fault}" for state in found for fault in state.faults]
    if wrong:
        raise SettingsError(f"kafka has topics that are wrong: {_some(wrong)}; change or delete them yourself")


def _faults(
    topic: Topic, partitions: Sequence[dict[str, Any]], configs: dict[str, dict[str, Any]], replication: int
) -> Iterator[str]:
    if len(partitions) != len(topic.exchanges):
        yield f"it has {len(partitions)} partitions, not {len(topic.exchanges)}"
    copies = min(len(partition["replica_nodes"]) for partition in partitions)
    if copies < replication:
        yield f"it has {copies} copies, fewer than {replication}"
    values = {name: str(entry["value"]) for name, entry in configs.items()}
    for name, value in _EQUAL.items():
        if values[name] != value:
            yield f"{name} is {values[name]}, not {value}"
    for name, least in _AT_LEAST.items():
        if not (int(values[name]) >= least or int(values[name]) == -1):
            yield f"{name} is {values[name]}, less than {least}"
    if replication >= _SAFE_COPIES and int(values[_IN_SYNC]) < 2:
        yield f"{_IN_SYNC} is {values[_IN_SYNC]}, not 2"


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
