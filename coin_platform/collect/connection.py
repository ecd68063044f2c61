"""One socket, from connecting to closed: what it brings is stored first, then looked at."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from coin_platform import __version__
from coin_platform.broker import Broker
from coin_platform.clock import now, unless
from coin_platform.collect.actions import Action, Banned, Failed, Fetch, Leave, Lost, Restored, Rotate, Send
from coin_platform.collect.clock_lag import ClockLag
from coin_platform.collect.gap_reports import GapReports
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.refill import Refill
from coin_platform.collect.rest import Rest, told
from coin_platform.collect.route import Route, Traffic
from coin_platform.collect.session import Session
from coin_platform.errors import OverBudget
from coin_platform.model import SECOND, Instant, Kind, Pair, Refusal
from coin_platform.records import Checkpoint, End, refused, silent, without_data

logger = logging.getLogger(__name__)

T = TypeVar("T")

TAKEOVER = 10.0  # seconds after opening in which a successor need not have data of every pair
_BEAT = 0.25  # seconds between two looks at what is due
_OUTBOX = 1000  # messages that may wait for their turn
MESSAGE_BYTES = 16 << 20  # what is too large to be read is stored all the same, but two of these must fit the budget
UNREAD_BYTES = 1 << 20  # of ours that a peer may leave unread; what we say, pongs too, is far less
PINGS_PER_SECOND = 100  # exchanges ping a few times a minute
FRAMES_PER_SECOND = 50_000  # twice what we can take; who says more says nothing: each has but five bytes
_SLICE_BYTES = 16 << 10
TURN_SECONDS = 0.02  # for messages of one socket, before all others of the region have their turn
WRITE_SECONDS = 10.0  # for one message of ours to be taken by the network
_CLOSE_SECONDS = 2.0  # for the peer's side of the closing handshake
_STALE = 0.75  # of the time after which it is given up: longer than from one ping to the next


class _Ended(Exception):
    """The socket has ended, so what belongs to it is cancelled."""


class TooCostly(ConnectionError):
    """The peer does not read what we say, or pings without end."""


class Socket(ClientConnection):
    """A connection that ends when its peer costs too much: answers that it does not read, or messages without end.

    The library takes apart, and answers, whatever has come before anything else has its turn. So a flood of pings or
    of empty messages would hold up all other exchanges of the region.
    """

    _pings = _frames = 0  # in the second that began at `_second`
    _second = 0.0

    def data_received(self, data: bytes) -> None:
        """Take what the peer says, in slices: a small one may hold thousands of messages."""
        if self.loop.time() - self._second > 1:
            self._pings, self._frames, self._second = 0, 0, self.loop.time()
        for start in range(0, len(data), _SLICE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + _SLICE_BYTES])
            if (unread := self.transport.get_write_buffer_size()) > UNREAD_BYTES:
                self.give_up(f"not read by the exchange: {unread:,} bytes of ours")
            elif self._pings > PINGS_PER_SECOND:
                self.give_up(f"more than {PINGS_PER_SECOND} pings in a second")
            elif self._frames > FRAMES_PER_SECOND:
                self.give_up(f"more than {FRAMES_PER_SECOND:,} frames in a second")

    def process_event(self, event: Event) -> None:
        """Count the frames."""
        if isinstance(event, Frame):
            self._frames += 1
            self._pings += event.opcode is Opcode.PING
        super().process_event(event)

    def give_up(self, reason: str) -> None:
        """End at once, without a closing handshake, for this reason."""
        self.set_connection_exc(TooCostly(reason))
        self.transport.abort()


class Connection:
    """The life of one socket; `run` ends with it."""

    def __init__(
        self,
        route: Route,
        pairs: Iterable[Pair],
        *,
        broker: Broker,
        rest: Rest,
        traffic: Traffic,
        clock: Callable[[], Instant] = now,
        clock_lag: ClockLag | None = None,
        gap_reports: GapReports | None = None,
    ) -> None:
        self.route = route
        self.session = Session(route.exchange, route.channel, pairs, clock_lag)
        self.reason = ""
        self.is_open = self.has_ended = False
        self.ready = asyncio.Event()  # all pairs have data, or time is up, or it has ended
        self.over = asyncio.Event()  # it has ended, or soon will: a successor should be opened
        self._ending = asyncio.Event()
        self._refilling = asyncio.Event()
        self._rest, self._traffic, self._clock = rest, traffic, clock
        self._recorder = Recorder(
            route,
            broker=broker,
            traffic=traffic,
            clock=clock,
            clock_lag=self.session.clock_lag,
            gap_reports=gap_reports,
        )
        self._gap_reports = gap_reports
        self._messages = TokenBucket(route.exchange.limits.messages_per_second, burst=5)
        rest.share(self._messages)
        self._outbox: asyncio.Queue[str] = asyncio.Queue(_OUTBOX)
        self._fetching: set[Pair] = set()
        self._opened_at = self._last_frame = self._heard = self._ping_at = self._tick_at = clock().monotonic
        self._first_data: float | None = None
        self._lifetime = random.uniform(*route.lifetime)

    @property
    def name(self) -> str:
        """What its records call it; empty until it is open."""
        return self._recorder.name

    @property
    def state(self) -> str:
        """One of connecting, subscribing, refused, live, stale, closing."""
        if self._ending.is_set() or self.has_ended:
            return "closing"
        if not self.is_open:
            return "connecting"
        exchange, session, moment = self.route.exchange, self.session, self._clock()
        is_mute = session.mute_seconds(moment) > session.mute_limit_seconds / 2
        if moment.monotonic - self._heard > exchange.silence_seconds * _STALE or is_mute:
            return "stale"
        if session.unconfirmed:
            return "subscribing"
        return "live" if session.served else "refused"

    @property
    def is_live(self) -> bool:
        """The exchange is heard, and all pairs are served, or have had the time for it; at least one pair is."""
        is_served = self.state == "live" or (self.state == "subscribing" and self.ready.is_set())
        return is_served and bool(self.session.served) and self._recorder.number > 0

    @property
    def lived(self) -> float:
        """Seconds from the first data to the last frame."""
        return 0.0 if self._first_data is None else self._last_frame - self._first_data

    async def run(self) -> None:
        """Carry the feed until the socket ends or `end` is called. Raises what connecting raises, and `DeliveryError`.

        What the exchange sent before its side of the closing handshake is stored, however late `end` came.
        """
        try:
            socket = await unless(self._ending, self._connect())
            if socket is not None:
                assert isinstance(socket, Socket)
                try:
                    await self._carry(socket)
                finally:
                    await self._close(socket)
        finally:
            self.has_ended = True
            self.ready.set()
            self.over.set()

    def follow(self, pairs: Iterable[Pair]) -> None:
        """Change what the connection carries, without reconnecting."""
        self._perform(self.session.follow(pairs, self._clock()))
        if self.is_open:
            self._log(Kind.PAIRS)

    def end(self, reason: str) -> None:
        """Close the socket, soon."""
        self.reason = self.reason or reason
        self._ending.set()

    def settle(self) -> None:
        """Log what the connection is: the collector before ours has ended."""
        if self.is_open:
            self._log(Kind.PAIRS)

    def refill(self) -> None:
        """Ask over REST for what was missed before this connection, once."""
        self._refilling.set()

    def _connect(self) -> connect:
        url = self.route.here(self.route.exchange.socket_url(self.route.channel))
        return connect(
            url,
            **self.route.outbound.socket_options(url),
            compression=None,
            user_agent_header=f"coin-platform/{__version__}",
            create_connection=Socket,
            max_size=MESSAGE_BYTES,
            max_queue=64,
            open_timeout=10,
            close_timeout=_CLOSE_SECONDS,
            ping_interval=None,  # our own, which looks at our own clock
        )

    async def _carry(self, socket: Socket) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._open()
                group.create_task(self._send(socket))
                group.create_task(self._keep(socket))
                group.create_task(self._refill())
                await self._read(socket)
                raise _Ended
        except* _Ended:
            pass
        finally:
            self.is_open = False
            self._recorder.close(self.reason or End.BROKEN_OFF)

    def _open(self) -> None:
        pairs = self.session.pairs
        moment = self._recorder.open(pairs)
        self.is_open = True
        self._opened_at = self._last_frame = self._heard = self._ping_at = self._tick_at = moment.monotonic
        logger.info("%s: open, %s", self.route, " ".join(map(str, pairs)))
        self._perform(self.session.opened(moment))

    async def _read(self, socket: Socket) -> None:
        """Store and check until the socket has ended: also what comes while it is being closed.

        A message that finds no room on its way to the disk ends the socket: what follows is not taken, either.
        """
        try:
            turn_end = time.monotonic() + TURN_SECONDS
            while True:
                self._take(Kind.SOCKET, await socket.recv(decode=False))
                if time.monotonic() > turn_end:  # `recv` gives no turn to others while messages wait
                    await asyncio.sleep(0)
                    turn_end = time.monotonic() + TURN_SECONDS
        except ConnectionClosed as closed:
            self.reason = self.reason or str(closed.__cause__ if isinstance(closed.__cause__, TooCostly) else closed)
        except OverBudget as error:
            logger.error("%s: ended, %s", self.route, error)
            self.reason = str(error)
            socket.transport.abort()

    def _take(self, kind: Kind, payload: bytes, pair: Pair | None = None) -> None:
        """Store a frame, then look at it. No await: the log and the session see the same order."""
        frame, moment = self._recorder.take(kind, payload, pair)
        if kind is Kind.SOCKET:
            self._last_frame = self._heard = moment.monotonic
        self._perform(self.session.received(frame, moment))
        if self._first_data is None and self.session.has_data:
            self._first_data = moment.monotonic
        if not self.ready.is_set() and self.session.is_complete:
            self.ready.set()
        if self.session.fresh:
            fresh = self.session.take_fresh()
            if self._gap_reports is not None:
                self._gap_reports.served(fresh, self.name, moment.wall)
            self._group.create_task(self._checkpoint(fresh))

    def _perform(self, actions: Iterable[Action]) -> None:
        is_refused = False
        for action in actions:
            is_refused = is_refused or isinstance(action, Failed)
            match action:
                case Send(payload):
                    self._say(payload)
                case Fetch(pair, url):
                    if pair not in self._fetching:
                        self._fetching.add(pair)
                        self._group.create_task(self._fetch(pair, url))
                case Lost(pair, reason, cause):
                    self._traffic.lost += 1
                    if self._gap_reports is not None:
                        self._gap_reports.lost(pair, self.name, cause, reason, self._clock().wall)
                    logger.warning("%s: book of %s lost, %s", self.route, pair, reason)
                case Restored(pair):
                    logger.info("%s: book of %s is right again", self.route, pair)
                case Failed(pair, reason, Refusal.FINAL):
                    logger.error("%s: %s is refused for good, %s; take it out of COIN_PAIRS", self.route, pair, reason)
                case Failed(pair, reason):
                    logger.warning("%s: %s is refused for the moment, %s; asking again", self.route, pair, reason)
                case Leave(reason):
                    logger.warning("%s: the connection is refused, %s; another one follows", self.route, reason)
                    self.end(refused(reason))
                case Rotate(reason):
                    self._leave(reason)
                case Banned(refusal):
                    self._rest.heed_events([refusal])
        if is_refused:
            self._log(Kind.PAIRS)

    def _log(self, kind: Kind, book: Checkpoint | None = None) -> None:
        """Log what the connection is now, and which of its pairs are refused."""
        self._recorder.refused = {str(pair): str(failed) for pair, failed in self.session.refused.items()}
        self._recorder.log(kind, self.session.pairs, book)

    def _say(self, payload: str) -> None:
        try:
            self._outbox.put_nowait(payload)
        except asyncio.QueueFull:
            self.end(f"{_OUTBOX} messages wait to be sent")

    def _leave(self, reason: str) -> None:
        if not self.over.is_set():
            logger.info("%s: to be replaced, %s", self.route, reason)
            self.over.set()

    async def _send(self, socket: Socket) -> None:
        while True:
            payload = await self._outbox.get()
            await self._messages.take()
            await self._write(socket, socket.send(payload))

    async def _write(self, socket: Socket, writing: Coroutine[Any, Any, T]) -> T | None:
        """Return what `writing` returns; None where the socket has ended, or ends because nothing we say is read."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                return await writing
        except TimeoutError:
            socket.give_up(f"not read by the exchange for {WRITE_SECONDS:g} s")
        except ConnectionClosed:
            pass  # the reader tells
        return None

    async def _close(self, socket: Socket) -> None:
        """Close the socket; without a handshake where the peer does not read, or does not answer in time."""
        try:
            async with asyncio.timeout(2 * _CLOSE_SECONDS):
                await socket.close()
        except TimeoutError:
            socket.transport.abort()

    async def _fetch(self, pair: Pair, url: str) -> None:
        try:
            payload = await self._rest.get(self.route.here(url))
            self._fetching.discard(pair)  # the answer may be a reason to ask again
            self._take(Kind.REST, payload, pair)
        except (httpx.HTTPError, OverBudget) as error:
            logger.warning("%s: book of %s not fetched, %s", self.route, pair, told(error))  # the session asks again
        finally:
            self._fetching.discard(pair)

    async def _keep(self, socket: Socket) -> None:
        """Do what is due, about four times a second; close the socket when it is to end."""
        while not self._ending.is_set():
            self._beat(socket, self._clock())
            await unless(self._ending, asyncio.sleep(_BEAT))
        await self._close(socket)

    def _beat(self, socket: Socket, moment: Instant) -> None:
        exchange, at = self.route.exchange, moment.monotonic
        if at - self._heard > exchange.silence_seconds:
            self.end(silent(exchange.silence_seconds))
        elif self.session.mute_seconds(moment) > self.session.mute_limit_seconds:
            self.end(without_data(self.session.mute_limit_seconds))
        if at - self._opened_at > self._lifetime:
            self._leave(f"open for {self._lifetime:.0f} s")
        if at - self._opened_at > TAKEOVER and self.session.served:
            self.ready.set()
        if at - self._ping_at >= (self.route.ping_every or exchange.ping_every):
            self._ping_at = at
            self._ping(socket)
        if at - self._tick_at >= 1 and not self._rest.banned_seconds:  # what is asked during a ban would only pile up
            self._tick_at = at
            self._perform(self.session.tick(moment))
        if self._recorder.doubts:
            apart = (self.session.clock_lag.lag or 0) / SECOND
            logger.warning("%s: our clock and the exchange's are %.1f s apart", self.route, apart)
            self._log(Kind.PAIRS)
        if self._recorder.turned(moment):
            self._group.create_task(self._checkpoint(None))

    def _ping(self, socket: Socket) -> None:
        """Say that we are there, also while a ban keeps other messages back: an ended socket is no help to anyone."""
        if self.route.exchange.ping is None:
            self._group.create_task(self._probe(socket))
        else:
            self._messages.reserve()
            self._group.create_task(self._write(socket, socket.send(self.route.exchange.ping)))

    async def _probe(self, socket: Socket) -> None:
        pong = await self._write(socket, socket.ping())
        if pong is None:
            return
        with contextlib.suppress(ConnectionClosed, TimeoutError):  # the reader tells; what else comes is heard, too
            await asyncio.wait_for(pong, self.route.exchange.silence_seconds)
            if self.route.exchange.is_sparse:
                self._heard = self._clock().monotonic

    async def _refill(self) -> None:
        await self._refilling.wait()
        await Refill(self.route, self._recorder, self._rest, lambda: self.session.pairs).run()

    async def _checkpoint(self, pairs: frozenset[Pair] | None) -> None:
        """Log our books (of `pairs`, or all); where there is none, just what the connection is.

        Each in a turn of the loop of its own, for a book of 3 MiB takes most of the 50 ms that a turn may take.
        """
        has_books = False
        for book in self.session.checkpoints(pairs):
            self._log(Kind.CHECKPOINT, book)
            has_books = True
            await asyncio.sleep(0)
        if not has_books:
            self._log(Kind.CHECKPOINT)
