"""One channel of some pairs, kept alive: a connection follows the other, before or after it has ended."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from websockets.exceptions import InvalidStatus, WebSocketException

from coin_platform.broker import Broker
from coin_platform.collect.connection import Connection, Route, Traffic, now
from coin_platform.collect.pacing import Backoff, TokenBucket, ban, unless
from coin_platform.collect.rest import Rest
from coin_platform.model import Channel, Instant, Microseconds, Pair

logger = logging.getLogger(__name__)


class Status(NamedTuple):
    """The state of one feed now."""

    exchange: str
    channel: Channel
    shard: int
    connection: str  # name of the newest
    state: str  # idle, waiting, connecting, subscribing, live, stale, closing
    pairs: tuple[Pair, ...]
    unconfirmed: frozenset[Pair]
    invalid: frozenset[Pair]
    refused: dict[Pair, str]
    frames: int
    bytes: int
    undecodable: int  # of the newest connection
    lost: int
    reconnects: int
    last_frame_time: Microseconds | None
    last_error: str


class Feed:
    """Keeps one route alive. A connection that ended is replaced after a growing delay, one that soon will, before."""

    def __init__(
        self,
        route: Route,
        pairs: Iterable[Pair],
        *,
        broker: Broker,
        rest: Rest,
        connects: TokenBucket,
        clock: Callable[[], Instant] = now,
    ) -> None:
        self.route = route
        self.pairs: tuple[Pair, ...] = ()
        self.connections: list[Connection] = []
        self.traffic = Traffic()
        self._broker, self._rest, self._connects, self._clock = broker, rest, connects, clock
        self._has_pairs = asyncio.Event()
        self._attempts = 0
        self._last_error = ""
        self.follow(pairs)

    @property
    def status(self) -> Status:
        """What there is to say about the feed now."""
        newest = self.connections[-1] if self.connections else None
        return Status(
            exchange=self.route.exchange.name,
            channel=self.route.channel,
            shard=self.route.shard,
            connection=newest.name if newest else "",
            state=newest.state if newest else "waiting" if self.pairs else "idle",
            pairs=self.pairs,
            unconfirmed=newest.session.unconfirmed if newest else frozenset(),
            invalid=newest.session.invalid if newest else frozenset(),
            refused=dict(newest.session.refused) if newest else {},
            frames=self.traffic.frames,
            bytes=self.traffic.bytes,
            undecodable=newest.session.undecodable if newest else 0,
            lost=self.traffic.lost,
            reconnects=max(0, self._attempts - 1),
            last_frame_time=self.traffic.last_frame_time,
            last_error=self._last_error,
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
                connection.end("no pairs")

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the feed alive until `stop`. Raises `DeliveryError`, in a group, when a frame could not be stored."""
        backoff = Backoff()
        async with asyncio.TaskGroup() as group:
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
            for connection in self.connections:
                connection.end("stopped")

    async def _may_connect(self) -> None:
        await self._has_pairs.wait()
        await self._connects.take()

    async def _take_over(self, connection: Connection) -> None:
        """End the connections before this one once it has data; return when it needs a successor itself."""
        await connection.ready.wait()
        if not connection.has_ended:
            for older in self.connections[: self.connections.index(connection)]:
                older.end("replaced")
        await connection.over.wait()

    async def _carry(self, connection: Connection) -> None:
        try:
            await connection.run()
            self._last_error = connection.reason
        except InvalidStatus as refusal:
            answer = refusal.response
            self._connects.forbid(ban(answer.status_code, answer.headers.get("Retry-After")))
            self._last_error = f"HTTP {answer.status_code}"
        except (OSError, WebSocketException) as error:  # a time-out is an OSError
            self._last_error = str(error) or type(error).__name__
        finally:
            self.connections.remove(connection)
