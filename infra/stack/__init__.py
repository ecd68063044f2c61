"""Real services on loopback, without Docker: Apache Kafka, SeaweedFS as S3 server, and Redis."""

from infra.stack.addresses import settings
from infra.stack.kafka import Kafka
from infra.stack.kafka_jars import jars, verify
from infra.stack.redis import Redis
from infra.stack.seaweedfs import SeaweedFS
from infra.stack.service import ROOT, Process, Service, StackError, free_ports, is_listening

__all__ = [
    "ROOT",
    "Kafka",
    "Process",
    "Redis",
    "SeaweedFS",
    "Service",
    "StackError",
    "free_ports",
    "is_listening",
    "jars",
    "settings",
    "verify",
]
