"""Collect one region while this process leads, and wait for that while it does not."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from coin_platform.broker import Broker
from coin_platform.clock import unless
from coin_platform.cluster import Cluster
from coin_platform.cluster.leader import Leadership
from coin_platform.cluster.term import Term
from coin_platform.collect.collector import Collector
from coin_platform.collect.epoch import epoch_after
from coin_platform.collect.report import report
from coin_platform.errors import ClusterError
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Region
from coin_platform.selection import exchanges_of
from coin_platform.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.05  # between two looks whether we lead; a look costs microseconds
KEEP_SECONDS = 1.0  # between two looks whether the others know of our term


class Candidate:
    """Collects a region term by term. Between two terms it has no connections, and a status that says who leads."""

    def __init__(
        self,
        region: Region,
        settings: Settings,
        broker: Broker,
        cluster: Cluster,
        leadership: Leadership,
        *,
        exchanges: Sequence[Exchange] | None = None,
    ) -> None:
        """Collect `exchanges`, by default those that are enabled."""
        self._region, self._settings = region, settings
        self._broker, self._cluster, self._leadership = broker, cluster, leadership
        self._exchanges = exchanges_of(region, settings) if exchanges is None else exchanges
        self.collector: Collector | None = None  # of the present term

    async def run(self, stop: asyncio.Event) -> None:
        """Collect, or wait to, until `stop`. Raises what `Collector.run` raises.

        When it returns, the next candidate may lead at once: all that came is stored on this machine.
        """
        try:
            least = await asyncio.to_thread(epoch_after, self._broker, self._region, self._settings, self._exchanges)
            while (term := await self._next_term(least, stop)) is not None:
                await self._collect(term, stop)
                least = term.epoch + 1
        finally:
            await asyncio.to_thread(self._leadership.close)

    async def _next_term(self, least: int, stop: asyncio.Event) -> Term | None:
        """Wait until we lead. Return `None` if `stop` comes first."""
        if stop.is_set() or (term := await self._begin(least)) is not None:
            return None if stop.is_set() else term
        await self._new_collector(Term()).close()  # the first one of a process takes longest: modules, certificates
        is_over = asyncio.Event()
        announcing = asyncio.create_task(
            report(self._region, self._settings, self._cluster, self._leadership.reports, is_over)
        )
        try:
            while term is None and not stop.is_set():
                await unless(stop, asyncio.sleep(LOOK_SECONDS))
                term = await self._begin(least)
        finally:
            is_over.set()
            await announcing
        return None if stop.is_set() else term

    async def _begin(self, least: int) -> Term | None:
        with suppress(ClusterError):  # it is asked again, and the status says why
            return await asyncio.to_thread(self._leadership.begin, least)
        return None

    async def _collect(self, term: Term, stop: asyncio.Event) -> None:
        """Collect until the term is over, or until `stop`."""
        is_over = asyncio.Event()
        watching = asyncio.create_task(self._watch(term, stop, is_over))
        try:
            self.collector = self._new_collector(term)
            await self.collector.run(is_over)
        finally:
            self.collector = None
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self._leadership.end(term)

    def _new_collector(self, term: Term) -> Collector:
        return Collector(
            self._region,
            self._settings,
            self._broker,
            self._cluster,
            term=term,
            others=self._leadership.reports,
            exchanges=self._exchanges,
        )

    async def _watch(self, term: Term, stop: asyncio.Event, is_over: asyncio.Event) -> None:
        """Set `is_over` when the term is over, or when `stop` comes."""
        kept = 0.0
        while term.lasts() and not stop.is_set():
            if asyncio.get_running_loop().time() - kept >= KEEP_SECONDS:
                kept = asyncio.get_running_loop().time()
                await asyncio.to_thread(self._leadership.keep, term)
            await unless(stop, asyncio.sleep(LOOK_SECONDS))
        is_over.set()
