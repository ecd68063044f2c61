"""Hands the records of the shipper to Kafka, through a producer of kafka-python that never changes their order."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.future import Future

from coin_platform.broker.contract import Place
from coin_platform.broker.kafka_client import client
from coin_platform.broker.kafka_topics import REMEDY
from coin_platform.records import Record

HEADER = "f"  # the one header of a Kafka message; its value is the record's header
_CONNECT_SECONDS = 2.0
_END_SECONDS = 5.0  # that the producer's own thread may take to end
_OPTIONS = {
    "metrics_enabled": False,
    "enable_idempotence": True,  # the default, said here so that an option that contradicts it raises
    "acks": "all",
    "compression_type": "zstd",
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 30_000,
    "max_block_ms": 2_000,  # for the metadata of a topic
    "metadata_max_age_ms": 60_000,
    "allow_auto_create_topics": False,
    "max_request_size": 48 << 20,  # before compression: a frame can have 32 MiB
    # A batch never ends by size or time. It ends when the shipper waits for the answers: see `Shipper`.
    "batch_size": 256 << 20,
    "linger_ms": 15_000,
}


class KafkaRecordProducer:
    """The shipper's connection to Kafka: a `Producer` as `shipper.py` describes it."""

    def __init__(self, servers: Sequence[str], keys: Mapping[Place, str], security: Mapping[str, Any]) -> None:
        """Connect to `servers`. `keys` names the exchange of each partition; it becomes the key of each message.

        Raises `KafkaError` if no server answers, and `SettingsError` if one refuses us.
        """
        self._keys = {place: name.encode() for place, name in keys.items()}
        self._producer = client(KafkaProducer, servers, _CONNECT_SECONDS, **_OPTIONS, **security)

    def send(self, topic: str, partition: int, record: Record) -> Any:
        key, headers = self._keys.get((topic, partition)), [(HEADER, record.header.encode())]
        try:
            return self._producer.send(topic, record.value, key, headers, partition)
        except KafkaTimeoutError:
            error = KafkaTimeoutError(f"the topic is not there, or has no leader; if it is missing {REMEDY}")
            return Future().failure(error)
        except (KafkaError, ValueError) as error:
            return Future().failure(error)

    def wait(self, seconds: float) -> None:
        with suppress(KafkaError):  # some answers may still be due: the shipper looks at each
            self._producer.flush(seconds)

    def is_too_large(self, error: Exception) -> bool:
        return isinstance(error, MessageSizeTooLargeError)

    def discard(self) -> None:
        sender = self._producer._sender  # `close` alone raises while answers are due, and leaves the thread running
        sender.force_close()
        sender.join(_END_SECONDS)
        with suppress(KafkaError):
            self._producer.close(timeout=0)
