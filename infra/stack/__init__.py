"""Real services on loopback, without Docker."""

from infra.stack.addresses import settings
from infra.stack.kafka import Kafka, jars, verify
from infra.stack.seaweedfs import SeaweedFS
from infra.stack.service import ROOT, Process, Service, StackError, free_ports, is_listening

__all__ = [
    "ROOT",
    "Kafka",
    "Process",
    "SeaweedFS",
    "Service",
    "StackError",
    "free_ports",
    "is_listening",
    "jars",
    "settings",
    "verify",
]
