"""Makes topics in a real Kafka that no other test uses, and settings that name them."""

import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from kafka import KafkaAdminClient

from coin_platform.broker import kafka_topics
from coin_platform.settings import Settings
from infra.stack import Kafka

PARTITIONS = 4
NOBODY = "127.0.0.1:1"  # a port where no server listens


def fresh_topic(server: Kafka, settings: Mapping[str, str] | None = None, *, name: str | None = None) -> str:
    """Create a topic and return its name. `settings` replace those of our topics; `name` is that of a deleted topic."""
    name = name or f"Region.Korea_TickerPreprocessing-{uuid.uuid4().hex}"
    options = {
        "num_partitions": PARTITIONS,
        "replication_factor": 1,
        "configs": {**kafka_topics.config(1), **(settings or {})},
    }
    with closing(KafkaAdminClient(bootstrap_servers=server.address.split(","))) as admin:
        admin.create_topics({name: options}, wait_for_metadata=True)
    return name


def kafka_settings(address: str, folder: Path, **more: object) -> Settings:
    """Return settings with a Kafka at this address."""
    return Settings(home=folder, broker_url=f"kafka://{address}", **more)  # type: ignore[arg-type]


def own_region(kafka: Kafka, folder: Path, **more: object) -> Settings:
    """Return settings whose Korean raw topics no other test uses."""
    return kafka_settings(kafka.address, folder, topic_korea=f"korea{uuid.uuid4().hex}", **more)
