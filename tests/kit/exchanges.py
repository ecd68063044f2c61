"""Runs the ten simulated exchanges in a thread. A test sets their faults; the books of their markets are kept."""

import asyncio
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Microseconds, Side
from coin_platform.settings import Settings
from coin_platform.simulator.market import Listing, Market
from coin_platform.simulator.sent_log import SentLog
from coin_platform.simulator.server import Simulator
from coin_platform.tables.schema import LEVELS

_TRUNCATED: Microseconds = SECOND // 1000  # at most, that an exchange with times in milliseconds cuts off


class Top(NamedTuple):
    """The best levels of a pair's book at a time, as hashes of their prices and of their sizes."""

    time: Microseconds
    prices: int
    sizes: int


class Truth:
    """The books that the market really had, by exchange and pair, step by step."""

    def __init__(self) -> None:
        self._tops: defaultdict[tuple[str, str], list[Top]] = defaultdict(list)

    def of(self, exchange: str) -> Self:
        """Return the books of one exchange."""
        part = type(self)()
        part._tops.update({place: tops for place, tops in self._tops.items() if place[0] == exchange})
        return part

    def see(self, market: Market, time: Microseconds) -> None:
        """Keep the books of now."""
        for exchange, listings in market.listings.items():
            for pair, listing in listings.items():
                self._tops[exchange, str(pair)].append(_top(listing, time))

    def had(self, exchange: str, pair: str, top: Top, received: Microseconds) -> bool:
        """Return whether the market had a book at the time that the exchange gives.

        1. Of an exchange with changes, prices and sizes must be right at that time.
        2. Of an exchange that sends whole books, only prices are compared, because some cut sizes short. They may be
           right at any time until the book was received, because Coinone's first book is older than its time says.
        """
        tops, is_whole = self._tops[exchange, pair], not EXCHANGES[exchange].has_deltas
        first = bisect_right(tops, top.time + _TRUNCATED, key=lambda known: known.time)
        last = bisect_right(tops, received, key=lambda known: known.time) if is_whole else first
        compared = 2 if is_whole else 3
        return any(known[1:compared] == top[1:compared] for known in tops[max(0, first - 2) : last])


def top_of(time: Microseconds, prices: Iterable[float], sizes: Iterable[float]) -> Top:
    """Return the top of a book from the prices and sizes of its best levels, bids first."""
    return Top(time, hash(tuple(prices)), hash(tuple(sizes)))


def _top(listing: Listing, time: Microseconds) -> Top:
    levels = [*listing.levels(Side.BUY, LEVELS), *listing.levels(Side.SELL, LEVELS)]
    return top_of(time, [listing.number(ticks) for ticks, _ in levels], [size for _, size in levels])


class _CountingLog(SentLog):
    """A log of sent messages that counts them."""

    count = 0

    def sent(self, **line: str | int) -> None:
        super().sent(**line)
        self.count += 1


class Exchanges:
    """All simulated exchanges, with an event loop and a thread of their own."""

    def __init__(self, settings: Settings, folder: Path, *, seed: int, rate: float) -> None:
        self.folder, self.truth = folder, Truth()
        self._log = _CountingLog(folder)
        self._simulator = Simulator(settings, seed, self._log, rate=rate, witness=self.truth.see)
        self._loop = asyncio.new_event_loop()
        self._stop, self._ready = asyncio.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="exchanges")

    @property
    def sent(self) -> int:
        """The number of messages that were written to open sockets."""
        return self._log.count

    def fault(self, exchange: str, **fields: object) -> None:
        """Set faults of an exchange at once."""
        self._loop.call_soon_threadsafe(self._simulator.faults[exchange].change, fields)

    def disconnect(self, exchange: str) -> None:
        """End all connections of an exchange, at once."""
        self._loop.call_soon_threadsafe(self._simulator.disconnect, exchange)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the simulated exchanges do not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, self._log:
            runner.run(self._serve())

    async def _serve(self) -> None:
        ready = asyncio.Event()
        serving = asyncio.ensure_future(self._simulator.run(self._stop, ready))
        await asyncio.wait((serving, asyncio.ensure_future(ready.wait())), return_when=asyncio.FIRST_COMPLETED)
        self._ready.set()
        await serving
