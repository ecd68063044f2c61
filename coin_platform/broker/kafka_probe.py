"""Asks whether Kafka can be read now, over connections of its own, and does not wait for long."""

from collections.abc import Sequence
from itertools import cycle

from coin_platform.broker import kafka_client
from coin_platform.broker.contract import Place
from coin_platform.broker.kafka_client import KafkaCluster
from coin_platform.broker.kafka_offsets import KafkaOffsets
from coin_platform.broker.kafka_reader import KafkaReader
from coin_platform.settings import Settings

PATIENCE_SECONDS = 2.0  # two bad probes must come within 5 s


class KafkaProbe:
    """Reads the newest record of one partition after the other. One thread owns it."""

    def __init__(self, settings: Settings, places: Sequence[Place]) -> None:
        """Connect with the first probe."""
        cluster = KafkaCluster(kafka_client.servers(settings), kafka_client.security(settings), PATIENCE_SECONDS)
        self._offsets = KafkaOffsets(cluster)
        self._reader = KafkaReader(cluster, self._offsets)
        self._places, self._turns = list(places), cycle(places)

    def __call__(self) -> None:
        """Ask for the ends of all partitions, and read a record. Raises `BrokerUnreachable` or `SettingsError`."""
        ends = self._offsets.end_offsets(self._places)
        for _ in self._places:
            place = next(self._turns)
            if ends[place]:
                for _record in self._reader.read(*place, ends[place] - 1, ends[place]):
                    return
                return

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()
        self._offsets.close()
