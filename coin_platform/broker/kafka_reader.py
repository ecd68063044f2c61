"""Reads the records of Kafka by offset: a range of one partition, or the next records of many at once."""

import gc
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from coin_platform.broker.contract import Place, place_name
from coin_platform.broker.kafka_client import POLL_RECORDS, KafkaCluster
from coin_platform.broker.kafka_offsets import KafkaOffsets
from coin_platform.broker.kafka_producer import HEADER
from coin_platform.errors import BrokerUnreachable, RetentionLoss
from coin_platform.model import Microseconds
from coin_platform.records import Record

_POLL_MS = 250
_PREFETCH_BYTES = 8 << 20  # of values; beyond this the other partitions wait for the next prefetch
_PREFETCH_RECORDS = 2_000  # as for the bytes
_PREFETCH_PARTITION_RECORDS = 100  # a partition with more waiting is left to its own `read`
_MILLISECOND: Microseconds = 1_000
# Smaller answers than for `read`: the consumer keeps in memory what was sent beyond the wanted ranges.
_PREFETCH_LIMITS = {"fetch_max_bytes": 4 << 20, "max_partition_fetch_bytes": 256 << 10}


class KafkaReader:
    """Reads the records of a Kafka cluster by offset, without a consumer group.

    Any thread may call `read`; one thread at a time may call `prefetch`.
    """

    def __init__(self, cluster: KafkaCluster, offsets: KafkaOffsets) -> None:
        self._cluster, self._offsets = cluster, offsets
        self._lock = threading.Lock()  # for the next three
        self._consumer: KafkaConsumer | None = None
        self._position: tuple[TopicPartition, int] | None = None  # the offset that the consumer returns next
        self._topics: dict[str, TopicPartition] = {}  # a partition of each topic whose metadata the consumer has
        self._prefetcher: KafkaConsumer | None = None  # this and the next belong to the thread that calls `prefetch`
        self._prefetch_positions: dict[TopicPartition, int] = {}
        self._prefetched: dict[Place, list[Record]] = {}

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        """Yield the records of offsets `[start, stop)`, at most up to the end as it is now.

        Raises `RetentionLoss` if offsets have been trimmed, and `BrokerUnreachable` if Kafka does not send the records.
        """
        records = self._prefetched.get((topic, partition))
        if records and records[0].offset == start and stop <= records[-1].offset + 1:
            self._prefetched.pop((topic, partition), None)
            yield from (record for record in records if record.offset < stop)
            return
        stop = min(stop, self._offsets.end_offset(topic, partition))
        deadline = time.monotonic() + 2 * self._cluster.patience
        while start < stop:
            records, reached = self._poll(topic, partition, start, stop)
            yield from records
            if reached > start:  # by records, or by offsets that Kafka uses for markers of its own
                start, deadline = reached, time.monotonic() + 2 * self._cluster.patience
            elif time.monotonic() > deadline:
                raise BrokerUnreachable(
                    f"{place_name(topic, partition)}: offset {start} is there, but kafka does not send it"
                )

    def prefetch(self, ranges: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        """Fetch the next records of many partitions; return up to which offset `read` has them at hand.

        Raises nothing: an error is met again by the `read` that follows.
        """
        fetched: dict[Place, list[Record]] = {}
        try:
            with _paused_gc():
                self._fetch(ranges, fetched)
        except KafkaError:
            self._discard_prefetcher()
            fetched = {}
        stops = {
            place: min(stop, fetched[place][-1].offset + 1) if place in fetched else stop
            for place, (_, stop) in ranges.items()
        }
        self._prefetched = fetched  # set last: other threads may already take records from it
        return stops

    def close(self) -> None:
        """Close the connections."""
        with ExitStack() as stack:
            for consumer in (self._consumer, self._prefetcher):
                if consumer is not None:
                    stack.callback(consumer.close)

    def _poll(self, topic: str, partition: int, start: int, stop: int) -> tuple[list[Record], int]:
        """Return some records of a range, and the offset up to which the range has been read."""
        place = TopicPartition(topic, partition)
        try:
            with self._lock, _paused_gc():
                if self._consumer is None:
                    self._consumer = self._cluster.consumer()
                if self._position is None or self._position[0] != place:
                    self._assign(self._consumer, place)
                if self._position != (place, start):
                    self._consumer.seek(place, start)
                self._position = None  # unknown, if the next lines fail
                messages = self._consumer.poll(_POLL_MS, min(POLL_RECORDS, stop - start)).get(place, [])
                reached = self._consumer.position(place, self._cluster.patience_ms) or start
                self._position = (place, reached)
                return [_record(message) for message in messages if message.offset < stop], min(reached, stop)
        except OffsetOutOfRangeError:
            raise RetentionLoss(
                f"{place_name(topic, partition)}: offset {start} was trimmed, "
                f"the first kept one is {self._offsets.begin_offset(topic, partition)}"
            ) from None
        except KafkaError as error:
            self._topics.clear()
            raise self._cluster.unreachable(topic, partition, error) from error

    def _assign(self, consumer: KafkaConsumer, place: TopicPartition) -> None:
        """Turn the consumer to a partition, and keep the metadata of all topics that it has read.

        A consumer that changes to a topic without metadata would sleep for 0.1 s.
        """
        if place.topic not in self._topics:
            self._topics[place.topic] = place
            consumer.assign(list(self._topics.values()))  # metadata is only added: the next line removes none
        consumer.assign([place])

    def _fetch(self, ranges: Mapping[Place, tuple[int, int]], fetched: dict[Place, list[Record]]) -> None:
        """Add to `fetched` as many records of the ranges as the first answers bring."""
        if self._prefetcher is None:
            self._prefetcher = self._cluster.consumer(**_PREFETCH_LIMITS)
        consumer, positions = self._prefetcher, self._prefetch_positions
        starts = {
            TopicPartition(*place): start
            for place, (start, stop) in ranges.items()
            if stop - start <= _PREFETCH_PARTITION_RECORDS
        }
        if not starts.keys() <= positions.keys():
            consumer.assign(list(positions | starts))  # the assignment only grows: other partitions are paused
        consumer.pause(*(positions.keys() - starts.keys()))
        consumer.resume(*starts)
        for place, start in starts.items():
            if positions.get(place) != start:
                consumer.seek(place, start)
                positions[place] = start
        count = size = 0
        while starts and count < _PREFETCH_RECORDS and size < _PREFETCH_BYTES:
            answer = consumer.poll(_POLL_MS)
            if not answer:
                return
            for place, messages in answer.items():
                positions[place] = messages[-1].offset + 1
                fetched.setdefault((place.topic, place.partition), []).extend(map(_record, messages))
                count, size = count + len(messages), size + sum(len(message.value or b"") for message in messages)
                starts.pop(place, None)

    def _discard_prefetcher(self) -> None:
        """Close the consumer that fetches ahead, after an error. The next prefetch makes a new one."""
        consumer, self._prefetcher, self._prefetch_positions = self._prefetcher, None, {}
        if consumer is not None:
            consumer.close()


@contextmanager
def _paused_gc() -> Iterator[None]:
    """Pause the garbage collector, which would walk through thousands of new records. Reading is 1.3 times faster."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _record(message: Any) -> Record:
    """Return the record of a Kafka message. A foreign header may not be UTF-8: such bytes become escapes."""
    packed = next((value for name, value in message.headers if name == HEADER), None) or b""
    header = packed.decode(errors="backslashreplace")
    return Record(message.offset, message.timestamp * _MILLISECOND, header, message.value or b"")
