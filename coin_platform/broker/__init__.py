"""Topics of partitions of records, in Kafka, in journals on this disk, or in memory."""

from coin_platform.broker.connect import connect
from coin_platform.broker.contract import Broker, Place
from coin_platform.broker.local import LocalBroker
from coin_platform.broker.memory import MemoryBroker
from coin_platform.broker.spool import Loss

__all__ = ["Broker", "LocalBroker", "Loss", "MemoryBroker", "Place", "connect"]
