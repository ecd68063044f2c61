"""Waits for something that another thread, process or task does."""

import asyncio
import time
from collections.abc import Callable

_LOOK_SECONDS = 0.005  # between two looks, at first
_LOOK_MAX_SECONDS = 0.2  # of a long wait: a look may cost something


def until(condition: Callable[[], object], seconds: float = 20, *, name: str = "") -> float:
    """Block until a condition is true, and return how many seconds that took.

    Raises `AssertionError`, with the `name` of the condition, after `seconds`.
    """
    started = time.monotonic()
    while not condition():
        passed = time.monotonic() - started
        assert passed < seconds, f"{name or 'the condition'}: not within {seconds:g} s"
        time.sleep(min(_LOOK_SECONDS + passed / 100, _LOOK_MAX_SECONDS))
    return time.monotonic() - started


async def eventually(condition: Callable[[], object], seconds: float = 8) -> None:
    """Wait for a condition, while other tasks run. Raises `TimeoutError` after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(_LOOK_SECONDS)


def slowness_of_this_machine() -> float:
    """Return how many seconds of wall time one second of CPU time takes here and now: 1 on an idle machine."""
    start, busy = time.monotonic(), time.thread_time()
    while time.thread_time() - busy < 0.05:
        pass
    return max(1.0, (time.monotonic() - start) / 0.05)
