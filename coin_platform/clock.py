"""The time on both clocks, and waits that an event cuts short."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from coin_platform.model import Instant, Microseconds
from coin_platform.steady_clock import SteadyClock

T = TypeVar("T")


def wall() -> Microseconds:
    """Return the time of day, UTC, in µs."""
    return time.time_ns() // 1_000


def now() -> Instant:
    """Return a reading of both clocks."""
    return Instant(wall(), time.monotonic())


def elapsed() -> float:
    """Return seconds on a clock that nobody sets. On Linux it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def steady() -> SteadyClock:
    """Return a steady clock of this machine. Its owner shares it among all that stamp one log."""
    return SteadyClock(wall, elapsed)


async def unless(event: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Return the result of `work`. Cancel `work` and return None if the event comes first."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        waiter.cancel()
        await asyncio.gather(task, waiter, return_exceptions=True)
