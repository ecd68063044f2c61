"""One socket: what it sends is stored first, then looked at; it is replaced whenever it ends."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from coin_platform import __version__
from coin_platform.broker import Broker
from coin_platform.collect.pacing import Backoff, TokenBucket, retry_after
from coin_platform.collect.rest import Rest
from coin_platform.collect.session import Action, Failed, Fetch, Lost, Restored, Rotate, Send, Session
from coin_platform.exchanges.base import Exchange, relocate
from coin_platform.model import SECOND, Channel, Instant, Kind, Microseconds, Pair
from coin_platform.wire import Facts, Header, frame

logger = logging.getLogger(__name__)

BEFORE_BOUNDARY: Microseconds = 5 * SECOND  # when checkpoints are due, before the end of a window
_BEAT = 0.25  # seconds between two looks at what is due
_SENDS = 1000  # messages that may wait for their turn


def now() -> Instant:
    """Read both clocks."""
    return Instant(time.time_ns() // 1000, time.monotonic())


class Feed(NamedTuple):
    """What a connection carries, and where it comes from and goes to."""

    exchange: Exchange
    channel: Channel
    shard: int
    url: str  # as the exchange spells it
    topic: str
    epoch: int
    window: Microseconds
    host: str | None = None  # of the simulated exchanges


@dataclass
class Status:
    """The state of one connection, as data."""

    name: str = ""
    state: str = "connecting"  # connecting | live | closing | waiting
    frames: int = 0
    bytes: int = 0
    undecodable: int = 0
    connects: int = 0
    lost: int = 0
    pairs: tuple[Pair, ...] = ()
    refused: dict[Pair, str] = field(default_factory=dict)
    last_error: str = ""


class Connection:
    """Keeps one feed alive: connects, stores, obeys its session, and connects again with growing delays."""

    def __init__(self, feed: Feed, pairs: Iterable[Pair], *, broker: Broker, rest: Rest, connects: TokenBucket) -> None:
        self.feed = feed
        self.status = Status(pairs=tuple(pairs))
        self._broker, self._rest, self._connects = broker, rest, connects
        self._messages = TokenBucket(feed.exchange.limits.messages_per_second, burst=5)
        self._session: Session | None = None
        self._outbox: asyncio.Queue[str] = asyncio.Queue(_SENDS)
        self._number = 0
        self._first_frame: float | None = None
        self._last_frame = 0.0
        self._reason = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the feed alive until `stop`. Raises `DeliveryError` when a frame could not be stored."""
        backoff = Backoff()
        while not stop.is_set():
            if await _is_set(stop, self._connects.reserve()):
                return
            try:
                await self._live(stop)
                error = self._reason
            except InvalidStatus as refused:
                answer = refused.response
                self._connects.forbid(retry_after(answer.headers.get("Retry-After")) or 0.0)
                error = f"HTTP {answer.status_code}"
            except (OSError, TimeoutError, WebSocketException) as broken:
                error = str(broken) or type(broken).__name__
            lived = self._last_frame - self._first_frame if self._first_frame is not None else 0.0
            self._first_frame = None
            if stop.is_set():
                return
            delay = backoff.next(lived)
            self.status.state, self.status.last_error = "waiting", error
            logger.warning("%s: ended, %s; again in %.1f s", self, error, delay)
            await _is_set(stop, delay)

    def follow(self, pairs: Iterable[Pair]) -> None:
        """Change what the connection carries, without reconnecting."""
        self.status.pairs = tuple(pairs)
        if self._session is not None:
            self._perform(self._session.follow(self.status.pairs, now()))
            self._own(Kind.PAIRS, Facts(pairs=[str(pair) for pair in self.status.pairs], code=__version__))

    def __str__(self) -> str:
        return f"{self.feed.exchange.name} {self.feed.channel} {self.feed.shard}"

    async def _live(self, stop: asyncio.Event) -> None:
        self.status.state = "connecting"
        async with connect(
            self._here(self.feed.url),
            compression=None,
            proxy=None,
            user_agent_header=f"coin-platform/{__version__}",
            max_size=32 << 20,  # a whole book can have 5 MB
            max_queue=64,
            open_timeout=10,
            close_timeout=2,
        ) as socket:
            ended = asyncio.Event()
            self._open()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._keep(socket, stop, ended))
                    sender = group.create_task(self._send(socket))
                    await self._read(socket, group)
                    ended.set()
                    sender.cancel()
            except* ConnectionClosed:
                pass  # told by the reader already
            finally:
                self._close()

    def _open(self) -> None:
        feed, moment = self.feed, now()
        self._session = Session(feed.exchange, feed.channel, self.status.pairs)
        self._outbox = asyncio.Queue(_SENDS)
        self._number, self._reason = 0, ""
        self._last_frame = moment.monotonic
        self.status.name = f"{feed.channel}-{feed.shard}-{moment.wall:x}"
        self.status.state, self.status.connects = "live", self.status.connects + 1
        pairs = [str(pair) for pair in self.status.pairs]
        self._own(Kind.OPENED, Facts(url=feed.url, pairs=pairs, code=__version__))
        self._perform(self._session.opened(moment))
        logger.info("%s: open, %s", self, " ".join(pairs))

    def _close(self) -> None:
        self.status.state = "closing"
        self._own(Kind.CLOSED, Facts(reason=self._reason, code=__version__))
        self._session = None

    async def _read(self, socket: ClientConnection, group: asyncio.TaskGroup) -> None:
        """Store and check until the socket ends, also what comes while it is being closed."""
        self._group = group
        try:
            while True:
                self._take(Kind.SOCKET, await socket.recv(decode=False))
        except ConnectionClosed as closed:
            self._reason = self._reason or str(closed)

    def _take(self, kind: Kind, payload: bytes, pair: Pair | None = None) -> None:
        """Store a frame, then look at it. No await: the log and the session see the same order."""
        moment = now()
        self._number += 1
        header = Header(kind, self.feed.epoch, self.status.name, self._number, moment.wall, pair)
        self._broker.append(self.feed.topic, self.feed.exchange.partition, header.pack(), payload)
        self._last_frame = moment.monotonic
        self._first_frame = self._first_frame or moment.monotonic
        self.status.frames += 1
        self.status.bytes += len(payload)
        session = self._session
        if session is None:
            return
        self._perform(session.received(frame(self.feed.exchange.name, self.feed.channel, header, payload), moment))
        self.status.undecodable = session.undecodable
        if session.fresh:
            self._checkpoint(session.take_fresh())

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Send(payload):
                    self._outbox.put_nowait(payload)
                case Fetch(pair, url):
                    self._group.create_task(self._fetch(pair, url))
                case Lost(pair, reason):
                    self.status.lost += 1
                    logger.warning("%s: book of %s lost, %s", self, pair, reason)
                case Restored(pair):
                    logger.info("%s: book of %s is right again", self, pair)
                case Failed(pair, reason):
                    self.status.refused[pair] = reason
                    logger.error("%s: %s is refused: %s; take it out of COIN_PAIRS", self, pair, reason)
                case Rotate(reason):
                    self._reason = f"asked to go: {reason}"

    def _here(self, url: str) -> str:
        return relocate(url, self.feed.exchange.name, self.feed.host) if self.feed.host else url

    async def _fetch(self, pair: Pair, url: str) -> None:
        try:
            payload = await self._rest.get(self._here(url))
        except httpx.HTTPError as error:
            logger.warning("%s: book of %s not fetched, %s", self, pair, error)  # the session asks again
            return
        self._take(Kind.REST, payload, pair)

    async def _send(self, socket: ClientConnection) -> None:
        while True:
            payload = await self._outbox.get()
            await self._messages.take()
            await socket.send(payload)

    async def _keep(self, socket: ClientConnection, stop: asyncio.Event, ended: asyncio.Event) -> None:
        """Do what is due: pings, patience, checkpoints; end the socket when it is silent or no longer wanted."""
        exchange = self.feed.exchange
        ping_at = tick_at = time.monotonic()
        boundary = self._next_boundary(now().wall)
        while not await _is_set(ended, _BEAT):
            moment = now()
            if stop.is_set():
                self._reason = "stopped"
            elif moment.monotonic - self._last_frame > exchange.silence:
                self._reason = f"silent for {exchange.silence:.0f} s"
            if self._reason:
                await socket.close()
                return
            if moment.monotonic - ping_at >= exchange.ping_every and exchange.ping is not None:
                ping_at = moment.monotonic
                self._outbox.put_nowait(exchange.ping)
            if moment.monotonic - tick_at >= 1 and self._session is not None:
                tick_at = moment.monotonic
                self._perform(self._session.tick(moment))
            if moment.wall >= boundary - BEFORE_BOUNDARY:
                boundary += self.feed.window
                self._checkpoint(None)

    def _next_boundary(self, wall: Microseconds) -> Microseconds:
        return (wall // self.feed.window + 1) * self.feed.window

    def _checkpoint(self, pairs: frozenset[Pair] | None) -> None:
        """Log our books (of `pairs`, or all), or just what the connection is where books are always whole."""
        if self._session is None:
            return
        names = [str(pair) for pair in self._session.pairs]
        books = list(self._session.checkpoints(pairs))
        for book in books:
            self._own(Kind.CHECKPOINT, Facts(pairs=names, code=__version__, book=book))
        if not books:
            self._own(Kind.CHECKPOINT, Facts(pairs=names, code=__version__))

    def _own(self, kind: Kind, facts: Facts) -> None:
        header = Header(kind, self.feed.epoch, self.status.name, self._number, now().wall)
        self._broker.append(self.feed.topic, self.feed.exchange.partition, header.pack(), facts.pack())


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most this long; return whether it is set."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return event.is_set()
    return True
