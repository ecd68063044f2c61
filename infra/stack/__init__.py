"""Real services on loopback, without Docker: Apache Kafka, SeaweedFS as S3 server, Redis, and Apache ZooKeeper."""

from infra.stack.addresses import settings
from infra.stack.kafka import Kafka
from infra.stack.maven_jars import jars, verify
from infra.stack.redis import Redis
from infra.stack.seaweedfs import SeaweedFS
from infra.stack.service import ROOT, Process, Service, StackError, is_listening
from infra.stack.zookeeper import ZooKeeper

__all__ = [
    "ROOT",
    "Kafka",
    "Process",
    "Redis",
    "SeaweedFS",
    "Service",
    "StackError",
    "ZooKeeper",
    "is_listening",
    "jars",
    "settings",
    "verify",
]
