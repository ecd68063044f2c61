"""The topics as Kafka must hold them: which there are, how they are made, and what is wrong with those it has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, TypeVar

from kafka import KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from kafka.net.compat import KafkaNetClient

from coin_platform.errors import BrokerUnreachable, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Region
from coin_platform.settings import PREFIX, Settings
from coin_platform.wire import GAPS, dead_letter_topic, processed_topic, raw_topic

T = TypeVar("T")

REMEDY = "run `coin topics create`"

_EQUAL = {"message.timestamp.type": "LogAppendTime", "compression.type": "zstd", "cleanup.policy": "delete"}
_AT_LEAST = {"max.message.bytes": 16 << 20, "retention.ms": 7 * 24 * 3600 * 1000}
_IN_SYNC = "min.insync.replicas"
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


def client(kind: Callable[..., T], addresses: Sequence[str], patience: float, **options: object) -> T:
    """Return a client of kafka-python that has found the cluster. Raises `KafkaError` after `patience` seconds."""
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
    except BaseException:
        for part in made:  # kafka-python would leave a thread and four files behind, each time
            part.close()
        raise


@contextmanager
def administration(addresses: Sequence[str], patience: float = 5.0) -> Iterator[KafkaAdminClient]:
    """Give a client that looks after topics. Raises `BrokerUnreachable` if nobody answers within `patience` seconds."""
    try:
        with closing(client(KafkaAdminClient, addresses, patience, request_timeout_ms=10_000)) as made:
            yield made
    except KafkaError as error:
        raise BrokerUnreachable(f"kafka at {','.join(addresses)}: {error}") from error


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
    with administration(servers(settings), patience) as admin:
        found = states(admin, settings)
    refuse(found)
    missing = [state.topic.name for state in found if not state.exists]
    if missing:
        raise SettingsError(f"kafka has no topic {_some(missing)}: {REMEDY}")


def create(settings: Settings) -> list[str]:
    """Make the topics that are missing and return their names. Raises `SettingsError` if one is there but wrong."""
    with administration(servers(settings)) as admin:
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
