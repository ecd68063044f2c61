"""The feed of one service alone, such as `/ws/redis`: for clients that want to know where their records come from."""

import asyncio
from collections.abc import Callable

from coin_platform.clock import unless
from coin_platform.serve.feed.feed import AWAY_SECONDS, READ_SECONDS, FeedDown, ServedFeed
from coin_platform.serve.feed.hub import Hub
from coin_platform.serve.feed.ladder import Ladder, Service
from coin_platform.serve.feed.records import FeedRecord
from coin_platform.serve.feed.source import FeedPlace, FeedSource, Position

DOWN = 1013  # the close code: try again later
_LOOK_SECONDS = 0.05  # of a client that came first, between two looks for the first read


class BoundFeed(ServedFeed):
    """Reads from one service while it has clients. While the service is down, its clients are closed with 1013."""

    def __init__(self, instance: str, service: Service, ladder: Ladder, open_source: Callable[[], FeedSource]) -> None:
        """`open_source` gives a source of its own, which may block. The `ladder` knows whether the service is up."""
        super().__init__(Hub(f"{instance}-{service}"), self._read_source)
        self._service, self._ladder, self._open_source = service, ladder, open_source
        self._source: FeedSource | None = None
        self._positions: dict[FeedPlace, Position] = {}
        self._here = 0  # clients, also those that wait for the first read
        self._arrived, self._is_ready = asyncio.Event(), False
        self._closing: set[asyncio.Task[None]] = set()

    async def arrive(self) -> None:
        """Count a client that comes, and wait until there is a state for it. Raises `FeedDown`."""
        self._here += 1
        self._arrived.set()
        while not self._is_ready:
            if not self._ladder.is_up(self._service):
                raise FeedDown(DOWN, f"{self._service} is down; GET /ws/info says what is up")
            await asyncio.sleep(_LOOK_SECONDS)

    def depart(self) -> None:
        """Count a client that goes."""
        self._here -= 1

    async def read_on(self, stop: asyncio.Event) -> None:
        """Read until `stop` while there are clients and the service is up."""
        try:
            while not stop.is_set():
                self._arrived.clear()
                if not self._here:
                    self._is_ready = False
                    await asyncio.to_thread(self._rest)
                    await unless(stop, self._arrived.wait())
                elif not self._ladder.is_up(self._service):
                    self._is_ready = False
                    self._close_clients()
                    await unless(stop, asyncio.sleep(_LOOK_SECONDS))
                elif await self.take():
                    self._is_ready = True
                    await unless(stop, asyncio.sleep(READ_SECONDS))
                else:
                    await unless(stop, asyncio.sleep(AWAY_SECONDS))
        finally:
            await asyncio.to_thread(self._rest)
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _close_clients(self) -> None:
        for client in self.clients.all():
            closing = asyncio.create_task(
                client.connection.close(DOWN, f"{self._service} is down; GET /ws/info says what is up")
            )
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self.clients.leave(client)

    def _read_source(self) -> list[FeedRecord]:
        if self._source is None:
            self._source = self._open_source()
        reading = self._source.read(self._positions)
        self._positions |= reading.positions
        return reading.records

    def _rest(self) -> None:
        """Close the source, and forget what it told: nobody listens."""
        source, self._source, self._positions = self._source, None, {}
        if source is not None:
            source.close()
        self.hub.clear()
