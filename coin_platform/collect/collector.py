"""Collect one region: keep a feed for each channel of each exchange, and follow the active pairs."""

import asyncio
import logging
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
from coin_platform.collect.status import FeedStatus
from coin_platform.collect.take_over import TakeOver
from coin_platform.collect.timing import Timing
from coin_platform.errors import CoinPlatformError, SettingsError
from coin_platform.exchanges.base import Exchange
from coin_platform.exchanges.parsing import chunks
from coin_platform.model import Channel, Instant, Pair, Region
from coin_platform.selection import exchanges_of, wanted_pairs
from coin_platform.settings import Mode, Settings
from coin_platform.topic_names import raw_topic

logger = logging.getLogger(__name__)


def assign(shards: Sequence[Sequence[Pair]], pairs: Sequence[Pair], size: int) -> list[tuple[Pair, ...]]:
    """Spread pairs over shards of at most `size`. A pair stays in its shard; a shard may become empty."""
    kept = [[pair for pair in shard if pair in pairs] for shard in shards]
    placed = {pair for shard in kept for pair in shard}
    new = [pair for pair in dict.fromkeys(pairs) if pair not in placed]
    for shard in kept:
        room = size - len(shard)
        shard += new[:room]
        del new[:room]
    return [*map(tuple, kept), *chunks(new, size)]


class Collector:
    """All feeds of one region.

    If another collector of this machine already writes to the same topics, this one takes over from it: see `TakeOver`.
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
        timing: Timing = Timing(),  # noqa: B008 - it cannot change
    ) -> None:
        """Collect `exchanges`, by default those that are enabled. The default `epoch` rises with every start."""
        self.region = region
        self.feeds: list[Feed] = []
        self._settings, self._broker, self._clock, self._timing = settings, broker, clock, timing
        chosen = exchanges_of(region, settings) if exchanges is None else exchanges
        self._epoch = self._next_epoch(chosen) if epoch is None else epoch
        self._exchanges = {exchange.name: exchange for exchange in chosen}
        self._rests = {exchange.name: Rest(exchange, outbound=Outbound.of(settings)) for exchange in chosen}
        self._clock_lags = {exchange.name: ClockLag() for exchange in chosen}
        self._gap_reports: dict[tuple[str, Channel], GapReports] = {}
        self._connects = {exchange.name: self._bucket(exchange) for exchange in chosen}
        self._group: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        for exchange in chosen:
            self.follow(exchange.name, wanted_pairs(exchange, settings))

    @property
    def status(self) -> list[FeedStatus]:
        """The state of every feed now."""
        return [feed.status for feed in self.feeds]

    def follow(self, name: str, pairs: Sequence[Pair]) -> None:
        """Collect these pairs of an exchange from now on, without reconnecting.

        Raises `SettingsError` if this collector does not collect the exchange.
        """
        exchange = self._exchanges.get(name)
        if exchange is None:
            names = ", ".join(self._exchanges) or "nothing"
            raise SettingsError(f"{name}: not collected here; in {self.region} that is {names}")
        for channel in self._settings.channels:
            if channel in exchange.channels | exchange.polled:
                self._spread(exchange, channel, pairs)

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`, then store all that has come. Raises the first error that is not one of the network."""
        self._stop = stop
        await asyncio.to_thread(self._resume)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for feed in self.feeds:
                    group.create_task(feed.run(stop))
                group.create_task(self._log_progress())
                group.create_task(self._take_over().run(stop))
        except BaseExceptionGroup as errors:
            error = next(_errors(errors), None)
            if error is None:
                raise
            raise error from None
        finally:
            self._group = None
            for rest in self._rests.values():
                await rest.close()
            await asyncio.to_thread(self._broker.flush)

    def _next_epoch(self, exchanges: Sequence[Exchange]) -> int:
        topics = [raw_topic(self._settings.topic_prefix(self.region), channel) for channel in self._settings.channels]
        places = [(topic, exchange.partition) for exchange in exchanges for topic in topics]
        return next_epoch(self._broker, places, wall() // 1_000)

    def _resume(self) -> None:
        for (_, channel), reports in self._gap_reports.items():
            reports.resume(raw_topic(self._settings.topic_prefix(self.region), channel))

    def _take_over(self) -> TakeOver:
        gap_partitions = {exchange.gap_partition for exchange in self._exchanges.values()}
        return TakeOver(self.region, self.feeds, gap_partitions, self._broker, self._timing)

    def _bucket(self, exchange: Exchange) -> TokenBucket:
        return TokenBucket(exchange.limits.connects_per_minute / 60, burst=len(self._settings.channels) + 1)

    def _spread(self, exchange: Exchange, channel: Channel, pairs: Sequence[Pair]) -> None:
        feeds = [feed for feed in self.feeds if (feed.route.exchange, feed.route.channel) == (exchange, channel)]
        size = exchange.limits.pairs_per_connection if channel in exchange.channels else max(1, len(pairs))
        shards = assign([feed.pairs for feed in feeds], pairs, size)
        for feed, some in zip(feeds, shards, strict=False):
            feed.follow(some)
        for shard in range(len(feeds), len(shards)):
            feed = self._feed(exchange, channel, shard, shards[shard])
            self.feeds.append(feed)
            if self._group is not None:
                self._group.create_task(feed.run(self._stop))

    def _feed(self, exchange: Exchange, channel: Channel, shard: int, pairs: tuple[Pair, ...]) -> Feed:
        settings = self._settings
        route = Route(
            exchange=exchange,
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
            rest=self._rests[exchange.name],
            connects=self._connects[exchange.name],
            clock=self._clock,
            clock_lag=self._clock_lags[exchange.name],
            gap_reports=self._gap_reports.setdefault(
                (exchange.name, channel), GapReports(exchange, channel, self._broker)
            ),
        )

    async def _log_progress(self) -> None:
        seconds, before = self._timing.progress_seconds, self._frame_counts()
        while True:
            await unless(self._stop, asyncio.sleep(seconds))
            if self._stop.is_set():
                return
            after = self._frame_counts()
            rates = [f"{name} {(after[name] - before[name]) / seconds:.0f}" for name in after]
            live = [status.transport for status in self.status if status.state == "live"]
            logger.info(
                "%s: frames/s: %s; %d of %d connections live, %d over REST",
                *(self.region, ", ".join(rates), len(live), len(self.feeds), live.count("rest")),
            )
            before = after

    def _frame_counts(self) -> dict[str, int]:
        return {
            name: sum(feed.traffic.frames for feed in self.feeds if feed.route.exchange.name == name)
            for name in self._exchanges
        }


def _errors(group: BaseExceptionGroup[BaseException]) -> Iterator[CoinPlatformError]:
    """Yield the errors of this package in a group and in its groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _errors(error)
        elif isinstance(error, CoinPlatformError):
            yield error
