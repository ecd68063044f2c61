"""Asks Kafka for the offsets of partitions, the identity of a topic, and the positions of consumer groups."""

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, StaleMetadata, UnknownTopicOrPartitionError, for_code

from coin_platform.broker.contract import Place, place_name
from coin_platform.broker.kafka_client import KafkaCluster
from coin_platform.broker.kafka_topics import REMEDY
from coin_platform.errors import SettingsError
from coin_platform.model import Microseconds
from coin_platform.retries import repeated

T = TypeVar("T")

_FIRST_DELAY_SECONDS = 0.1  # before a question that failed is asked again
_LONGEST_DELAY_SECONDS = 0.5
_MILLISECOND: Microseconds = 1_000


class KafkaOffsets:
    """Asks one Kafka cluster about its partitions. Any thread may ask.

    Every method raises `SettingsError` if Kafka has no such partition. It raises `BrokerUnreachable` if no answer comes
    within the patience of the cluster.
    """

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()  # for everything below
        self._admin: KafkaAdminClient | None = None
        self._consumer: KafkaConsumer | None = None  # for offsets alone: a fetch under way would delay the answers
        self._existing: set[TopicPartition] = set()

    def identity(self, topic: str, partition: int) -> str | None:
        """Return the topic's id; `None` if the server is too old to have ids."""

        def ask(_: Sequence[TopicPartition]) -> str | None:
            # Asked each time: somebody may have deleted the topic and made it anew.
            (description,) = self._administrator().describe_topics([topic])
            if description["error_code"]:
                raise for_code(description["error_code"])(topic)
            topic_id = description.get("topic_id")  # in metadata answers from version 10 on
            return str(topic_id) if topic_id and uuid.UUID(str(topic_id)).int else None

        return self._ask([(topic, partition)], ask)

    def begin_offset(self, topic: str, partition: int) -> int:
        """Return the first offset that Kafka keeps."""

        def ask(partitions: Sequence[TopicPartition]) -> int:
            offsets = self._offset_consumer().beginning_offsets(partitions, self._cluster.patience_ms)
            return int(offsets[partitions[0]])

        return self._ask([(topic, partition)], ask)

    def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset after the last record."""
        return self.end_offsets([(topic, partition)])[topic, partition]

    def end_offsets(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return the offset after the last record of each partition."""

        def ask(partitions: Sequence[TopicPartition]) -> dict[Place, int]:
            try:
                offsets = self._offset_consumer().end_offsets(partitions, self._cluster.patience_ms)
            except KeyError as error:
                # kafka-python leaves out a partition whose leader it does not know yet, and then misses its answer. It
                # has asked for the leader, so that the next question is answered.
                raise StaleMetadata(f"the leader of {error} is not known yet") from error
            return {(place.topic, place.partition): int(offset) for place, offset in offsets.items()}

        return self._ask(places, ask) if places else {}

    def offset_for_time(self, topic: str, partition: int, time: Microseconds) -> int:
        """Return the first offset stamped `time` or later; the end offset if no record is."""
        moment_ms = max(0, -(-time // _MILLISECOND))  # Kafka stamps whole milliseconds

        def ask(partitions: Sequence[TopicPartition]) -> int:
            place, consumer = partitions[0], self._offset_consumer()
            # The end is asked for first: records that come between the two questions are after it.
            end = consumer.end_offsets(partitions, self._cluster.patience_ms)[place]
            at_time = consumer.offsets_for_times({place: moment_ms}, self._cluster.patience_ms)[place]
            return int(end if at_time is None else at_time.offset)

        return self._ask([(topic, partition)], ask)

    def positions(self, group: str, places: Sequence[Place]) -> dict[Place, OffsetAndMetadata]:
        """Return what a group has committed: next offset and text. Partitions without a commit may be left out."""

        def ask(partitions: Sequence[TopicPartition]) -> dict[Place, OffsetAndMetadata]:
            committed = self._administrator().list_group_offsets({group: list(partitions)})[group]
            return {(place.topic, place.partition): position for place, position in committed.items()}

        return self._ask(places, ask) if places else {}

    def commit(self, group: str, positions: Mapping[Place, tuple[int, str]]) -> None:
        """Store a group's next offset and a text for each partition."""

        def ask(partitions: Sequence[TopicPartition]) -> None:
            values = zip(partitions, positions.values(), strict=True)
            commits = {place: OffsetAndMetadata(offset, text, None) for place, (offset, text) in values}
            for error in self._administrator().alter_group_offsets(group, commits).values():
                if error.errno:
                    raise error(f"group {group}")

        if positions:
            self._ask(list(positions), ask)

    def close(self) -> None:
        """Close the connections."""
        with ExitStack() as stack:
            for connection in (self._admin, self._consumer):
                if connection is not None:
                    stack.callback(connection.close)

    def _ask(self, places: Sequence[Place], question: Callable[[Sequence[TopicPartition]], T]) -> T:
        """Return the answer about partitions that exist. Ask again while the error may pass and time is left."""

        def once() -> T:
            with self._lock:
                return question([self._checked(TopicPartition(*place)) for place in places])

        try:
            return repeated(
                once,
                lambda error: isinstance(error, KafkaError) and bool(error.retriable),
                seconds=self._cluster.patience,
                first_delay=_FIRST_DELAY_SECONDS,
                longest_delay=_LONGEST_DELAY_SECONDS,
            )
        except KafkaError as error:
            raise self._cluster.unreachable(*places[0], error) from error

    def _checked(self, place: TopicPartition) -> TopicPartition:
        """Return a partition that exists: kafka-python would wait for one that does not."""
        if place not in self._existing:
            (description,) = self._administrator().describe_topics([place.topic])
            if description["error_code"] not in (0, UnknownTopicOrPartitionError.errno):
                raise for_code(description["error_code"])(place.topic)
            if place.partition not in {entry["partition_index"] for entry in description["partitions"]}:
                raise SettingsError(f"kafka has no {place_name(*place)}: {REMEDY}")
            self._existing.add(place)
        return place

    def _administrator(self) -> KafkaAdminClient:
        if self._admin is None:
            self._admin = self._cluster.administrator()
        return self._admin

    def _offset_consumer(self) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = self._cluster.consumer()
        return self._consumer
