"""The topics that Kafka must hold: their names and settings, and how they are created, compared and refused."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import UnknownTopicOrPartitionError, for_code

from coin_platform.broker.kafka_client import administered
from coin_platform.errors import SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Region
from coin_platform.settings import Settings
from coin_platform.topic_names import GAPS, dead_letter_topic, processed_topic, raw_topic

REMEDY = "run `coin topics create`"

_EQUAL = {"message.timestamp.type": "LogAppendTime", "compression.type": "zstd", "cleanup.policy": "delete"}
_AT_LEAST = {"max.message.bytes": 16 << 20, "retention.ms": 7 * 24 * 3600 * 1000}
_IN_SYNC = "min.insync.replicas"
_SAFE_COPIES = 3  # with this many copies Kafka takes a record once two of them have it
_CHECK_SECONDS = 2.0  # that Kafka may take to answer at the start of a process
_NAMED_FAULTS = 3  # of a list in an error text


class KafkaTopic(NamedTuple):
    """A topic of the platform. Each of its partitions belongs to one exchange."""

    name: str
    exchanges: tuple[str, ...]  # by partition; "" where a partition belongs to no exchange


class TopicState(NamedTuple):
    """Whether Kafka has a topic, and what is wrong with it there."""

    topic: KafkaTopic
    exists: bool
    faults: list[str]  # a line each


def topics(settings: Settings) -> Iterator[KafkaTopic]:
    """Yield every topic of every region and channel, whether it is collected now or not."""
    for region in Region:
        exchanges = _by_partition(
            {exchange.partition: exchange.name for exchange in EXCHANGES.values() if exchange.region is region}
        )
        for channel in Channel:
            raw = raw_topic(settings.topic_prefix(region), channel)
            for name in (raw, dead_letter_topic(raw), processed_topic(region, channel)):
                yield KafkaTopic(name, exchanges)
    yield KafkaTopic(GAPS, _by_partition({exchange.gap_partition: exchange.name for exchange in EXCHANGES.values()}))


def states(admin: KafkaAdminClient, settings: Settings) -> list[TopicState]:
    """Return what Kafka has of each topic."""
    ours = list(topics(settings))
    descriptions: dict[str, dict[str, Any]] = {}
    for description in admin.describe_topics([topic.name for topic in ours]):
        error = for_code(description["error_code"])
        if not description["error_code"]:
            descriptions[description["name"]] = description
        elif error is not UnknownTopicOrPartitionError:
            raise error(f"topic {description['name']}")
    names = [*_EQUAL, *_AT_LEAST, _IN_SYNC]  # to ask for all the settings of a topic takes seconds
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(names)) for name in descriptions]
    configs = admin.describe_configs(resources, config_filter="all").get("topic", {}) if resources else {}

    def faults(topic: KafkaTopic) -> list[str]:
        partitions = descriptions[topic.name]["partitions"]
        return list(_faults(topic, partitions, configs[topic.name], settings.kafka_replication))

    return [
        TopicState(topic, exists=True, faults=faults(topic))
        if topic.name in descriptions
        else TopicState(topic, exists=False, faults=[])
        for topic in ours
    ]


def holdings(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, dict[int, tuple[int, int]]]:
    """Return the offsets `[begin, end)` that Kafka holds, by topic and partition."""
    places = [
        TopicPartition(description["name"], partition)
        for description in admin.describe_topics(list(names))
        for partition in sorted(int(entry["partition_index"]) for entry in description["partitions"])
    ]
    begins = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
    held: dict[str, dict[int, tuple[int, int]]] = {}
    for place in places:
        held.setdefault(place.topic, {})[place.partition] = (begins[place].offset, ends[place].offset)
    return held


def check(settings: Settings) -> None:
    """Raise `SettingsError` if topics are missing or wrong, and `BrokerUnreachable` if Kafka does not answer."""
    with administered(settings, _CHECK_SECONDS) as admin:
        topic_states = states(admin, settings)
    refuse(topic_states)
    missing = [state.topic.name for state in topic_states if not state.exists]
    if missing:
        raise SettingsError(f"kafka has no topic {_shortened(missing)}: {REMEDY}")


def create(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names. Raises `SettingsError` if one is there but wrong."""
    with administered(settings) as admin:
        topic_states = states(admin, settings)
        refuse(topic_states)
        missing = [state.topic for state in topic_states if not state.exists]
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
    """Return the settings of a new topic with this many copies."""
    copies = {_IN_SYNC: "2"} if replication >= _SAFE_COPIES else {}
    return _EQUAL | {name: str(value) for name, value in _AT_LEAST.items()} | copies


def refuse(topic_states: Sequence[TopicState]) -> None:
    """Raise `SettingsError` if topics are there but wrong. Only the owner of the cluster should change them."""
    wrong = [f"{state.topic.name}: {fault}" for state in topic_states for fault in state.faults]
    if wrong:
        raise SettingsError(f"kafka has topics that are wrong: {_shortened(wrong)}; change or delete them yourself")


def _by_partition(names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(names.get(partition, "") for partition in range(max(names) + 1))


def _faults(
    topic: KafkaTopic, partitions: Sequence[dict[str, Any]], configs: dict[str, dict[str, Any]], replication: int
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


def _shortened(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED_FAULTS
    return "; ".join(texts[:_NAMED_FAULTS]) + (f" and {more} more" if more > 0 else "")
