"""One feed: it reads records, makes bundles of them, and sends these to its clients."""

import asyncio
import logging
from collections.abc import Callable

from coin_platform.clock import elapsed, unless
from coin_platform.errors import CoinPlatformError
from coin_platform.serve.feed.clients import Clients
from coin_platform.serve.feed.hub import Hub
from coin_platform.serve.feed.records import FeedRecord

logger = logging.getLogger(__name__)

PERIODS = (0.1, 0.25, 1.0)  # seconds between two bundles: the longer ones while a round takes too long
READ_SECONDS = 0.05  # between two reads of the log
AWAY_SECONDS = 1.0  # until the log is asked again after it did not answer


class FeedDown(Exception):
    """A feed cannot be read now: the close code for its clients, and why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class ServedFeed:
    """Reads in a thread, makes bundles, and sends them. One event loop owns it."""

    def __init__(self, hub: Hub, read: Callable[[], list[FeedRecord]], moves: Callable[[], int] = lambda: 0) -> None:
        """`read` returns what is new, and may block. It raises an error of ours while the log does not answer.

        `moves` counts how often it went on from another source. Then all clients get the state.
        """
        self.hub, self._read, self._moves = hub, read, moves
        self.clients = Clients(hub)
        self.period = PERIODS[0]
        self.failure = "nothing has been read yet"  # why the log does not answer; empty if it does
        self.records = 0
        self._moved = 0

    async def arrive(self) -> None:
        """Count a client that comes. Raises `FeedDown` if it cannot be served."""

    def depart(self) -> None:
        """Count a client that goes, whether it was served or not."""

    async def read_on(self, stop: asyncio.Event) -> None:
        """Read until `stop`."""
        while not stop.is_set():
            await unless(stop, asyncio.sleep(READ_SECONDS if await self.take() else AWAY_SECONDS))

    async def send_on(self, stop: asyncio.Event) -> None:
        """Send until `stop`."""
        while not stop.is_set():
            began = elapsed()
            await self.clients.send(began)
            took = elapsed() - began
            self.period = next_period(self.period, took)
            await unless(stop, asyncio.sleep(max(0.0, self.period - took)))

    async def take(self) -> bool:
        """Read once, and return whether the log answered."""
        try:
            records = await asyncio.to_thread(self._read)
        except CoinPlatformError as error:
            if not self.failure or self.failure != str(error):
                logger.warning("the feed stands still: %s", error)
            self.failure = str(error)
            return False
        if self.failure:
            logger.info("the feed goes on")
        self.failure = ""
        self.records += len(records)
        self.hub.take(records)
        if (moved := self._moves()) != self._moved:
            self._moved = moved
            self.clients.renew()
        return True


def next_period(period: float, took: float) -> float:
    """Return the seconds until the next bundle: more while a round takes most of them, less when it is easy again."""
    place = PERIODS.index(period)
    if took > 0.8 * period:
        return PERIODS[min(place + 1, len(PERIODS) - 1)]
    if place and took < 0.4 * PERIODS[place - 1]:
        return PERIODS[place - 1]
    return period
