"""Take over from a collector that runs on this machine, without a gap and without a double."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Sequence

from coin_platform.broker import Broker
from coin_platform.clock import unless
from coin_platform.collect.feed import Feed
from coin_platform.collect.timing import Timing
from coin_platform.errors import NotTakenOver
from coin_platform.model import Region
from coin_platform.topic_names import GAPS

logger = logging.getLogger(__name__)


class TakeOver:
    """Connects beside the collector that runs, and ends that collector once all of our feeds are live.

    The broker says which processes append to the same partitions as ours: `Broker.host`.
    """

    def __init__(
        self,
        region: Region,
        feeds: Sequence[Feed],
        gap_partitions: Collection[int],
        broker: Broker,
        timing: Timing,
    ) -> None:
        """Take over for these feeds; `feeds` may grow meanwhile."""
        self._region, self._feeds, self._gap_partitions = region, feeds, gap_partitions
        self._broker, self._timing = broker, timing

    async def run(self, stop: asyncio.Event) -> None:
        """Wait until all of our feeds are live, then end the other collector. Return at once if there is none.

        1. A pair that is refused for the moment is waited for, but only for `live_seconds`.
        2. Raises `NotTakenOver` if a feed is not live in time, or if the other collector does not end in time.
        """
        others = await asyncio.to_thread(self._other_processes)
        if not others:
            return
        names = ", ".join(f"process {pid}" for pid in sorted(others))
        logger.info("%s: %s collects, too; it is asked to end when all of ours is live", self._region, names)
        await self._wait_until(self._is_whole, self._timing.live_seconds, stop)
        are_live = all(feed.is_served for feed in self._feeds)
        if stop.is_set():
            return
        if not are_live:
            raise NotTakenOver(f"{self._region}: {self._missing()}; {names} goes on")
        await asyncio.to_thread(self._broker.flush)
        for pid in self._other_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        seconds = self._timing.end_seconds
        if not await self._wait_until(lambda: not self._other_processes(), seconds, stop) and not stop.is_set():
            raise NotTakenOver(
                f"{self._region}: {names} has not ended {seconds:g} s after SIGTERM: end it, start again"
            )
        for feed in self._feeds:
            feed.settle()
        logger.info("%s: taken over from %s", self._region, names)

    def _is_whole(self) -> bool:
        return all(feed.is_served and not feed.is_held_up for feed in self._feeds)

    def _missing(self) -> str:
        """Return which feeds are not live."""
        states = ", ".join(f"{feed.route} is {feed.status.state}" for feed in self._feeds if not feed.is_served)
        return f"not live after {self._timing.live_seconds:g} s: {states}"

    def _other_processes(self) -> set[int]:
        """Return the processes that append to the same partitions as ours."""
        places = {(feed.route.topic, feed.route.exchange.partition) for feed in self._feeds}
        places |= {(GAPS, partition) for partition in self._gap_partitions}
        return {pid for place in places if (pid := self._broker.host(*place)) is not None}

    async def _wait_until(self, is_true: Callable[[], bool], seconds: float, stop: asyncio.Event) -> bool:
        """Wait until a condition is true. Return False after `seconds`, or when `stop` comes first."""
        deadline = time.monotonic() + seconds
        while not (is_over := is_true()) and time.monotonic() < deadline and not stop.is_set():
            await unless(stop, asyncio.sleep(self._timing.take_over_look_seconds))
        return is_over
