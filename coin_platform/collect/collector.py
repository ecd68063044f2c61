"""All connections of one region."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from coin_platform.broker import Broker
from coin_platform.clock import now, unless, wall
from coin_platform.collect.clock_lag import ClockLag
from coin_platform.collect.epoch import next_epoch
from coin_platform.collect.feed import Feed
from coin_platform.collect.gap_reports import GapReports
from coin_platform.collect.outbound import Outbound
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.collect.status import Status
from coin_platform.errors import CoinPlatformError, NotTakenOver, SettingsError
from coin_platform.exchanges.base import Exchange
from coin_platform.exchanges.parsing import chunks
from coin_platform.model import Channel, Instant, Pair, Region
from coin_platform.selection import exchanges_of, wanted_pairs
from coin_platform.settings import Mode, Settings
from coin_platform.topic_names import GAPS, raw_topic

logger = logging.getLogger(__name__)
PROGRESS = 10.0  # seconds between two lines of progress
SERVED, GONE = 45.0, 30.0  # seconds that a collector who takes over waits: until all is live, until the other has ended
_BEAT = 0.1  # seconds between two looks at either


def assign(shards: Sequence[Sequence[Pair]], pairs: Sequence[Pair], size: int) -> list[tuple[Pair, ...]]:
    """Spread pairs over connections of at most `size`. A pair stays where it is; a shard may end up empty."""
    kept = [[pair for pair in shard if pair in pairs] for shard in shards]
    placed = {pair for shard in kept for pair in shard}
    new = [pair for pair in dict.fromkeys(pairs) if pair not in placed]
    for shard in kept:
        room = size - len(shard)
        shard += new[:room]
        del new[:room]
    return [*map(tuple, kept), *chunks(new, size)]


class Collector:
    """The connections of one region, as long as they are wanted.

    With a broker that is a guest it takes over from another collector of this machine: it connects beside it, asks it
    to end once all that is wanted comes, and neither a gap nor a double is left.
    """

    def __init__(
        self,
        region: Region,
        settings: Settings,
        broker: Broker,
        *,
        epoch: int | None = None,
        exchanges: Sequence[Exchange] | None = None,
        clock: Callable[[], Instant] = now,
        progress: float = PROGRESS,
    ) -> None:
        """Collect the enabled exchanges of the region, or these; `epoch` by default rises with every start."""
        self.region = region
        self.feeds: list[Feed] = []
        self._settings, self._broker, self._clock, self._every = settings, broker, clock, progress
        kinds = exchanges_of(region, settings) if exchanges is None else exchanges
        self._epoch = self._next_epoch(kinds) if epoch is None else epoch
        self._exchanges = {kind.name: kind for kind in kinds}
        self._rests = {kind.name: Rest(kind, outbound=Outbound.of(settings)) for kind in kinds}
        self._drifts = {kind.name: ClockLag() for kind in kinds}
        self._gaps: dict[tuple[str, Channel], GapReports] = {}
        self._connects = {kind.name: self._bucket(kind) for kind in kinds}
        self._group: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        for kind in kinds:
            self.follow(kind.name, wanted_pairs(kind, settings))

    @property
    def status(self) -> list[Status]:
        """What there is to say about every feed now."""
        return [feed.status for feed in self.feeds]

    def follow(self, exchange: str, pairs: Sequence[Pair]) -> None:
        """Change what is collected of an exchange, without reconnecting. Raises `SettingsError` if it is not ours."""
        if exchange not in self._exchanges:
            ours = ", ".join(self._exchanges) or "nothing"
            raise SettingsError(f"{exchange}: not collected here; in {self.region} that is {ours}")
        kind = self._exchanges[exchange]
        for channel in self._settings.channels:
            if channel in kind.channels | kind.polled:
                self._spread(kind, channel, pairs)

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`, then store all that has come. Raises the first error that is not the network's."""
        self._stop = stop
        await asyncio.to_thread(self._resume)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for feed in self.feeds:
                    group.create_task(feed.run(stop))
                group.create_task(self._progress())
                group.create_task(self._take_over())
        except BaseExceptionGroup as errors:
            ours = next(_errors(errors, CoinPlatformError), None)
            if ours is None:
                raise
            raise ours from None
        finally:
            self._group = None
            for rest in self._rests.values():
                await rest.close()
            await asyncio.to_thread(self._broker.flush)

    def _next_epoch(self, kinds: Sequence[Exchange]) -> int:
        topics = [raw_topic(self._settings.topic_prefix(self.region), channel) for channel in self._settings.channels]
        places = [(topic, kind.partition) for kind in kinds for topic in topics]
        return next_epoch(self._broker, places, wall() // 1_000)

    def _resume(self) -> None:
        for (_, channel), gaps in self._gaps.items():
            gaps.resume(raw_topic(self._settings.topic_prefix(self.region), channel))

    async def _take_over(self) -> None:
        """End the collector that is there, if any, once we have all that is wanted. Raises `NotTakenOver`."""
        before = await asyncio.to_thread(self._hosts)
        if not before:
            return
        names = ", ".join(f"process {pid}" for pid in sorted(before))
        logger.info("%s: %s collects, too; it is asked to end when all of ours is live", self.region, names)
        await self._wait(lambda: all(feed.is_served and not feed.is_held_up for feed in self.feeds), SERVED)
        is_live = all(feed.is_served for feed in self.feeds)  # a pair that may be refused for days holds up no longer
        if self._stop.is_set():
            return
        if not is_live:
            missing = ", ".join(f"{feed.route} is {feed.status.state}" for feed in self.feeds if not feed.is_served)
            raise NotTakenOver(f"{self.region}: not live after {SERVED:g} s: {missing}; {names} goes on")
        await asyncio.to_thread(self._broker.flush)
        for pid in self._hosts():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if not await self._wait(lambda: not self._hosts(), GONE) and not self._stop.is_set():
            raise NotTakenOver(f"{self.region}: {names} has not ended {GONE:g} s after SIGTERM: end it, start again")
        for feed in self.feeds:
            feed.settle()
        logger.info("%s: taken over from %s", self.region, names)

    def _hosts(self) -> set[int]:
        """Return the processes beside which we append."""
        places = {(feed.route.topic, feed.route.exchange.partition) for feed in self.feeds}
        places |= {(GAPS, kind.gap_partition) for kind in self._exchanges.values()}
        return {pid for place in places if (pid := self._broker.host(*place)) is not None}

    async def _wait(self, is_true: Callable[[], bool], patience: float) -> bool:
        """Wait until something is true; return whether it became so in time, and we are not to stop."""
        deadline = time.monotonic() + patience
        while not (found := is_true()) and time.monotonic() < deadline and not self._stop.is_set():
            await unless(self._stop, asyncio.sleep(_BEAT))
        return found

    def _bucket(self, kind: Exchange) -> TokenBucket:
        return TokenBucket(kind.limits.connects_per_minute / 60, burst=len(self._settings.channels) + 1)

    def _spread(self, kind: Exchange, channel: Channel, pairs: Sequence[Pair]) -> None:
        feeds = [feed for feed in self.feeds if (feed.route.exchange, feed.route.channel) == (kind, channel)]
        size = kind.limits.pairs_per_connection if channel in kind.channels else max(1, len(pairs))
        shards = assign([feed.pairs for feed in feeds], pairs, size)
        for feed, some in zip(feeds, shards, strict=False):
            feed.follow(some)
        for shard in range(len(feeds), len(shards)):
            feed = self._feed(kind, channel, shard, shards[shard])
            self.feeds.append(feed)
            if self._group is not None:
                self._group.create_task(feed.run(self._stop))

    def _feed(self, kind: Exchange, channel: Channel, shard: int, pairs: tuple[Pair, ...]) -> Feed:
        settings = self._settings
        route = Route(
            exchange=kind,
            channel=channel,
            shard=shard,
            topic=raw_topic(settings.topic_prefix(self.region), channel),
            epoch=self._epoch,
            window=settings.window_length,
            ping_every=settings.ping_every,
            outbound=Outbound.of(settings),
            host=f"127.0.0.1:{settings.simulator_port}" if settings.exchanges_mode is Mode.SIMULATED else None,
        )
        return Feed(
            *(route, pairs),
            broker=self._broker,
            rest=self._rests[kind.name],
            connects=self._connects[kind.name],
            clock=self._clock,
            drift=self._drifts[kind.name],
            gaps=self._gaps.setdefault((kind.name, channel), GapReports(kind, channel, self._broker)),
        )

    async def _progress(self) -> None:
        before = self._frames()
        while True:
            await unless(self._stop, asyncio.sleep(self._every))
            if self._stop.is_set():
                return
            after = self._frames()
            rates = [f"{name} {(after[name] - before[name]) / self._every:.0f}" for name in after]
            live = [status.transport for status in self.status if status.state == "live"]
            logger.info(
                "%s: frames/s: %s; %d of %d connections live, %d over REST",
                *(self.region, ", ".join(rates), len(live), len(self.feeds), live.count("rest")),
            )
            before = after

    def _frames(self) -> dict[str, int]:
        return {
            name: sum(feed.traffic.frames for feed in self.feeds if feed.route.exchange.name == name)
            for name in self._exchanges
        }


def _errors(group: BaseExceptionGroup[BaseException], kind: type[CoinPlatformError]) -> Iterator[CoinPlatformError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _errors(error, kind)
        elif isinstance(error, kind):
            yield error
