"""Carry one channel over one socket: store each frame first, then obey what the session makes of it."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterable
from enum import StrEnum

import httpx
from websockets.exceptions import ConnectionClosed

from coin_platform.clock import unless
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.actions import Action, Banned, Failed, Fetch, Leave, Listed, Lost, Restored, Rotate, Send
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.refill import Refill
from coin_platform.collect.rest import error_text
from coin_platform.collect.session import Session
from coin_platform.collect.websocket import Socket, TooCostly, open_socket
from coin_platform.end_reasons import End, refused, silent, without_data
from coin_platform.errors import NotTaken
from coin_platform.model import Instant, Kind, Pair, Refusal
from coin_platform.records import Checkpoint

logger = logging.getLogger(__name__)

READY_SECONDS = 10.0  # after opening, a connection counts as ready even if some pair has no data yet
STALE_SHARE = 0.75  # of the silence that ends a connection; longer than from one ping to the next
MUTE_SHARE = 0.5  # of the pause without data that ends a connection
TICK_SECONDS = 1.0  # between two ticks of the session
TURN_SECONDS = 0.02  # for the messages of one socket, before the other sockets of the region have their turn
OUTBOX_MESSAGES = 1000  # that may wait to be sent


class ConnectionState(StrEnum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"  # it is open, and some pair has not been answered
    REFUSED = "refused"  # all pairs are refused
    LIVE = "live"
    STALE = "stale"  # it is open, but silent: soon it is given up
    CLOSING = "closing"
    CLOSED = "closed"


class _SocketEnded(Exception):
    """The socket has ended: this cancels the tasks that belong to it."""


class Connection:
    """The life of one socket. `run` ends with it."""

    def __init__(self, pairs: Iterable[Pair], recorder: Recorder, access: ExchangeAccess) -> None:
        """Carry these pairs of the recorder's route."""
        self.route = route = recorder.route
        self.session = Session(
            route.exchange, route.channel, pairs, access.clock_lag, window=route.window, traffic=recorder.traffic
        )
        self._access = access
        self.reason = ""  # why it ends
        self.ready = asyncio.Event()  # all pairs have data, or the time for that is over, or it is closed
        self.over = asyncio.Event()  # a successor should be opened: it is closed, or soon will be
        self._state = ConnectionState.CONNECTING  # SUBSCRIBING while the socket is open: `state` looks closer
        self._end_asked = asyncio.Event()
        self._refill_asked = asyncio.Event()
        self._recorder, self._rest, self._clock = recorder, access.rest, access.clock
        self._look_seconds = access.timing.look_seconds
        self._messages = TokenBucket(route.exchange.limits.messages_per_second, burst=5)
        access.rest.share(self._messages)
        self._outbox: asyncio.Queue[str] = asyncio.Queue(OUTBOX_MESSAGES)
        self._fetching: set[Pair] = set()
        self._start_times(self._clock())
        self._first_data: float | None = None  # this and those of `_start_times` are monotonic seconds
        self._lifetime_seconds = random.uniform(*route.lifetime)

    def _start_times(self, moment: Instant) -> None:
        self._opened_at = self._last_frame = self._heard = self._ping_at = self._tick_at = moment.monotonic

    @property
    def name(self) -> str:
        """The name in its records; empty until it is open."""
        return self._recorder.name

    @property
    def state(self) -> ConnectionState:
        """Where the connection is in its life now."""
        if self._state is not ConnectionState.SUBSCRIBING:
            return self._state
        session, moment = self.session, self._clock()
        is_mute = session.mute_seconds(moment) > session.mute_limit_seconds * MUTE_SHARE
        if is_mute or moment.monotonic - self._heard > self.route.exchange.silence_seconds * STALE_SHARE:
            return ConnectionState.STALE
        if session.unconfirmed:
            return ConnectionState.SUBSCRIBING
        return ConnectionState.LIVE if session.served else ConnectionState.REFUSED

    @property
    def is_open(self) -> bool:
        """Whether the socket is open, perhaps still while it is being closed."""
        return self._recorder.is_open

    @property
    def is_closed(self) -> bool:
        """Whether `run` has ended."""
        return self._state is ConnectionState.CLOSED

    @property
    def is_live(self) -> bool:
        """Whether the exchange is heard and serves a pair, and every pair was answered or had the time for that."""
        is_late = self.state is ConnectionState.SUBSCRIBING and self.ready.is_set()
        is_answered = self.state is ConnectionState.LIVE or is_late
        return is_answered and bool(self.session.served) and self._recorder.number > 0

    @property
    def data_seconds(self) -> float:
        """The time from the first data to the last frame."""
        return 0.0 if self._first_data is None else self._last_frame - self._first_data

    async def run(self) -> None:
        """Carry the feed until the socket ends or `end` is called.

        All that the exchange sends before its side of the closing handshake is stored, however late `end` was called.
        Raises what connecting raises, and `DeliveryError`.
        """
        try:
            url = self.route.here(self.route.exchange.socket_url(self.route.channel))
            socket = await unless(self._end_asked, open_socket(url, self.route.outbound))
            if socket is not None:
                assert isinstance(socket, Socket)
                try:
                    await self._carry(socket)
                finally:
                    await socket.close_in_time()
        finally:
            self._state = ConnectionState.CLOSED
            self.ready.set()
            self.over.set()

    def follow(self, pairs: Iterable[Pair]) -> None:
        """Carry these pairs from now on, without reconnecting."""
        self._perform(self.session.follow(pairs, self._clock()))
        self.settle()

    def end(self, reason: str) -> None:
        """Close the socket soon. The first reason counts."""
        self.reason = self.reason or reason
        if not self.is_closed:
            self._state = ConnectionState.CLOSING
        self._end_asked.set()

    def settle(self) -> None:
        """Log what the connection is now: the collector before ours has ended, or the pairs have changed."""
        if self.is_open:
            self._log(Kind.PAIRS)

    def refill(self) -> None:
        """Ask over REST, once, for what was missed before this connection."""
        self._refill_asked.set()

    async def _carry(self, socket: Socket) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._open()
                group.create_task(self._send(socket))
                group.create_task(self._look(socket))
                group.create_task(self._refill())
                await self._read(socket)
                raise _SocketEnded
        except* _SocketEnded:
            pass
        finally:
            self._state = ConnectionState.CLOSING
            self._recorder.close(self.reason or End.BROKEN_OFF)

    def _open(self) -> None:
        pairs = self.session.pairs
        moment = self._recorder.open(pairs)
        if not self._end_asked.is_set():
            self._state = ConnectionState.SUBSCRIBING
        self._start_times(moment)
        logger.info("%s: open, %s", self.route, " ".join(map(str, pairs)))
        self._perform(self.session.opened(moment))

    async def _read(self, socket: Socket) -> None:
        """Store and check frames until the socket has ended, also those that come while it is being closed.

        If a frame finds no room on its way to the disk, the socket ends: later frames are not taken, either.
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
        except NotTaken as error:
            logger.error("%s: ended, %s", self.route, error)
            self.reason = str(error)
            socket.transport.abort()

    def _take(self, kind: Kind, payload: bytes, pair: Pair | None = None) -> None:
        """Store a frame, then check it. There is no await between, so the log and the session see the same order."""
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
            self._recorder.report_served(fresh, moment)
            self._group.create_task(self._checkpoint(fresh))

    def _perform(self, actions: Iterable[Action]) -> None:
        is_refused = False
        for action in actions:
            is_refused = is_refused or isinstance(action, Failed)
            match action:
                case Send(payload):
                    self._put(payload)
                case Fetch(pair, url):
                    if pair not in self._fetching:
                        self._fetching.add(pair)
                        self._group.create_task(self._fetch(pair, url))
                case Lost(pair, reason, cause):
                    self._recorder.report_lost(pair, cause, reason)
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
                    self.replace(reason)
                case Banned(refusal):
                    self._rest.heed_events([refusal])
                case Listed():
                    self._access.take_listed(action, self.session.pairs)
        if is_refused:
            self._log(Kind.PAIRS)

    def _log(self, kind: Kind, book: Checkpoint | None = None) -> None:
        """Log what the connection is now, and which of its pairs are refused."""
        self._recorder.refused = {str(pair): str(failed) for pair, failed in self.session.refused.items()}
        self._recorder.log(kind, self.session.pairs, book)

    def _put(self, payload: str) -> None:
        try:
            self._outbox.put_nowait(payload)
        except asyncio.QueueFull:
            self.end(f"{OUTBOX_MESSAGES} messages wait to be sent")

    def replace(self, reason: str) -> None:
        """Ask for a successor. This connection goes on until the successor has data."""
        if not self.over.is_set():
            logger.info("%s: to be replaced, %s", self.route, reason)
            self.over.set()

    async def _send(self, socket: Socket) -> None:
        await self._recorder.take_place_in_log()
        while True:
            payload = await self._outbox.get()
            await self._messages.take()
            await socket.written(socket.send(payload))

    async def _fetch(self, pair: Pair, url: str) -> None:
        try:
            payload = await self._rest.get(self.route.here(url))
            self._fetching.discard(pair)  # the answer may be a reason to ask again
            self._take(Kind.REST, payload, pair)
        except (httpx.HTTPError, NotTaken) as error:
            # The session asks again.
            logger.warning("%s: book of %s not fetched, %s", self.route, pair, error_text(error))
        finally:
            self._fetching.discard(pair)

    async def _look(self, socket: Socket) -> None:
        """Do what is due until the connection is to end, then close the socket."""
        while not self._end_asked.is_set():
            self._do_due(socket, self._clock())
            await unless(self._end_asked, asyncio.sleep(self._look_seconds))
        await socket.close_in_time()

    def _do_due(self, socket: Socket, moment: Instant) -> None:
        exchange, at = self.route.exchange, moment.monotonic
        if at - self._heard > exchange.silence_seconds:
            self.end(silent(exchange.silence_seconds))
        elif self.session.mute_seconds(moment) > self.session.mute_limit_seconds:
            self.end(without_data(self.session.mute_limit_seconds))
        if at - self._opened_at > self._lifetime_seconds:
            self.replace(f"open for {self._lifetime_seconds:.0f} s")
        if at - self._opened_at > READY_SECONDS and self.session.served:
            self.ready.set()
        if at - self._ping_at >= (self.route.ping_every or exchange.ping_every):
            self._ping_at = at
            self._ping(socket)
        if at - self._tick_at >= TICK_SECONDS and not self._rest.banned_seconds:  # during a ban, requests would pile up
            self._tick_at = at
            self._perform(self.session.tick(moment))
        if self._recorder.has_new_doubt:
            logger.warning("%s: %s", self.route, self.session.clock_lag)
            self._log(Kind.PAIRS)
        if self._recorder.turned(moment):
            self._group.create_task(self._checkpoint(None))

    def _ping(self, socket: Socket) -> None:
        """Ping, also while a ban keeps other messages back: without pings, the exchange would end the socket."""
        if self.route.exchange.ping is None:
            self._group.create_task(self._probe(socket))
        else:
            self._messages.reserve()
            self._group.create_task(socket.written(socket.send(self.route.exchange.ping)))

    async def _probe(self, socket: Socket) -> None:
        pong = await socket.written(socket.ping())
        if pong is None:
            return
        # The task that reads reports the end of a socket; and without a pong, any other frame proves the connection.
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            await asyncio.wait_for(pong, self.route.exchange.silence_seconds)
            if self.route.exchange.is_sparse:
                self._heard = self._clock().monotonic

    async def _refill(self) -> None:
        await self._refill_asked.wait()
        await Refill(self._recorder, self._rest, lambda: self.session.pairs).run()

    async def _checkpoint(self, pairs: frozenset[Pair] | None) -> None:
        """Log the valid books of these pairs, or of all. If there is none, log just what the connection is.

        Each book has its own turn of the loop: one of 3 MiB takes most of the 50 ms that a turn may take.
        """
        has_books = False
        for book in self.session.checkpoints(pairs):
            self._log(Kind.CHECKPOINT, book)
            has_books = True
            await asyncio.sleep(0)
        if not has_books:
            self._log(Kind.CHECKPOINT)
