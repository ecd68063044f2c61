"""Makes topics in a real Kafka that no other test uses."""

import uuid
from collections.abc import Mapping
from contextlib import closing

from kafka import KafkaAdminClient

from coin_platform.broker import kafka_topics
from infra.stack import Kafka

PARTITIONS = 4


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
