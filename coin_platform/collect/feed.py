"""One channel of some pairs, kept alive: a connection follows the other, and where there is none, REST stands in."""

import asyncio
import logging
from collections.abc import Callable, Iterable

import httpx
from websockets.exceptions import InvalidStatus, WebSocketException

from coin_platform.broker import Broker
from coin_platform.clock import now, unless
from coin_platform.collect.clock_lag import ClockLag
from coin_platform.collect.connection import Connection
from coin_platform.collect.gap_reports import GapReports
from coin_platform.collect.pacing import Backoff, TokenBucket
from coin_platform.collect.poll_plan import OUTAGE, Standby
from coin_platform.collect.poller import Poller
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.refill import REFILLED
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route, Traffic
from coin_platform.collect.status import FeedStatus
from coin_platform.model import SECOND, Instant, Kind, Pair
from coin_platform.records import End, Transport
from coin_platform.tables.pending_gaps import FIRST_DATA_PATIENCE

logger = logging.getLogger(__name__)
STALE = 60.0  # seconds without news after which a pair is labelled
_BEAT = 0.25  # seconds between two looks at whether REST must stand in
_REMINDER_SECONDS = (
    FIRST_DATA_PATIENCE / SECOND + 1
)  # after the start: a record then, so that the ledger knows what was not served


class Feed:
    """Keeps one route alive. A connection that ended is replaced after a growing delay, one that soon will, before.

    A channel that is not streamed, or has had no live connection for `OUTAGE`, is polled over REST.
    """

    def __init__(
        self,
        route: Route,
        pairs: Iterable[Pair],
        *,
        broker: Broker,
        rest: Rest,
        connects: TokenBucket,
        clock: Callable[[], Instant] = now,
        clock_lag: ClockLag | None = None,
        gap_reports: GapReports | None = None,
    ) -> None:
        self.route = route
        self.pairs: tuple[Pair, ...] = ()
        self.connections: list[Connection] = []
        self.poller: Poller | None = None
        self.is_streamed = route.channel in route.exchange.channels
        self.traffic = Traffic()
        self._broker, self._rest, self._connects, self._clock = broker, rest, connects, clock
        self._clock_lag, self._gap_reports = clock_lag or ClockLag(), gap_reports
        self._wants = Recorder(
            route,
            broker=broker,
            traffic=self.traffic,
            clock=clock,
            transport=Transport.NONE,
            clock_lag=self._clock_lag,
            gap_reports=gap_reports,
        )
        self._is_running = False
        self._has_pairs = asyncio.Event()
        self._attempts = 0
        self._last_error = ""
        rest.share(connects)
        self.follow(pairs)

    @property
    def status(self) -> FeedStatus:
        """What there is to say about the feed now."""
        newest = self.connections[-1] if self.connections else None
        carrier = self.poller or newest
        said = self.poller.plan if self.poller else newest.session if newest else None
        return FeedStatus(
            exchange=self.route.exchange.name,
            channel=self.route.channel,
            shard=self.route.shard,
            connection=carrier.name if carrier else "",
            transport="ws" if self.is_streamed and self.poller is None else "rest",
            state=carrier.state if carrier else "waiting" if self.pairs else "idle",
            pairs=self.pairs,
            unconfirmed=said.unconfirmed if said else frozenset(),
            invalid=newest.session.invalid if newest else frozenset(),
            refused=dict(said.refused) if said else {},
            stale=newest.session.stale(self._clock(), STALE) if newest else frozenset(),
            clock_lag=self._clock_lag.lag,
            clock_suspect=self._clock_lag.is_suspect,
            frames=self.traffic.frames,
            bytes=self.traffic.bytes,
            undecodable=said.undecodable if said else 0,
            unasked=newest.session.unasked if newest else 0,
            lost=self.traffic.lost,
            reconnects=max(0, self._attempts - 1),
            last_frame_time=self.traffic.last_frame_time,
            last_error=self._last_error or (self.poller.last_error if self.poller else ""),
        )

    def follow(self, pairs: Iterable[Pair]) -> None:
        """Change what the feed carries, without reconnecting; without pairs it has no connection."""
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
        self._log_wants()

    @property
    def is_served(self) -> bool:
        """Whether what is wanted comes: a collector that takes over may then end the one before it.

        REST is enough where no socket can be opened, but not where ours is refused: that of the other may work.
        """
        is_carried = any(connection.is_live and connection.ready.is_set() for connection in self.connections)
        is_refused = any(connection.is_open and not connection.session.served for connection in self.connections)
        is_polled = self.poller is not None and self.poller.state == "live" and not is_refused
        return not self.pairs or is_carried or is_polled

    @property
    def is_held_up(self) -> bool:
        """Whether pairs are refused for the moment: whoever takes over waits for them, but not for ever."""
        return any(connection.session.refused_now for connection in self.connections[-1:])

    def settle(self) -> None:
        """Log what there is now: the collector before ours has ended."""
        self._log_wants()
        for carrier in (*self.connections, self.poller):
            if carrier is not None:
                carrier.settle()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the feed alive until `stop`. Raises `DeliveryError`, in a group, when a frame could not be stored."""
        self._is_running = True
        self._log_wants()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stand_in(stop))
            group.create_task(self._remind(stop))
            if self.is_streamed:
                await self._stream(stop, group)
        if self._wants.name:
            self._wants.close(self._farewell())
        self._is_running = False

    def _log_wants(self, reason: str = "") -> None:
        """Log what is wanted, from before the first connection on; `reason`: why there is no connection."""
        if self._wants.name:
            self._wants.log(Kind.PAIRS, self.pairs, reason=reason)
        elif self._is_running and self.pairs:
            self._wants.open(self.pairs)

    async def _remind(self, stop: asyncio.Event) -> None:
        """Let the ledger know that the time for a start is over."""
        await unless(stop, self._has_pairs.wait())
        await unless(stop, asyncio.sleep(_REMINDER_SECONDS))
        if not stop.is_set():
            self._log_wants(self.poller.last_error if self.poller is not None else "")

    async def _stream(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        backoff = Backoff()
        while True:
            await unless(stop, self._may_connect())
            if stop.is_set():
                break
            connection = Connection(
                *(self.route, self.pairs),
                broker=self._broker,
                rest=self._rest,
                traffic=self.traffic,
                clock=self._clock,
                clock_lag=self._clock_lag,
                gap_reports=self._gap_reports,
            )
            self.connections.append(connection)
            self._attempts += 1
            group.create_task(self._carry(connection))
            await unless(stop, self._take_over(connection))
            if self.pairs and not stop.is_set():
                delay = backoff.next(connection.lived)
                if connection.has_ended:
                    logger.warning("%s: ended, %s; again in %.1f s", self.route, self._last_error, delay)
                await unless(stop, asyncio.sleep(delay))
        reason = self._farewell()
        for connection in self.connections:
            connection.end(reason)

    def _farewell(self) -> End:
        """Return why our connections end: another collector may have live ones already."""
        if not self._broker.has_guest(self.route.topic, self.route.exchange.partition):
            return End.STOPPED
        if self._gap_reports is not None:
            self._gap_reports.hand_over(self._clock().wall)
        return End.REPLACED

    async def _may_connect(self) -> None:
        await self._has_pairs.wait()
        await self._connects.take()

    async def _take_over(self, connection: Connection) -> None:
        """End the connections before this one once it has data; return when it needs a successor itself.

        1. A connection that is refused a pair for the moment ends none that still brings this pair.
        2. A connection that no other hands over to does not know what happened before it, and asks for that over REST.
        """
        await connection.ready.wait()
        while self._lacks(connection) and not connection.over.is_set():
            await asyncio.sleep(_BEAT)
        if not connection.has_ended:
            older = self.connections[: self.connections.index(connection)]
            if not older and self.route.channel in REFILLED:
                connection.refill()
            for one in older:
                one.end(End.REPLACED)
        await connection.over.wait()

    def _lacks(self, connection: Connection) -> bool:
        """Whether a connection is refused for the moment what an older one brings."""
        older = self.connections[: self.connections.index(connection)] if connection in self.connections else ()
        return any(connection.session.refused_now & predecessor.session.served for predecessor in older)

    async def _carry(self, connection: Connection) -> None:
        try:
            await connection.run()
            self._last_error = connection.reason
        except InvalidStatus as refusal:
            answer = refusal.response
            headers = httpx.Headers(list(answer.headers.raw_items()))
            self._rest.heed(answer.status_code, headers, bytes(answer.body or b""))
            self._last_error = f"HTTP {answer.status_code}"
            self._log_wants(self._last_error)
        except (OSError, WebSocketException) as error:  # a time-out is an OSError
            self._last_error = str(error) or type(error).__name__
            self._log_wants(self._last_error)
        finally:
            self.connections.remove(connection)

    async def _stand_in(self, stop: asyncio.Event) -> None:
        """Poll while that is due; connecting goes on meanwhile."""
        standby = Standby(self._clock().monotonic, is_streamed=self.is_streamed)
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                is_live = any(connection.is_live for connection in self.connections)
                is_due = standby.is_due(self._clock().monotonic, is_served=is_live or not self._has_address())
                if is_due and self.poller is None:
                    group.create_task(self._poll())
                elif not is_due and self.poller is not None:
                    self.poller.end(End.STREAMED if is_live else End.NO_PAIRS)
                if self._wants.name and self._wants.turned(self._clock()):
                    self._log_wants()
                await unless(stop, asyncio.sleep(_BEAT))
            if self.poller is not None:
                self.poller.end(self._farewell())

    async def _poll(self) -> None:
        self.poller = Poller(
            *(self.route, self.pairs),
            broker=self._broker,
            rest=self._rest,
            traffic=self.traffic,
            clock=self._clock,
            clock_lag=self._clock_lag,
            gap_reports=self._gap_reports,
        )
        if self.is_streamed:
            logger.warning("%s: no live connection for %.0f s, polled over REST until there is", self.route, OUTAGE)
        else:
            logger.info("%s: polled over REST, %s", self.route, " ".join(map(str, self.pairs)))
        try:
            await self.poller.run()
        finally:
            logger.info("%s: polled no longer, %s", self.route, self.poller.reason)
            self.poller = None

    def _has_address(self) -> bool:
        return any(self.route.exchange.request_url(self.route.channel, pair) for pair in self.pairs)
