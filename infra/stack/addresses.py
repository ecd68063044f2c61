"""Write the settings that lead coin_platform to the services."""

from collections.abc import Sequence

from infra.stack.kafka import Kafka
from infra.stack.redis import Redis
from infra.stack.seaweedfs import SeaweedFS
from infra.stack.service import Service
from infra.stack.zookeeper import ZooKeeper


def settings(services: Sequence[Service]) -> dict[str, str]:
    """Return the settings with which the platform uses these services."""
    lines: dict[str, str] = {}
    for service in services:
        if isinstance(service, Kafka):
            lines["COIN_BROKER_URL"] = f"kafka://{service.address}"
        elif isinstance(service, Redis):
            lines["COIN_REDIS_URL"] = service.address
        elif isinstance(service, ZooKeeper):
            lines["COIN_ZOOKEEPER"] = service.address
        elif isinstance(service, SeaweedFS):
            lines |= {"COIN_LAKE_URL": f"s3://{service.bucket}/coin", "COIN_S3_ENDPOINT": service.address}
            lines |= {
                "COIN_S3_ACCESS_KEY": "key",
                "COIN_S3_SECRET_KEY": "secret",
            }  # without TLS the server checks no keys
    return lines
