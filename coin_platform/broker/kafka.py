"""The topics of a Kafka cluster: appends go through a spool on this disk, reads come from Kafka by offset."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from coin_platform.broker import kafka_client, kafka_topics
from coin_platform.broker.contract import Broker, Place, Unsent
from coin_platform.broker.kafka_client import ANSWER_SECONDS, KafkaCluster
from coin_platform.broker.kafka_offsets import KafkaOffsets
from coin_platform.broker.kafka_producer import KafkaRecordProducer
from coin_platform.broker.kafka_reader import KafkaReader
from coin_platform.broker.ownership import Ownership
from coin_platform.broker.shipper import Shipper
from coin_platform.broker.spool import SPOOL_BYTES, Loss
from coin_platform.errors import BrokerUnreachable
from coin_platform.model import Microseconds
from coin_platform.records import Record
from coin_platform.settings import Settings

logger = logging.getLogger(__name__)

OWNERS_GROUP = "Owner"  # beside its position of a raw partition stands which process preprocesses the partition


class KafkaBroker:
    """The topics of a Kafka cluster. A cluster that does not answer never stops a process that appends.

    An appended record lives in `spool`, one journal a partition, until all the copies that Kafka promises have it.
    """

    def __init__(
        self,
        servers: Sequence[str],
        spool: Path,
        *,
        keys: Mapping[Place, str] | None = None,
        spool_bytes: int = SPOOL_BYTES,
        patience: float = ANSWER_SECONDS,
        on_loss: Callable[[Loss], None] | None = None,
        guest: bool = False,
        security: Mapping[str, Any] | None = None,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        """Connect to `servers`; nothing waits for an answer here.

        `keys` names the exchange of each partition. `security` is what `kafka_client.security` returns. Nothing is sent
        while `may_send` is false. The other arguments are those of `Shipper`.
        """
        self._may_send_now = may_send
        cluster = KafkaCluster(servers, security or {}, patience)
        self._patience = patience
        self._offsets = KafkaOffsets(cluster)
        self._reader = KafkaReader(cluster, self._offsets)
        self._ownership = Ownership(str(spool), self._claims, self._store_claims)
        self._inputs: dict[Place, Place] = {}  # of an output: the raw partition that this process must own to send it
        self.shipper = Shipper(
            spool,
            lambda: KafkaRecordProducer(servers, keys or {}, cluster.security),
            limit_bytes=spool_bytes,
            on_loss=on_loss,
            guest=guest,
            may_send=self._may_send,
        )

    def claim(self, topic: str, partition: int) -> None:
        self.shipper.spool(topic, partition)

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        self.shipper.append(topic, partition, header, value)

    def waiting_bytes(self, topic: str, partition: int) -> int:
        return self.shipper.spool(topic, partition).journal.waiting_bytes

    def unsent(self, topic: str, partition: int) -> Unsent:
        return self.shipper.spool(topic, partition).unsent

    def flush(self, places: Collection[Place] | None = None) -> bool:
        return self.shipper.flush(self._patience, places)

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        return self._reader.read(topic, partition, start, stop)

    def prefetch(self, ranges: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        return self._reader.prefetch(ranges)

    def identity(self, topic: str, partition: int) -> str | None:
        return self._offsets.identity(topic, partition)

    def begin_offset(self, topic: str, partition: int) -> int:
        return self._offsets.begin_offset(topic, partition)

    def end_offset(self, topic: str, partition: int) -> int:
        return self._offsets.end_offset(topic, partition)

    def end_offsets(self, places: Sequence[Place]) -> dict[Place, int]:
        return self._offsets.end_offsets(places)

    def offset_for_time(self, topic: str, partition: int, time: Microseconds) -> int:
        return self._offsets.offset_for_time(topic, partition, time)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        position = self._offsets.positions(group, [(topic, partition)]).get((topic, partition))
        return None if position is None or position.offset < 0 else int(position.offset)

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self.commit_all(group, {(topic, partition): offset})

    def commit_all(self, group: str, offsets: Mapping[Place, int]) -> None:
        self._offsets.commit(group, {place: (offset, "") for place, offset in offsets.items()})

    def own(self, outputs: Mapping[Place, Sequence[Place]], *, is_patient: bool = True) -> None:
        self._inputs |= {output: place for place, of_place in outputs.items() for output in of_place}
        if not self._ownership.is_due(list(outputs)):
            return
        for place in self._ownership.own(list(outputs), is_patient=is_patient):
            for topic, partition in outputs[place]:
                self.shipper.forget(topic, partition)  # another owner has made these results anew

    def host(self, topic: str, partition: int) -> int | None:
        return self.shipper.spool(topic, partition).journal.host()

    def has_guest(self, topic: str, partition: int) -> bool:
        return self.shipper.spool(topic, partition).journal.has_guest

    def close(self) -> None:
        with ExitStack() as stack:  # the last one first
            stack.callback(self._offsets.close)
            stack.callback(self._reader.close)
            stack.callback(self._release)
            stack.callback(self.shipper.close, self._patience)

    def _may_send(self, topic: str, partition: int) -> bool:
        place = self._inputs.get((topic, partition))
        return self._may_send_now() and (place is None or self._ownership.is_fresh(place))

    def _claims(self, places: Sequence[Place]) -> dict[Place, str]:
        positions = self._offsets.positions(OWNERS_GROUP, places)
        return {place: position.metadata or "" for place, position in positions.items()}

    def _store_claims(self, claims: Mapping[Place, str]) -> None:
        self._offsets.commit(OWNERS_GROUP, {place: (0, claim) for place, claim in claims.items()})

    def _release(self) -> None:
        """Let the next owner begin at once, if Kafka answers."""
        try:
            self._ownership.release()
        except BrokerUnreachable as error:
            logger.warning("the next process that preprocesses waits until our claim expires: %s", error)


def connect(
    settings: Settings,
    *,
    guest: bool = False,
    on_loss: Callable[[Broker, Loss], None] | None = None,
    patience: float = ANSWER_SECONDS,
    may_send: Callable[[], bool] = lambda: True,
) -> KafkaBroker:
    """Return the broker of COIN_BROKER_URL, also while it does not answer: appended records then wait on this disk.

    A `guest` appends to the spools of another process, which sends them until it ends. `on_loss` is called with this
    broker when records were given up. Nothing is sent while `may_send` is false. Raises `SettingsError` if Kafka
    answers, but topics are missing or wrong.
    """
    try:
        _check_once(settings)
    except BrokerUnreachable as error:
        logger.warning("%s; what is appended waits on disk", error)
    keys = {
        (topic.name, partition): exchange
        for topic in kafka_topics.topics(settings)
        for partition, exchange in enumerate(topic.exchanges)
    }
    broker = KafkaBroker(
        kafka_client.servers(settings),
        spool_folder(settings),
        keys=keys,
        spool_bytes=settings.spool_bytes,
        patience=patience,
        on_loss=None if on_loss is None else lambda loss: on_loss(broker, loss),
        guest=guest,
        security=kafka_client.security(settings),
        may_send=may_send,
    )
    return broker


def spool_folder(settings: Settings) -> Path:
    """Return the folder in which records wait for Kafka."""
    return settings.path(settings.journal_dir) / "spool"


@cache
def _check_once(settings: Settings) -> None:
    """Check the topics once in a process: sensors connect every few seconds."""
    kafka_topics.check(settings)
