"""The producer that the shipper sends to Kafka with."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
)
from kafka.future import Future

from coin_platform.broker import kafka_topics
from coin_platform.records import Record

HEADER = "f"
PATIENCE = 5.0  # seconds that an answer, or an acknowledgement in `flush`, may take
_PRODUCER = {
    "metrics_enabled": False,
    "enable_idempotence": True,  # said explicitly, what contradicts it raises
    "acks": "all",
    "compression_type": "zstd",
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 30_000,
    "max_block_ms": 2_000,  # for the metadata of a topic
    "metadata_max_age_ms": 60_000,
    "allow_auto_create_topics": False,
    "max_request_size": 48 << 20,  # before compression: a frame can have 32 MiB
    # A batch never ends by size or time, only when the shipper waits for it: see `Shipper`.
    "batch_size": 256 << 20,
    "linger_ms": 15_000,
}


class RecordProducer:
    """The shipper's way to Kafka."""

    def __init__(
        self, servers: Sequence[str], keys: Mapping[tuple[str, int], str], security: Mapping[str, Any]
    ) -> None:
        self._keys = {place: name.encode() for place, name in keys.items()}
        self._producer = kafka_topics.client(KafkaProducer, servers, 2.0, **_PRODUCER, **security)

    def send(self, topic: str, partition: int, record: Record) -> Any:
        key, headers = self._keys.get((topic, partition)), [(HEADER, record.header.encode())]
        try:
            return self._producer.send(topic, record.value, key, headers, partition)
        except KafkaTimeoutError:
            error = KafkaTimeoutError(
                f"the topic is not there, or has no leader; if it is missing {kafka_topics.REMEDY}"
            )
            return Future().failure(error)
        except (KafkaError, ValueError) as error:
            return Future().failure(error)

    def wait(self, seconds: float) -> None:
        with suppress(KafkaError):  # not all have an answer yet: the shipper looks at each
            self._producer.flush(seconds)

    def is_too_large(self, error: Exception) -> bool:
        return isinstance(error, MessageSizeTooLargeError)

    def discard(self) -> None:
        sender = self._producer._sender  # `close` alone raises while answers are due, and leaves the thread running
        sender.force_close()
        sender.join(PATIENCE)
        with suppress(KafkaError):
            self._producer.close(timeout=0)
