"""Collect one region: keep a feed for each channel of each exchange, and follow the active pairs."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from coin_platform.broker import Broker
from coin_platform.clock import now, unless
from coin_platform.cluster import Cluster
from coin_platform.cluster.numbers import GAPS_BY_CAUSE
from coin_platform.cluster.pairs import PairSet, wanted
from coin_platform.cluster.rates import Rates
from coin_platform.cluster.status import Status
from coin_platform.cluster.term import Term
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.active_pairs import ActivePairs, PairSets
from coin_platform.collect.commands import FeedCommands
from coin_platform.collect.epoch import epoch_after
from coin_platform.collect.feed import Feed
from coin_platform.collect.outbound import Outbound
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.report import report
from coin_platform.collect.reports import collector_report, feed_report
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.collect.status import FeedStatus
from coin_platform.collect.take_over import TakeOver
from coin_platform.collect.timing import Timing
from coin_platform.errors import CoinPlatformError, SettingsError
from coin_platform.exchanges.base import Exchange
from coin_platform.exchanges.parsing import chunks
from coin_platform.model import Channel, Instant, Pair, Region
from coin_platform.selection import exchanges_of
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
        cluster: Cluster | None = None,
        *,
        epoch: int | None = None,
        term: Term | None = None,
        others: Callable[[], Sequence[Status]] = tuple,
        exchanges: Sequence[Exchange] | None = None,
        clock: Callable[[], Instant] = now,
        timing: Timing = Timing(),  # noqa: B008 - it cannot change
    ) -> None:
        """Collect `exchanges`, by default those that are enabled. The default `epoch` rises with every start.

        A leader collects with the epoch of its `term`, and takes no frame after it. `others` returns what is announced
        beside our own status.
        The pairs are those that are active in the `cluster`. Without a cluster, and where it has no set, they are
        those of the settings.
        """
        self.region = region
        self.feeds: list[Feed] = []
        self._settings, self._broker, self._clock, self._timing = settings, broker, clock, timing
        chosen = exchanges_of(region, settings) if exchanges is None else exchanges
        if term is None:
            term = Term(epoch_after(broker, region, settings, chosen) if epoch is None else epoch)
        self._term, self._others = term, others
        self._access = {exchange.name: self._new_access(exchange) for exchange in chosen}
        self._group: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._rates = Rates()
        self._cluster = cluster
        self._active_pairs = None if cluster is None else ActivePairs(cluster, self._access)
        self._commands = None if cluster is None else FeedCommands(cluster, lambda: self.feeds)
        self._pair_sets: PairSets = {} if self._active_pairs is None else self._active_pairs.read()
        for name in self._access:
            self.follow_set(name, self._pair_sets.get(name))

    @property
    def status(self) -> list[FeedStatus]:
        """The state of every feed now."""
        return [feed.status for feed in self.feeds]

    def follow(self, name: str, pairs: Sequence[Pair]) -> None:
        """Collect these pairs of an exchange on all channels from now on, without reconnecting.

        Raises `SettingsError` if this collector does not collect the exchange.
        """
        self._follow(name, lambda channel: pairs)

    def follow_set(self, name: str, pair_set: PairSet | None) -> None:
        """Collect the active pairs of an exchange from now on, without reconnecting. `None`: those of the settings.

        Raises `SettingsError` if this collector does not collect the exchange.
        """
        self._follow(name, lambda channel: wanted(self._access[name].exchange, channel, pair_set, self._settings))

    def _follow(self, name: str, pairs_of: Callable[[Channel], Sequence[Pair]]) -> None:
        if name not in self._access:
            names = ", ".join(self._access) or "nothing"
            raise SettingsError(f"{name}: not collected here; in {self.region} that is {names}")
        access = self._access[name]
        for channel in self._settings.channels:
            if channel in access.exchange.channels | access.exchange.polled:
                self._spread(access, channel, pairs_of(channel))

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
                group.create_task(self._report())
                if self._active_pairs is not None:
                    group.create_task(self._active_pairs.run(stop, self._pair_sets, self._apply))
                if self._commands is not None:
                    group.create_task(self._commands.run(stop))
                group.create_task(self._take_over().run(stop))
        except BaseExceptionGroup as errors:
            error = next(_errors(errors), None)
            if error is None:
                raise
            raise error from None
        finally:
            self._group = None
            await self.close()
            await asyncio.to_thread(self._broker.flush)

    async def close(self) -> None:
        """Close what is open towards the exchanges. `run` does this at its end."""
        for access in self._access.values():
            await access.rest.close()

    def _apply(self, pair_sets: PairSets) -> None:
        for name, pair_set in pair_sets.items():
            who = pair_set.by or "somebody"
            logger.info("%s: follows version %d of its active pairs, by %s", name, pair_set.version, who)
            self.follow_set(name, pair_set)

    def _resume(self) -> None:
        for access, channel in dict.fromkeys((feed.access, feed.route.channel) for feed in self.feeds):
            access.gap_reports(channel).resume(raw_topic(self._settings.topic_prefix(self.region), channel))

    def _take_over(self) -> TakeOver:
        gap_partitions = {access.exchange.gap_partition for access in self._access.values()}
        return TakeOver(self.region, self.feeds, gap_partitions, self._broker, self._timing)

    def _new_access(self, exchange: Exchange) -> ExchangeAccess:
        burst = len(self._settings.channels) + 1
        return ExchangeAccess(
            exchange,
            self._broker,
            Rest(exchange, outbound=Outbound.of(self._settings)),
            TokenBucket(exchange.limits.connects_per_minute / 60, burst=burst),
            clock=self._clock,
            timing=self._timing,
            term=self._term,
        )

    def _spread(self, access: ExchangeAccess, channel: Channel, pairs: Sequence[Pair]) -> None:
        """Spread pairs over the feeds of a channel, and add feeds where they do not fit."""
        exchange = access.exchange
        feeds = [feed for feed in self.feeds if (feed.route.exchange, feed.route.channel) == (exchange, channel)]
        is_shared = channel in exchange.channels and channel is not Channel.INSTRUMENT  # a list is about all pairs
        size = exchange.limits.pairs_per_connection if is_shared else max(1, len(pairs))
        shards = assign([feed.pairs for feed in feeds], pairs, size)
        for feed, shard_pairs in zip(feeds, shards, strict=False):
            if feed.pairs != shard_pairs:
                feed.follow(shard_pairs)
        for shard in range(len(feeds), len(shards)):
            feed = Feed(self._route(exchange, channel, shard), shards[shard], access)
            self.feeds.append(feed)
            if self._group is not None:
                self._group.create_task(feed.run(self._stop))

    def _route(self, exchange: Exchange, channel: Channel, shard: int) -> Route:
        settings = self._settings
        return Route(
            exchange=exchange,
            channel=channel,
            shard=shard,
            topic=raw_topic(settings.topic_prefix(self.region), channel),
            epoch=self._term.epoch,
            window=settings.window_length,
            ping_every=settings.ping_every,
            outbound=Outbound.of(settings),
            host=f"127.0.0.1:{settings.simulator_port}" if settings.exchanges_mode is Mode.SIMULATED else None,
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

    async def _report(self) -> None:
        await report(self.region, self._settings, self._cluster, self.reports, self._stop)

    def reports(self) -> list[Status]:
        """Return what this collector and its feeds say of themselves now."""
        now, feeds = self._clock(), self.status
        places = {(feed.route.topic, feed.route.exchange.partition) for feed in self.feeds}
        unsent = [self._broker.unsent(*place) for place in places]
        reports = [
            feed_report(status, now.wall, self._others_of(feed, now))
            for feed, status in zip(self.feeds, feeds, strict=True)
        ]
        numbers = {
            "frames": sum(feed.frames for feed in feeds),
            "frames_per_second": sum(report.numbers["frames_per_second"] for report in reports),
            "unwritten_bytes": sum(self._broker.waiting_bytes(*place) for place in places),
            "spool_records": sum(partition.records for partition in unsent),
            "spool_bytes": sum(partition.bytes for partition in unsent),
            "given_up_records": sum(partition.given_up_records for partition in unsent),
        }
        return [collector_report(self.region, feeds, numbers), *self._others(), *reports]

    def _others_of(self, feed: Feed, now: Instant) -> dict[str, float]:
        """Return the numbers of a feed that it does not count itself.

        The gaps are those of its channel, over all its feeds: the first feed tells them, or their sum would be wrong.
        """
        rate = self._rates.per_second(str(feed.route), feed.traffic.frames, now.monotonic)
        numbers = {"frames_per_second": rate, **feed.access.budgets}
        if feed.route.shard == 0:
            counts = feed.access.gap_reports(feed.route.channel).counts
            numbers["gap_records"] = counts.total()
            numbers |= {f"{GAPS_BY_CAUSE}{cause}": count for cause, count in sorted(counts.items())}
        return numbers

    def _frame_counts(self) -> dict[str, int]:
        return {
            name: sum(feed.traffic.frames for feed in self.feeds if feed.route.exchange.name == name)
            for name in self._access
        }


def _errors(group: BaseExceptionGroup[BaseException]) -> Iterator[CoinPlatformError]:
    """Yield the errors of this package in a group and in its groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _errors(error)
        elif isinstance(error, CoinPlatformError):
            yield error
