"""Topics of a real Kafka that no other test uses."""

import uuid
from collections.abc import Mapping
from contextlib import closing

from kafka import KafkaAdminClient

from coin_platform.broker import kafka_topics
from infra.stack import Kafka

PARTITIONS = 4


def fresh_topic(server: Kafka, settings: Mapping[str, str] | None = None, *, name: str | None = None) -> str:
    """Make a topic as ours are, but for these settings, and return its name; `name` is of one that was deleted."""
    name = name or f"Region.Korea_TickerPreprocessing-{uuid.uuid4().hex}"
    options = {
        "num_partitions": PARTITIONS,
        "replication_factor": 1,
        "configs": {**kafka_topics.config(1), **(settings or {})},
    }
    with closing(KafkaAdminClient(bootstrap_servers=server.address.split(","))) as admin:
        admin.create_topics({name: options}, wait_for_metadata=True)
    return name
