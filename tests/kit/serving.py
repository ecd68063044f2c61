"""The control API in this process, for tests: an application with brokers, lakes and exchanges that are not real."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp

from coin_platform.broker import MemoryBroker
from coin_platform.clock import wall
from coin_platform.cluster import Cluster, open_cluster
from coin_platform.cluster.status import ComponentKind, PairStatus, Reporter, Status
from coin_platform.errors import NoAnswer
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Instrument, InstrumentState, Microseconds, Pair
from coin_platform.serve.app import Backends, create_app
from coin_platform.serve.feed.latest import Latest
from coin_platform.serve.keys import open_keys
from coin_platform.serve.listening import listen
from coin_platform.serve.markets import Fetch
from coin_platform.serve.pair_sets import PairSets
from coin_platform.serve.premium_history import PremiumHistory
from coin_platform.serve.rates import RateLimits
from coin_platform.serve.server import answer_requests
from coin_platform.settings import Settings

HOUR = 3_600_000_000  # µs
READ_KEY, PAIRS_KEY, ADMIN_KEY = (f"{scope}-{'k' * 40}" for scope in ("read", "pairs", "admin"))
KEYS = SecretStr(f"read:{READ_KEY},pairs:{PAIRS_KEY},admin:{ADMIN_KEY}")
UNLIMITED = RateLimits(1e9, 1e9, 1 << 30)


class Markets:
    """The markets of exchanges, as tests want them."""

    def __init__(self, pairs: Mapping[str, Sequence[str]] | None = None) -> None:
        """Every exchange lists `pairs[name]`. By default it lists four pairs in its own quote currency."""
        self.asked: list[str] = []
        self.failure = ""
        self.others: dict[str, list[Instrument]] = {}  # what exchanges list besides
        self._pairs = pairs

    async def fetch(self, exchange: Exchange) -> list[Instrument]:
        """List the markets of an exchange, as `MarketLists` wants it."""
        self.asked.append(exchange.name)
        if self.failure:
            raise NoAnswer(self.failure)
        if self._pairs is not None:
            pairs = [Pair.read(text) for text in self._pairs.get(exchange.name, ())]
        else:
            pairs = [Pair(base, exchange.quote) for base in ("BTC", "ETH", "XRP", "SOL")]
        markets = [Instrument(pair=pair, state=InstrumentState.TRADING) for pair in pairs]
        return [*markets, *self.others.get(exchange.name, ())]


def key(text: str) -> dict[str, str]:
    """Return the headers of a request with a key."""
    return {"Authorization": f"Bearer {text}"}


class Served:
    """An application, and what it asks."""

    def __init__(
        self,
        home: Path,
        *,
        rates: RateLimits = UNLIMITED,
        wait_seconds: float = 0,
        fetch: Fetch | None = None,
        **settings: Any,
    ) -> None:
        """Make an application. `settings` are its settings; by default it has three keys, one of each scope."""
        self.settings = Settings(**{"home": home, "serve_keys": KEYS, **settings})
        self.broker = MemoryBroker()
        self.lake = Lake(MemoryStore(), HOUR)
        self.markets = Markets()
        self.cluster, self.latest = open_cluster(self.settings), Latest()
        self.history = PremiumHistory(self.latest)
        backends = Backends(
            self.broker, self.lake, fetch or self.markets.fetch, self.cluster, self.latest, self.history
        )
        self.app: ASGIApp = create_app(
            self.settings, backends, open_keys(self.settings), rates=rates, wait_seconds=wait_seconds
        )

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the answer to a request."""
        return asyncio.run(self.ask_in_loop(method, path, **options))

    async def ask_in_loop(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the answer to a request of a coroutine."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)


@contextlib.contextmanager
def listening(app: ASGIApp, **limits: Any) -> Iterator[str]:
    """Serve an application on a real socket, from a thread, as `coin serve` does. Yield its address.

    `limits` are those of `answer_requests`.
    """
    listening_socket = listen("127.0.0.1", 0)
    port = listening_socket.getsockname()[1]
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await answer_requests(app, listening_socket, stop, **limits)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, stop = started.result(timeout=60)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def report_feed(
    cluster: Cluster, exchange: str, channel: str, pairs: Mapping[str, str], *, time: Microseconds | None = None
) -> None:
    """Announce the status of a feed, as its collector does. `pairs` has the state of each of its pairs."""
    states = {
        pair: PairStatus(state=state, reason="no such market" * (state == "refused")) for pair, state in pairs.items()
    }
    status = Status(name=f"feed/{exchange}/{channel}/0", kind=ComponentKind.FEED, state="live", pairs=states)
    Reporter(cluster, f"collector-{exchange}-{channel}").announce([status], wall() if time is None else time)


class Follower:
    """Follows the active pairs of an exchange as its collector does: it confirms all pairs, and refuses some."""

    def __init__(self, served: Served, exchange: str, refused: Sequence[str] = ()) -> None:
        self._sets, self._served, self._exchange, self._refused = (
            PairSets(served.cluster, served.settings),
            served,
            EXCHANGES[exchange],
            refused,
        )

    def report(self) -> None:
        """Report the pairs of every channel as they are now."""
        pair_set = self._sets.of(self._exchange)
        for channel in self._served.settings.channels:
            pairs = {
                str(pair): "refused" if str(pair) in self._refused else "confirmed"
                for pair in pair_set.of(channel) or ()
            }
            report_feed(self._served.cluster, self._exchange.name, channel, pairs)

    async def run(self, stop: asyncio.Event) -> None:
        """Report again and again until `stop`."""
        while not stop.is_set():
            await asyncio.to_thread(self.report)
            await asyncio.sleep(0.02)
