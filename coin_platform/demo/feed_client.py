"""A client of the live feed that counts what it is told, to compare it with the tables."""

import asyncio
import contextlib
import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from coin_platform.client import HOLE, FeedEntry, connect
from coin_platform.errors import DemoError, FeedRefused
from coin_platform.lake import Lake
from coin_platform.model import Channel

# Each row of these tables is one record of the feed, and the other way round. But of the updates of a candle the table
# has only the last one. Table `instrument` also repeats all pairs in each window.
COMPARED = (Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE, Channel.CANDLE)

QUIET_SECONDS = 10.0  # in which nothing comes any more: all has been told
_LOOK_SECONDS = 0.2  # between two looks whether the feed has its client


class ToldRow(NamedTuple):
    """A record by its origin: what it tells of which exchange, its raw offset, and its number within that frame."""

    exchange: str
    kind: str
    offset: int
    number: int


class CountingClient:
    """Reads the whole feed of a control API in a thread of its own, as a user's program would."""

    def __init__(self, url: str) -> None:
        """Begin to read the feed of the control API at `url`."""
        self._url = url
        self._told: Counter[ToldRow] = Counter()
        self._holes, self._refusal = 0, ""
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._reading: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="client of the feed", daemon=True)
        self._thread.start()

    def is_connected(self) -> bool:
        """Return whether a server of the feed counts a client: from now on it is told everything."""
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(f"{self._url}/ws/info") as answer:
            return any(server["clients"] for server in json.load(answer)["servers"])
        return False

    def close(self) -> None:
        """End."""
        with contextlib.suppress(RuntimeError):  # it has ended already, because the feed refused it
            self._loop.call_soon_threadsafe(lambda: None if self._reading is None else self._reading.cancel())
        self._thread.join()

    def failures(self, lake: Lake, exchanges: list[str]) -> list[str]:
        """Return a line for each difference between the feed and the tables. It takes the time to read the tables."""
        with self._lock:
            told, holes = self._told.copy(), self._holes
        stored = set(_stored(lake, exchanges))
        counts = {
            "rows were not told": len(stored - told.keys()),
            "records have no row": sum(record.kind != Channel.CANDLE for record in told.keys() - stored),
            "records came twice": told.total() - len(told),
            "holes were told": holes,
        }
        lines = [f"the live feed: {count} {what}" for what, count in counts.items() if count]
        return [f"the live feed: {self._refusal}", *lines] if self._refusal else lines

    def last_failures(self, lake: Lake, exchanges: list[str]) -> list[str]:
        """Return the `failures` once there are none, or once nothing more has come for a while."""
        while True:
            before = self.count
            failures = self.failures(lake, exchanges)
            if not failures:
                return []
            time.sleep(QUIET_SECONDS)
            if self.count == before:
                return failures

    @property
    def count(self) -> int:
        """How many records of the compared channels came."""
        with self._lock:
            return self._told.total()

    def take(self, entry: FeedEntry) -> None:
        """Count an entry."""
        with self._lock:
            if entry["type"] == HOLE:
                self._holes += 1
            elif entry["type"] in COMPARED:
                self._told[ToldRow(entry["exchange"], entry["type"], entry["offset"], entry["index"])] += 1

    def _run(self) -> None:
        self._reading = self._loop.create_task(self._read())
        try:
            self._loop.run_until_complete(self._reading)
        except asyncio.CancelledError:
            pass  # `close` ends it so
        except FeedRefused as error:
            self._refusal = str(error)
        finally:
            self._loop.close()

    async def _read(self) -> None:
        async with connect(self._url) as feed:
            async for entry in feed:
                self.take(entry)


@contextlib.contextmanager
def feed_client(url: str, deadline: float) -> Iterator[CountingClient]:
    """Give a client that the feed knows. Raises `DemoError` if it has none at `deadline`, in monotonic seconds."""
    client = CountingClient(url)
    try:
        while not client.is_connected():
            if time.monotonic() > deadline:
                raise DemoError(f"no client could connect to the live feed of {url} in time; see the log of serve")
            time.sleep(_LOOK_SECONDS)
        yield client
    finally:
        client.close()


def _stored(lake: Lake, exchanges: list[str]) -> Iterator[ToldRow]:
    """Yield the origin of each row."""
    for channel in COMPARED:
        present = [name for name in exchanges if lake.windows(channel.value, name)]
        if not present:
            continue
        rows = lake.scan(channel.value, exchanges=present).select("exchange", "offset", "index").collect()
        yield from (ToldRow(exchange, channel.value, offset, index) for exchange, offset, index in rows.iter_rows())
