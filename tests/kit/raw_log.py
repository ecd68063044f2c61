"""One raw partition in a broker in memory, and what a worker makes of it. The test moves the clock."""

import json
from typing import Any

from coin_platform.broker import MemoryBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import Channel, Kind, Microseconds, Pair
from coin_platform.preprocess.partition import Partition, commit
from coin_platform.records import Header, Record
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables import dead_letters
from coin_platform.tables.dead_letters import DeadLetter
from coin_platform.topic_names import dead_letter_topic, processed_topic
from tests.kit.log import TIME
from tests.kit.recordings import frames

SETTINGS = Settings()


def source_of(exchange: str, channel: Channel, settings: Settings = SETTINGS) -> Source:
    """Return the raw partition of an exchange's channel."""
    return next(source for source in sources(EXCHANGES[exchange], settings) if source.channel is channel)


class RawLog:
    """One raw partition in a broker in memory whose clock is `time`."""

    def __init__(
        self, exchange: str, channel: Channel, settings: Settings = SETTINGS, start: Microseconds = TIME
    ) -> None:
        self.time = start
        self.settings = settings
        self.broker = MemoryBroker(clock=lambda: self.time)
        self.source = source_of(exchange, channel, settings)
        self.region = self.source.exchange.region
        self.place = (self.source.topic, self.source.partition)

    def store(self, header: Header, payload: bytes) -> None:
        """Log a record now."""
        self.broker.append(*self.place, header.pack(), payload)

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return self.broker.end_offset(*self.place)

    def records(self) -> list[Record]:
        """Return all records of the partition."""
        return list(self.broker.read(*self.place, 0, self.end))

    def values(self, topic: str) -> list[bytes]:
        """Return the values of the partition of the same number in another topic."""
        end = self.broker.end_offset(topic, self.source.partition)
        return [record.value for record in self.broker.read(topic, self.source.partition, 0, end)]

    @property
    def processed(self) -> list[dict[str, Any]]:
        """The processed records."""
        return [json.loads(value) for value in self.values(processed_topic(self.region, self.source.channel))]

    @property
    def letters(self) -> list[DeadLetter]:
        """The dead letters."""
        return [dead_letters.unpack(value) for value in self.values(dead_letter_topic(self.source.topic))]

    def partition(self) -> Partition:
        """Return the partition as a worker that begins now sees it."""
        return Partition(self.source, self.broker, self.settings, clock=lambda: self.time)

    def work(self, partition: Partition) -> int:
        """Process one batch of all that waits, and return its size."""
        return partition.work(self.end)

    def run(self) -> Partition:
        """Process all that waits, as a worker that was just started does."""
        partition = self.partition()
        while self.work(partition):
            partition.settle()
            commit([partition], self.broker)
        return partition


class ConnectionLog(RawLog):
    """A raw partition of one connection, whose frames are 1 ms apart and numbered in order."""

    def __init__(self, exchange: str, channel: Channel) -> None:
        super().__init__(exchange, channel)
        self.number = 0

    def append(self, *payloads: bytes, kind: Kind = Kind.SOCKET, pair: Pair | None = None) -> None:
        """Log records of the connection."""
        for payload in payloads:
            self.number += kind.is_frame
            self.time += 1000
            self.store(Header(kind, 1, "c", self.number, self.time - 500, pair), payload)

    def recorded(self, stem: str) -> list[bytes]:
        """Log the frames of a recording, and return their payloads."""
        recording = frames(self.source.exchange.name, stem)
        for frame in recording:
            self.append(frame.payload, kind=frame.kind, pair=frame.pair)
        return [frame.payload for frame in recording]
