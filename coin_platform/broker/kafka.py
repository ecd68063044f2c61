"""Topics in Apache Kafka: what is appended goes through a spool on disk, what is read comes by offset."""

import gc
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    KafkaError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    for_code,
)

from coin_platform.broker import kafka_topics
from coin_platform.broker.kafka_producer import HEADER, PATIENCE, RecordProducer
from coin_platform.broker.ownership import Ownership
from coin_platform.broker.shipper import Shipper
from coin_platform.broker.spool import Loss
from coin_platform.errors import BrokerUnreachable, RetentionLoss, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Cause, Channel, Gap, Microseconds, Region
from coin_platform.records import Record
from coin_platform.settings import Settings
from coin_platform.tables.processed import pack_gap
from coin_platform.topic_names import GAPS, raw_topic

logger = logging.getLogger(__name__)
logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it writes a line per attempt; what fails is told once, by us
OWNERS = "Owner"  # group: beside its positions stands which process preprocesses a raw partition
_POLL_RECORDS = 1_000  # more at once are read no faster, and leave holes in the memory when they go
_POLL_SECONDS = 0.25
_AHEAD_BYTES = 8 << 20  # of values, once these or so many records are here others wait for the next time
_AHEAD_RECORDS = 2_000
_AHEAD_MOST = 100  # of a partition: more are worth a question of their own, and brought all at once leave holes, too
_MILLISECOND: Microseconds = 1_000
_CONSUMER = {
    "metrics_enabled": False,
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "allow_auto_create_topics": False,
    "request_timeout_ms": 10_000,
    "max_poll_records": _POLL_RECORDS,
    "fetch_max_bytes": 64 << 20,
    "max_partition_fetch_bytes": 8 << 20,
    "fetch_max_wait_ms": 20,  # we read what is there, never what may come
}
_AHEAD = {**_CONSUMER, "fetch_max_bytes": 4 << 20, "max_partition_fetch_bytes": 256 << 10}  # it keeps what is too much
T = TypeVar("T")


class KafkaBroker:
    """The topics of a Kafka cluster; one that is away stops nobody who appends.

    What is appended lives in `spool`, one journal a partition, until all the copies that Kafka promises have it.
    """

    def __init__(
        self,
        servers: Sequence[str],
        spool: Path,
        *,
        keys: Mapping[tuple[str, int], str] | None = None,
        spool_bytes: int = 2 << 30,
        patience: float = PATIENCE,
        on_loss: Callable[[Loss], None] | None = None,
        guest: bool = False,
        security: Mapping[str, Any] | None = None,
    ) -> None:
        """`keys` names the exchange of each partition, `security` is what `topics.security` says.

        The other arguments are those of `Shipper`.
        """
        self._servers, self._patience, self._security = list(servers), patience, dict(security or {})

        def producer() -> RecordProducer:
            return RecordProducer(servers, keys or {}, self._security)

        self._ownership = Ownership(str(spool), self._notes, self._leave_notes)
        self._guarded: dict[tuple[str, int], tuple[str, int]] = {}  # outputs, and the raw partition that must be ours
        self.shipper = Shipper(
            spool, producer, limit=spool_bytes, on_loss=on_loss, guest=guest, may_send=self._may_send
        )
        self._asking = threading.Lock()  # for the next three
        self._admin: KafkaAdminClient | None = None
        self._offsets: KafkaConsumer | None = None
        self._known: set[TopicPartition] = set()
        self._reading = threading.Lock()  # for the next three
        self._reader: KafkaConsumer | None = None
        self._place: tuple[TopicPartition, int] | None = None  # where the reader stands
        self._met: dict[str, TopicPartition] = {}  # a partition of each topic that the reader knows
        self._ahead: KafkaConsumer | None = None  # it, and the next, belong to who calls `prefetch`
        self._ahead_at: dict[TopicPartition, int] = {}  # where that stands
        self._held: dict[tuple[str, int], list[Record]] = {}

    def claim(self, topic: str, partition: int) -> None:
        self.shipper.claim(topic, partition, self._patience)

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        self.shipper.append(topic, partition, header, value)

    def waiting_bytes(self, topic: str, partition: int) -> int:
        return self.shipper.spool(topic, partition).journal.waiting_bytes

    def flush(self) -> None:
        self.shipper.flush(self._patience)

    def prefetch(self, wanted: Mapping[tuple[str, int], tuple[int, int]]) -> dict[tuple[str, int], int]:
        held: dict[tuple[str, int], list[Record]] = {}
        try:
            with _paused_gc():
                self._fetch(wanted, held)
        except KafkaError:  # whatever it is, the reads that follow meet it, too
            self._forget()
            held = {}
        stops = {
            place: min(stop, held[place][-1].offset + 1) if place in held else stop
            for place, (_, stop) in wanted.items()
        }
        self._held = held  # last: other threads may read, and take, what is here
        return stops

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        held = self._held.get((topic, partition))
        if held and held[0].offset == start and stop <= held[-1].offset + 1:
            self._held.pop((topic, partition), None)
            yield from (record for record in held if record.offset < stop)
            return
        stop = min(stop, self.end_offset(topic, partition))
        deadline = time.monotonic() + 2 * self._patience
        while start < stop:
            records, reached = self._poll(topic, partition, start, stop)
            yield from records
            if reached > start:  # records, or what Kafka keeps for itself
                start, deadline = reached, time.monotonic() + 2 * self._patience
            elif time.monotonic() > deadline:
                raise BrokerUnreachable(
                    f"{_name(topic, partition)}: offset {start} is there, but kafka does not send it"
                )

    def identity(self, topic: str, partition: int) -> str | None:
        def ask(_: TopicPartition) -> str | None:
            (found,) = self._administrator().describe_topics([topic])  # each time: it may have been made anew
            if found["error_code"]:
                raise for_code(found["error_code"])(topic)
            name = found.get("topic_id")  # of metadata answers from version 10 on; older servers have no such ids
            return str(name) if name and uuid.UUID(str(name)).int else None

        return self._ask(topic, partition, ask)

    def begin_offset(self, topic: str, partition: int) -> int:
        def ask(place: TopicPartition) -> int:
            return int(self._consumer().beginning_offsets([place], self._timeout)[place])

        return self._ask(topic, partition, ask)

    def end_offset(self, topic: str, partition: int) -> int:
        def ask(place: TopicPartition) -> int:
            return int(self._consumer().end_offsets([place], self._timeout)[place])

        return self._ask(topic, partition, ask)

    def end_offsets(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        if not places:
            return {}

        def ask(_: TopicPartition) -> dict[tuple[str, int], int]:
            wanted = [self._found(TopicPartition(*place)) for place in places]
            found = self._consumer().end_offsets(wanted, self._timeout)
            return {(place.topic, place.partition): int(offset) for place, offset in found.items()}

        return self._ask(*places[0], ask)

    def offset_for_time(self, topic: str, partition: int, time: Microseconds) -> int:
        moment = max(0, -(-time // _MILLISECOND))  # Kafka stamps whole milliseconds

        def ask(place: TopicPartition) -> int:
            end = self._consumer().end_offsets([place], self._timeout)[place]  # first: more may come meanwhile
            found = self._consumer().offsets_for_times({place: moment}, self._timeout)[place]
            return int(end if found is None else found.offset)

        return self._ask(topic, partition, ask)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        def ask(place: TopicPartition) -> int | None:
            found = self._administrator().list_group_offsets({group: [place]})[group].get(place)
            return None if found is None or found.offset < 0 else int(found.offset)

        return self._ask(topic, partition, ask)

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self.commit_all(group, {(topic, partition): offset})

    def commit_all(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        self._alter(group, {place: OffsetAndMetadata(offset, "", None) for place, offset in offsets.items()})

    def _alter(self, group: str, positions: Mapping[tuple[str, int], OffsetAndMetadata]) -> None:
        if not positions:
            return

        def ask(_: TopicPartition) -> None:
            wanted = {self._found(TopicPartition(*place)): position for place, position in positions.items()}
            for error in self._administrator().alter_group_offsets(group, wanted).values():
                if error.errno:
                    raise error(f"group {group}")

        self._ask(*next(iter(positions)), ask)

    def own(self, outputs: Mapping[tuple[str, int], Sequence[tuple[str, int]]], *, is_patient: bool = True) -> None:
        self._guarded |= {output: place for place, of_place in outputs.items() for output in of_place}
        if not self._ownership.is_due(list(outputs)):
            return
        for place in self._ownership.own(list(outputs), is_patient=is_patient):
            for topic, partition in outputs[place]:
                self.shipper.forget(topic, partition)  # another owner has made these results anew

    def _may_send(self, topic: str, partition: int) -> bool:
        place = self._guarded.get((topic, partition))
        return place is None or self._ownership.is_fresh(place)

    def _notes(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
        def ask(_: TopicPartition) -> dict[tuple[str, int], str]:
            wanted = [self._found(TopicPartition(*place)) for place in places]
            found = self._administrator().list_group_offsets({OWNERS: wanted})[OWNERS]
            return {(place.topic, place.partition): note.metadata or "" for place, note in found.items()}

        return self._ask(*places[0], ask)

    def _leave_notes(self, notes: Mapping[tuple[str, int], str]) -> None:
        self._alter(OWNERS, {place: OffsetAndMetadata(0, note, None) for place, note in notes.items()})

    def host(self, topic: str, partition: int) -> int | None:
        return self.shipper.spool(topic, partition).journal.host()

    def has_guest(self, topic: str, partition: int) -> bool:
        return self.shipper.spool(topic, partition).journal.has_guest

    def close(self) -> None:
        with ExitStack() as stack:
            for client in (self._admin, self._offsets, self._reader, self._ahead):
                if client is not None:
                    stack.callback(client.close)
            stack.callback(self._release)
            stack.callback(self.shipper.close, self._patience)

    def _release(self) -> None:
        """Let the next owner begin at once, if Kafka answers."""
        try:
            self._ownership.release()
        except BrokerUnreachable as error:
            logger.warning("the next process that preprocesses waits for ours to expire: %s", error)

    @property
    def _timeout(self) -> int:
        return int(self._patience * 1000)

    def _ask(self, topic: str, partition: int, question: Callable[[TopicPartition], T]) -> T:
        """Return the answer, asked again while it may come. Raises `BrokerUnreachable`."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                with self._asking:
                    return question(self._found(TopicPartition(topic, partition)))
            except KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise self._unreachable(topic, partition, error) from error
            time.sleep(0.1)

    def _found(self, place: TopicPartition) -> TopicPartition:
        """Return a partition that exists: kafka-python would wait for one that does not."""
        if place not in self._known:
            (topic,) = self._administrator().describe_topics([place.topic])
            if topic["error_code"] not in (0, UnknownTopicOrPartitionError.errno):
                raise for_code(topic["error_code"])(place.topic)
            if place.partition not in {found["partition_index"] for found in topic["partitions"]}:
                raise SettingsError(f"kafka has no {_name(*place)}: {kafka_topics.REMEDY}")
            self._known.add(place)
        return place

    def _poll(self, topic: str, partition: int, start: int, stop: int) -> tuple[list[Record], int]:
        """Return some records of a range, and the offset up to which it has been read now."""
        place = TopicPartition(topic, partition)
        try:
            with self._reading, _paused_gc():
                if self._reader is None:
                    self._reader = self._new_consumer()
                if self._place is None or self._place[0] != place:
                    self._assign(self._reader, place)
                if self._place != (place, start):
                    self._reader.seek(place, start)
                self._place = None  # unknown, should what follows fail
                found = self._reader.poll(int(_POLL_SECONDS * 1000), min(_POLL_RECORDS, stop - start)).get(place, [])
                reached = self._reader.position(place, self._timeout) or start
                self._place = (place, reached)
                return [_record(each) for each in found if each.offset < stop], min(reached, stop)
        except OffsetOutOfRangeError:
            raise RetentionLoss(
                f"{_name(topic, partition)}: offset {start} was trimmed, "
                f"the first kept one is {self.begin_offset(topic, partition)}"
            ) from None
        except KafkaError as error:
            self._met.clear()
            raise self._unreachable(topic, partition, error) from error

    def _fetch(
        self, wanted: Mapping[tuple[str, int], tuple[int, int]], held: dict[tuple[str, int], list[Record]]
    ) -> None:
        """Add to `held` some of the records that are wanted, as many as the first answers bring."""
        if self._ahead is None:
            self._ahead = self._new_consumer(_AHEAD)
        consumer = self._ahead
        places = {
            TopicPartition(*place): start for place, (start, stop) in wanted.items() if stop - start <= _AHEAD_MOST
        }
        if not places.keys() <= self._ahead_at.keys():
            consumer.assign(list(self._ahead_at | places))  # it only grows: what is not wanted now pauses
        consumer.pause(*(self._ahead_at.keys() - places.keys()))
        consumer.resume(*places)
        for place, start in places.items():
            if self._ahead_at.get(place) != start:
                consumer.seek(place, start)
                self._ahead_at[place] = start
        records = size = 0
        while places and records < _AHEAD_RECORDS and size < _AHEAD_BYTES:
            found = consumer.poll(int(_POLL_SECONDS * 1000))
            if not found:
                return
            for place, some in found.items():
                self._ahead_at[place] = some[-1].offset + 1
                held.setdefault((place.topic, place.partition), []).extend(map(_record, some))
                records, size = records + len(some), size + sum(len(each.value or b"") for each in some)
                places.pop(place, None)

    def _forget(self) -> None:
        """Give up the consumer that fetches ahead: the next one begins anew."""
        consumer, self._ahead, self._ahead_at = self._ahead, None, {}
        if consumer is not None:
            consumer.close()

    def _assign(self, reader: KafkaConsumer, place: TopicPartition) -> None:
        """Turn the reader to a partition; one that changes to a topic that it has forgotten would sleep for 0.1 s."""
        if place.topic not in self._met:
            self._met[place.topic] = place
            reader.assign(list(self._met.values()))  # what it knows only grows: the next line takes nothing away
        reader.assign([place])

    def _administrator(self) -> KafkaAdminClient:
        if self._admin is None:
            options = {"request_timeout_ms": 10_000, **self._security}
            self._admin = kafka_topics.client(KafkaAdminClient, self._servers, self._patience, **options)
        return self._admin

    def _consumer(self) -> KafkaConsumer:
        """Return the consumer that asks for offsets: a fetch under way would hold it up."""
        if self._offsets is None:
            self._offsets = self._new_consumer()
        return self._offsets

    def _new_consumer(self, options: Mapping[str, Any] = _CONSUMER) -> KafkaConsumer:
        return kafka_topics.client(KafkaConsumer, self._servers, self._patience, **options, **self._security)

    def _unreachable(self, topic: str, partition: int, error: KafkaError) -> BrokerUnreachable:
        return BrokerUnreachable(
            f"{_name(topic, partition)}: kafka at {','.join(self._servers)}: {kafka_topics.describe(error)}"
        )


def connect(settings: Settings, *, guest: bool = False) -> KafkaBroker:
    """Return the broker of COIN_BROKER_URL, also while it is away; what is appended waits on disk then.

    A `guest` appends to the spools of another process, which sends them until it ends. Raises `SettingsError` if Kafka
    is there, but topics are missing or wrong.
    """
    addresses = kafka_topics.servers(settings)
    try:
        _check_once(settings)
    except BrokerUnreachable as error:
        logger.warning("%s; what is appended waits on disk", error)
    keys = {
        (topic.name, partition): exchange
        for topic in kafka_topics.topics(settings)
        for partition, exchange in enumerate(topic.exchanges)
    }
    channels = {raw_topic(settings.topic_prefix(region), channel): channel for region in Region for channel in Channel}

    def tell(loss: Loss) -> None:
        """Raw frames that were given up are a gap; what others lose can be made again."""
        if loss.topic in channels:
            exchange = EXCHANGES[keys[loss.topic, loss.partition]]
            gap = Gap(
                exchange=exchange.name,
                channel=channels[loss.topic],
                pair=None,
                start=loss.from_time,
                stop=loss.to_time,
                cause=Cause.SPOOL_OVERFLOW,
                reason=f"{loss.records} records given up before kafka took them: {loss.cause}",
            )
            broker.append(GAPS, exchange.gap_partition, "", pack_gap(gap))

    folder, limit = spool_folder(settings), settings.spool_bytes
    broker = KafkaBroker(
        *(addresses, folder),
        keys=keys,
        spool_bytes=limit,
        on_loss=tell,
        guest=guest,
        security=kafka_topics.security(settings),
    )
    return broker


def spool_folder(settings: Settings) -> Path:
    """Return where records wait for Kafka."""
    return settings.path(settings.journal_dir) / "spool"


@cache
def _check_once(settings: Settings) -> None:
    """Look at the topics once in a process: sensors connect every few seconds."""
    kafka_topics.check(settings)


@contextmanager
def _paused_gc() -> Iterator[None]:
    """Keep the garbage collector from walking through thousands of new records: reading is 1.3 times faster."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _record(found: Any) -> Record:
    """Return a record of Kafka. A foreign one may have a header that is no text: its bytes become escapes."""
    packed = next((value for name, value in found.headers if name == HEADER), None) or b""
    header = packed.decode(errors="backslashreplace")
    return Record(found.offset, found.timestamp * _MILLISECOND, header, found.value or b"")


def _name(topic: str, partition: int) -> str:
    return f"topic {topic} partition {partition}"
