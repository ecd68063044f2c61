"""The time on both clocks, a wall clock that no jump moves at once, and waits that an event cuts short."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from coin_platform.model import SECOND, Instant, Microseconds

logger = logging.getLogger(__name__)
T = TypeVar("T")

LEEWAY: Microseconds = 120 * SECOND  # a smaller step is followed: those are what time servers do
CONFIRM_SECONDS = 600.0  # that a jump must have lasted to be followed: a wrong clock is mostly set right before


def wall() -> Microseconds:
    """Return the time of day, UTC, in µs."""
    return time.time_ns() // 1_000


def now() -> Instant:
    """Read both clocks."""
    return Instant(wall(), time.monotonic())


def elapsed() -> float:
    """Return seconds on a clock that nobody sets. On Linux it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class SteadyClock:
    """The time of day as a process may stamp it. One thread at a time may use it.

    1. A step of at most `LEEWAY` is followed.
    2. A jump beyond that, in either direction, is held: time goes on by the monotonic clock, and the log says so once.
    3. A jump that has lasted `CONFIRM_SECONDS` is followed: then what was wrong is what was before it.
    """

    def __init__(
        self,
        wall: Callable[[], Microseconds] = wall,
        monotonic: Callable[[], float] = elapsed,
        *,
        is_quiet: bool = False,
    ) -> None:
        """`is_quiet`: say nothing to the log, since another one of this process does."""
        self._wall, self.monotonic = wall, monotonic
        self._is_quiet = is_quiet
        self._last: tuple[Microseconds, float] | None = None  # what was read last, and when
        self._jump: tuple[Microseconds, float] | None = (
            None  # the one that is held: where it leads from, and since when
        )
        self._begin_seconds: float | None = None  # since when the wall clock has gone on steadily

    def __call__(self) -> Microseconds:
        """Return the time now."""
        return self.step(self._wall(), self.monotonic())

    @property
    def is_held(self) -> bool:
        """Whether the wall clock has jumped, and is not followed yet."""
        return self._jump is not None

    @property
    def is_settled(self) -> bool:
        """Whether the wall clock has gone on steadily for `CONFIRM_SECONDS`, and is followed."""
        if self._jump is not None or self._begin_seconds is None:
            return False
        return self.monotonic() - self._begin_seconds >= CONFIRM_SECONDS

    def step(self, wall: Microseconds, moment: float) -> Microseconds:
        """Take both clocks; return the time to use."""
        if self._last is None:
            self._begin_seconds = moment
            expected = wall
        else:
            last, at = self._last
            expected = last + int(max(0.0, moment - at) * SECOND)
        time = expected if self._holds(wall, expected, moment) else wall
        self._last = time, moment
        return time

    def _holds(self, wall: Microseconds, expected: Microseconds, moment: float) -> bool:
        """Whether the wall clock is not to be followed now."""
        if abs(wall - expected) <= LEEWAY:
            if self._jump is not None:
                self._say("the wall clock is right again: %s", _text(wall))
            self._jump = None
            return False
        zero = wall - int(moment * SECOND)  # when the monotonic clock began, by this wall clock
        if self._jump is None or abs(zero - self._jump[0]) > LEEWAY:
            self._jump = zero, moment
            self._say(
                "the wall clock jumped to %s: time goes on from %s until that has lasted %.0f s; set the clock right",
                *(_text(wall), _text(expected), CONFIRM_SECONDS),
            )
        since = self._jump[1]
        self._jump = zero, since
        if moment - since < CONFIRM_SECONDS:
            return True
        self._say(
            "the wall clock is believed after %.0f s: %s follows %s", moment - since, _text(wall), _text(expected)
        )
        self._jump, self._begin_seconds = None, since
        return False

    def _say(self, text: str, *arguments: object) -> None:
        if not self._is_quiet:
            logger.warning(text, *arguments)


def _text(time: Microseconds) -> str:
    """Return a time as people read it, whatever a broken clock says."""
    try:
        return f"{datetime.fromtimestamp(time / SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time} µs"


async def unless(event: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Return what `work` returns, or cancel it and return None when the event comes first."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        waiter.cancel()
        await asyncio.gather(task, waiter, return_exceptions=True)
