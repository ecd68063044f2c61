"""Clocks that a test moves, and waits that count looks instead of seconds."""

import asyncio
import time

from coin_platform.model import SECOND, Instant, Microseconds

READS_PER_LOOK = 10  # at least: a feed, its poller and two connections read the clock less often in one look


class StillClock:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class MovedClock:
    """Both of our clocks. They go on by themselves, and a test moves them.

    They begin at a whole minute, so that no window ends unless a test moves the clock there.
    """

    def __init__(self, wall: Microseconds = 1_800_000_000 * SECOND) -> None:
        self.wall = wall - time.time_ns() // 1000
        self.monotonic = 0.0
        self.reads = 0

    def __call__(self) -> Instant:
        self.reads += 1
        return Instant(time.time_ns() // 1000 + self.wall, time.monotonic() + self.monotonic)

    async def looks(self, count: int = 2) -> None:
        """Wait until all that goes by this clock has looked so often at what is due."""
        enough = self.reads + count * READS_PER_LOOK
        async with asyncio.timeout(30):
            while self.reads < enough:
                await asyncio.sleep(0.005)
