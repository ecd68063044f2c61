"""A feed of Kraken, a fake Kraken on loopback, and the records of the feed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from coin_platform.broker import MemoryBroker
from coin_platform.collect.feed import Feed
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Kind, Pair
from coin_platform.records import Header
from coin_platform.topic_names import raw_topic
from tests.kit.access import quick_access
from tests.kit.clock import MovedClock
from tests.kit.kraken import FakeKraken, Quick, fake_kraken, records, values
from tests.kit.waiting import eventually

BTC, ETH, XRP = (Pair(base, "USD") for base in ("BTC", "ETH", "XRP"))
MINUTE = 60 * SECOND


class Bench:
    """A feed, the fake exchange it talks to, its clock, and the broker with its records."""

    def __init__(
        self, fake: FakeKraken, feed: Feed, broker: MemoryBroker, clock: MovedClock, stop: asyncio.Event
    ) -> None:
        self.fake, self.feed, self.broker, self.clock, self.stop = fake, feed, broker, clock, stop

    async def live(self) -> None:
        """Wait until every pair has been answered."""
        await eventually(lambda: self.feed.connections and self.feed.connections[-1].ready.is_set())

    async def stored(self, payload: str) -> None:
        """Wait until a message is stored."""
        await eventually(lambda: payload.encode() in [value for _, value in self.records()])

    def records(self) -> list[tuple[Header, bytes]]:
        """Return all records of the feed."""
        return records(self.broker, self.feed.route.topic)

    def values(self, kind: Kind) -> list[bytes]:
        """Return the values of the feed's records of one kind."""
        return values(self.records(), kind)

    @property
    def state(self) -> tuple[str, str]:
        """The state of the feed, and its transport."""
        return self.feed.status.state, self.feed.status.transport


@contextlib.asynccontextmanager
async def running_feed(
    *pairs: Pair,
    channel: Channel = Channel.ORDERBOOK,
    exchange: Exchange | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: MovedClock | None = None,
    broker: MemoryBroker | None = None,
    lifetime: tuple[float, float] = (3600.0, 3600.0),
    ping_every: float | None = None,
    fake: FakeKraken | None = None,
) -> AsyncIterator[Bench]:
    """Run a feed of these pairs against a fake Kraken until the block ends."""
    exchange, broker, stop = exchange or Quick(), broker or MemoryBroker(), asyncio.Event()
    clock = clock or MovedClock()
    rest = Rest(exchange, transport)
    async with fake_kraken(fake) as fake:
        topic = raw_topic("ne", channel)
        route = Route(exchange, channel, 0, topic, 7, MINUTE, fake.host, lifetime, ping_every)
        feed = Feed(route, pairs or (BTC,), quick_access(exchange, rest, broker, clock=clock))
        async with asyncio.TaskGroup() as group:
            group.create_task(feed.run(stop))
            try:
                yield Bench(fake, feed, broker, clock, stop)
            finally:
                stop.set()
    await rest.close()


@contextlib.asynccontextmanager
async def live_feed(*pairs: Pair, **options: Any) -> AsyncIterator[Bench]:
    """Run a feed as `running_feed` does, and begin the block once every pair has been answered."""
    async with running_feed(*pairs, **options) as bench:
        await bench.live()
        yield bench
