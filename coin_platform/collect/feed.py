"""Keep one channel of a set of pairs connected, and poll it over REST while no socket is live."""

import asyncio
import logging
from collections.abc import Iterable

import httpx
from websockets.exceptions import InvalidStatus, WebSocketException

from coin_platform.clock import unless
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.connection import Connection
from coin_platform.collect.pacing import Backoff
from coin_platform.collect.poll_plan import OUTAGE_SECONDS, Standby
from coin_platform.collect.poller import Poller
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.refill import REFILLED_CHANNELS
from coin_platform.collect.route import Route
from coin_platform.collect.status import FeedStatus
from coin_platform.collect.traffic import Traffic
from coin_platform.end_reasons import End
from coin_platform.model import Channel, Kind, Microseconds, Pair
from coin_platform.records import Transport
from coin_platform.runtime.log_lines import named

logger = logging.getLogger(__name__)
STALE_SECONDS = 60.0  # without news, after which a pair is labelled


class Feed:
    """Keeps one route alive.

    1. A connection that has ended is replaced after a growing delay, and one that will end soon is replaced before.
    2. A channel that is not streamed, or that had no live connection for `OUTAGE_SECONDS`, is polled over REST.
    """

    def __init__(self, route: Route, pairs: Iterable[Pair], access: ExchangeAccess) -> None:
        """Carry these pairs over this route."""
        self.route = route
        self.pairs: tuple[Pair, ...] = ()
        self.connections: list[Connection] = []  # oldest first
        self.poller: Poller | None = None
        self.is_streamed = route.channel in route.exchange.channels
        self._is_list = route.channel is Channel.INSTRUMENT
        self.traffic = Traffic()
        self.access, self._clock = access, access.clock
        self._recorder = self._new_recorder(Transport.NONE)  # of what the feed wants
        self._is_running = False
        self._has_pairs = asyncio.Event()
        self._attempts = 0
        self._last_error = ""
        self.follow(pairs)

    @property
    def status(self) -> FeedStatus:
        """The state of the feed now."""
        newest = self.connections[-1] if self.connections else None
        carrier = self.poller or newest
        answers = self.poller.plan if self.poller else newest.session if newest else None
        return FeedStatus(
            exchange=self.route.exchange.name,
            channel=self.route.channel,
            shard=self.route.shard,
            connection=carrier.name if carrier else "",
            transport="ws" if self.is_streamed and self.poller is None else "rest",
            state=str(carrier.state) if carrier else "waiting" if self.pairs else "idle",
            pairs=self.pairs,
            unconfirmed=answers.unconfirmed if answers else frozenset(),
            invalid=newest.session.invalid if newest else frozenset(),
            refused=dict(answers.refused) if answers else {},
            stale=newest.session.stale(self._clock(), STALE_SECONDS) if newest else frozenset(),
            proof=self.route.exchange.proof,
            proved=newest.session.proved if newest else frozenset(),
            not_traded=self.access.listings.not_traded(self.pairs),
            listed=self.access.listings.count if self._is_list else None,
            listing_news=self.access.listing_news if self._is_list else None,
            clock_lag=self.access.clock_lag.lag,
            clock_suspect=self.access.clock_lag.is_suspect,
            frames=self.traffic.frames,
            bytes=self.traffic.bytes,
            undecodable=self.traffic.undecodable,
            unasked=self.traffic.unasked,
            lost=self.traffic.lost,
            resyncs=self.traffic.resyncs,
            reconnects=max(0, self._attempts - 1),
            last_frame_time=self.traffic.last_frame_time,
            last_error=self._last_error or (self.poller.last_error if self.poller else ""),
            last_times=self._last_times(newest),
        )

    def _last_times(self, newest: Connection | None) -> dict[Pair, Microseconds]:
        if self.poller is not None:
            return self.poller.plan.news_times
        return newest.session.news_times(self._clock()) if newest is not None else {}

    def follow(self, pairs: Iterable[Pair]) -> None:
        """Carry these pairs from now on, without reconnecting. Without pairs, the feed has no connection."""
        self.pairs = tuple(dict.fromkeys(pairs))
        if self.pairs:
            self._has_pairs.set()
        else:
            self._has_pairs.clear()
        for connection in self.connections:
            if self.pairs:
                connection.follow(self.pairs)
            else:
                connection.end(End.NO_PAIRS)
        if self.poller is not None and self.pairs:
            self.poller.follow(self.pairs)
        self._log_pairs()

    @property
    def is_served(self) -> bool:
        """Whether the feed has data of its pairs: a collector that takes over may then end the one before it.

        REST is enough if no socket can be opened, once every pair has been answered. It is not enough if our socket is
        refused: the socket of the other collector may work.
        """
        is_carried = any(connection.is_live and connection.ready.is_set() for connection in self.connections)
        is_refused = any(connection.is_open and not connection.session.served for connection in self.connections)
        is_polled = self.poller is not None and self.poller.is_complete and not is_refused
        return not self.pairs or is_carried or is_polled

    @property
    def is_held_up(self) -> bool:
        """Whether the newest connection is refused pairs for the moment: a take-over waits for them for a while."""
        return any(connection.session.refused_now for connection in self.connections[-1:])

    def reconnect(self, reason: str) -> None:
        """Replace the newest connection: a successor opens, has data, and then ends it. A poller goes on."""
        for connection in self.connections[-1:]:
            connection.replace(reason)

    def settle(self) -> None:
        """Log what there is now: the collector before ours has ended."""
        self._log_pairs()
        for carrier in (*self.connections, self.poller):
            if carrier is not None:
                carrier.settle()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the feed alive until `stop`. Raises `DeliveryError`, in a group, if a frame cannot be stored."""
        with named(exchange=self.route.exchange.name, channel=self.route.channel.value):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        self._is_running = True
        self._log_pairs()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stand_in(stop))
            group.create_task(self._remind(stop))
            if self.is_streamed:
                await self._stream(stop, group)
        if self._recorder.name:
            self._recorder.close(self._farewell())
        self._is_running = False

    def _new_recorder(self, transport: Transport) -> Recorder:
        return Recorder(self.route, self.access, self.traffic, transport)

    def _log_pairs(self, reason: str = "") -> None:
        """Log the pairs that the feed wants, also before the first connection. `reason`: why there is no connection."""
        if self._recorder.name:
            self._recorder.log(Kind.PAIRS, self.pairs, reason=reason)
        elif self._is_running and self.pairs:
            self._recorder.open(self.pairs)

    async def _remind(self, stop: asyncio.Event) -> None:
        """Log the pairs once the time for a start is over, so that the ledger of gaps knows what was not served."""
        await unless(stop, self._has_pairs.wait())
        await unless(stop, asyncio.sleep(self.access.timing.reminder_seconds))
        if not stop.is_set():
            self._log_pairs(self.poller.last_error if self.poller is not None else "")

    async def _stream(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        backoff = Backoff()
        while True:
            await unless(stop, self._may_connect())
            if stop.is_set():
                break
            connection = Connection(self.pairs, self._new_recorder(Transport.SOCKET), self.access)
            self.connections.append(connection)
            self._attempts += 1
            group.create_task(self._carry(connection))
            await unless(stop, self._replace_older(connection))
            if self.pairs and not stop.is_set():
                delay = backoff.next(connection.data_seconds)
                if connection.is_closed:
                    logger.warning("%s: ended, %s; again in %.1f s", self.route, self._last_error, delay)
                await unless(stop, asyncio.sleep(delay))
        reason = self._farewell()
        for connection in self.connections:
            connection.end(reason)

    def _farewell(self) -> End:
        """Return why our connections end. If another collector waits to take over, hand the gaps over to it."""
        if not self.access.term.lasts():
            return End.NOT_LEADING
        if not self.access.broker.has_guest(self.route.topic, self.route.exchange.partition):
            return End.STOPPED
        self.access.gap_reports(self.route.channel).hand_over(self._clock().wall)
        return End.REPLACED

    async def _may_connect(self) -> None:
        await self._has_pairs.wait()
        await self.access.connects.take()

    async def _replace_older(self, connection: Connection) -> None:
        """End the connections before this one once it has data. Return when it needs a successor itself.

        1. As long as this connection is refused a pair for the moment, an older one that brings this pair goes on.
        2. If there is no older connection, this one does not know what happened before, and asks for that over REST.
        """
        await connection.ready.wait()
        while self._lacks(connection) and not connection.over.is_set():
            await asyncio.sleep(self.access.timing.look_seconds)
        if not connection.is_closed:
            older = self.connections[: self.connections.index(connection)]
            if not older and self.route.channel in REFILLED_CHANNELS:
                connection.refill()
            for predecessor in older:
                predecessor.end(End.REPLACED)
        await connection.over.wait()

    def _lacks(self, connection: Connection) -> bool:
        """Return whether a connection is refused for the moment what an older one brings."""
        older = self.connections[: self.connections.index(connection)] if connection in self.connections else ()
        return any(connection.session.refused_now & predecessor.session.served for predecessor in older)

    async def _carry(self, connection: Connection) -> None:
        try:
            await connection.run()
            self._last_error = connection.reason
        except InvalidStatus as refusal:
            answer = refusal.response
            headers = httpx.Headers(list(answer.headers.raw_items()))
            self.access.rest.heed(answer.status_code, headers, bytes(answer.body or b""))
            self._last_error = f"HTTP {answer.status_code}"
            self._log_pairs(self._last_error)
        except (OSError, WebSocketException) as error:  # a time-out is an OSError
            self._last_error = str(error) or type(error).__name__
            self._log_pairs(self._last_error)
        finally:
            self.connections.remove(connection)

    async def _stand_in(self, stop: asyncio.Event) -> None:
        """Poll while that is due. Meanwhile, `_stream` goes on connecting."""
        standby = Standby(self._clock().monotonic, is_streamed=self.is_streamed)
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                is_live = any(connection.is_live for connection in self.connections)
                is_due = standby.is_due(self._clock().monotonic, is_served=is_live or not self._has_address())
                if is_due and self.poller is None:
                    group.create_task(self._poll())
                elif not is_due and self.poller is not None:
                    self.poller.end(End.STREAMED if is_live else End.NO_PAIRS)
                if self._recorder.name and self._recorder.turned(self._clock()):
                    self._log_pairs()
                await unless(stop, asyncio.sleep(self.access.timing.look_seconds))
            if self.poller is not None:
                self.poller.end(self._farewell())

    async def _poll(self) -> None:
        self.poller = Poller(self.pairs, self._new_recorder(Transport.REST), self.access)
        if self.is_streamed:
            seconds = OUTAGE_SECONDS
            logger.warning("%s: no live connection for %.0f s, polled over REST until there is", self.route, seconds)
        else:
            logger.info("%s: polled over REST, %s", self.route, " ".join(map(str, self.pairs)))
        try:
            await self.poller.run()
        finally:
            logger.info("%s: polled no longer, %s", self.route, self.poller.reason)
            self.poller = None

    def _has_address(self) -> bool:
        return any(self.route.exchange.request_url(self.route.channel, pair) for pair in self.pairs)
