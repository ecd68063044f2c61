"""A simulated market, written straight into the topics: windows full of plausible frames without waiting for them."""

import random
from collections.abc import Iterator, Sequence

from coin_platform.broker import LocalBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Kind, Microseconds
from coin_platform.records import Header
from coin_platform.selection import sources, wanted_pairs
from coin_platform.settings import Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.market import Market
from coin_platform.simulator.venue import Message, Venue


class Feed:
    """Streams of these exchanges, one connection for each channel, from `time` on: a time that only the feed moves."""

    def __init__(self, settings: Settings, names: Sequence[str], time: Microseconds) -> None:
        self.time = time
        folder = settings.path(settings.journal_dir)
        self.broker = LocalBroker(folder, clock=lambda: self.time, monotonic=lambda: self.time / SECOND)
        self.sources = [
            source
            for name in names
            for source in sources(EXCHANGES[name], settings)
            if source.channel in source.exchange.channels
        ]
        self._market = Market(7, {name: wanted_pairs(EXCHANGES[name], settings) for name in names}, time)
        self._venues: dict[Source, Venue] = {}
        self._numbers: dict[Source, int] = {}
        self._random = random.Random(7)

    def run(self, seconds: int) -> None:
        """Let time pass and log what the exchanges say."""
        for _ in range(seconds):
            self.time += SECOND
            for _ in range(5):
                self._market.step(self.time)
            for source in self.sources:
                for message in self._said(source):
                    self.append(source, message.payload.encode())
            self.broker.flush()  # a record's time is that of its commit

    def append(self, source: Source, payload: bytes) -> None:
        """Log a frame, received a few milliseconds after it was sent."""
        number = self._numbers[source] = self._numbers.get(source, 0) + 1
        received = self.time + round(self._random.lognormvariate(9.5, 0.5))
        header = Header(Kind.SOCKET, 1, f"{source.exchange.name}-{source.channel}-0", number, received)
        self.broker.append(source.topic, source.partition, header.pack(), payload)

    def _said(self, source: Source) -> Iterator[Message]:
        venue = self._venues.get(source)
        if venue is not None:
            yield from venue.step(self.time)
            return
        venue = self._venues[source] = VENUES[source.exchange.name](self._market)
        for listing in venue.listings().values():
            yield from venue.subscribe(source.channel, listing, self.time)
