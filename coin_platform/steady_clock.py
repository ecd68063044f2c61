"""The time of day without its jumps, computed from two clocks that the caller reads."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from coin_platform.model import SECOND, Microseconds

logger = logging.getLogger(__name__)

MAX_STEP: Microseconds = 120 * SECOND  # a larger step is a jump; time servers set a clock by less
JUMP_CONFIRM_SECONDS = 600.0  # a jump must last so long to be followed: most wrong clocks are set right before
READING_SECONDS, READINGS = 0.01, 10  # both clocks are read within this time, or read again so often


class JumpFilter:
    """Turn readings of the wall clock and of a clock that nobody sets into the time to stamp.

    1. A step of at most `MAX_STEP` is followed.
    2. A larger jump, in either direction, is held: the time goes on by the monotonic clock, and the log says so once.
    3. A jump that has lasted `JUMP_CONFIRM_SECONDS` is followed: the time before it was the wrong one.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        """`is_quiet`: log nothing, because another filter of this process does."""
        self._is_quiet = is_quiet
        self._last: tuple[Microseconds, float] | None = None  # the newest time, and its monotonic reading
        self._jump: tuple[Microseconds, float] | None = None  # a held jump: its zero (see `_holds`), and since when
        self._steady_since: float | None = None  # the wall clock has not jumped since, monotonic

    @property
    def is_held(self) -> bool:
        """Whether the wall clock has jumped and is not followed yet."""
        return self._jump is not None

    def step(self, wall: Microseconds, monotonic: float) -> Microseconds:
        """Take a reading of both clocks and return the time to use."""
        if self._last is None:
            self._steady_since = monotonic
            expected = wall
        else:
            last_time, last_monotonic = self._last
            expected = last_time + int(max(0.0, monotonic - last_monotonic) * SECOND)
        time = expected if self._holds(wall, expected, monotonic) else wall
        self._last = time, monotonic
        return time

    def has_been_steady(self, monotonic: float) -> bool:
        """Return whether the wall clock is followed and has gone on steadily for `JUMP_CONFIRM_SECONDS`."""
        if self._jump is not None or self._steady_since is None:
            return False
        return monotonic - self._steady_since >= JUMP_CONFIRM_SECONDS

    def _holds(self, wall: Microseconds, expected: Microseconds, monotonic: float) -> bool:
        """Take a reading and return whether the wall clock is not to be followed now."""
        if abs(wall - expected) <= MAX_STEP:
            if self._jump is not None:
                self._log("the wall clock is right again: %s", _text(wall))
            self._jump = None
            return False
        zero = wall - int(monotonic * SECOND)  # the time at which the monotonic clock began, by this wall clock
        if self._jump is None or abs(zero - self._jump[0]) > MAX_STEP:
            self._jump = zero, monotonic
            self._log(
                "the wall clock jumped to %s: time goes on from %s until that has lasted %.0f s; set the clock right",
                *(_text(wall), _text(expected), JUMP_CONFIRM_SECONDS),
            )
        since = self._jump[1]
        self._jump = zero, since
        if monotonic - since < JUMP_CONFIRM_SECONDS:
            return True
        text = "the wall clock is believed after %.0f s: %s follows %s"
        self._log(text, monotonic - since, _text(wall), _text(expected))
        self._jump, self._steady_since = None, since
        return False

    def _log(self, text: str, *arguments: object) -> None:
        if not self._is_quiet:
            logger.warning(text, *arguments)


class SteadyClock(JumpFilter):
    """The time of day as a process may stamp it, from two readers of clocks. One thread at a time may use it."""

    def __init__(
        self, wall: Callable[[], Microseconds], monotonic: Callable[[], float], *, is_quiet: bool = False
    ) -> None:
        super().__init__(is_quiet=is_quiet)
        self._wall, self.monotonic = wall, monotonic

    def __call__(self) -> Microseconds:
        """Return the time now.

        Both clocks are read at one moment. Where this process had to wait between the two readings, which takes seconds
        on a busy machine, they are read again: that wait would be the error of a time that is held.
        """
        before = self.monotonic()
        for _ in range(READINGS):
            wall, after = self._wall(), self.monotonic()
            if after - before <= READING_SECONDS:
                break
            before = after
        return self.step(wall, after)

    @property
    def is_settled(self) -> bool:
        """Whether the wall clock has gone on steadily for `JUMP_CONFIRM_SECONDS`, and is followed."""
        return self.has_been_steady(self.monotonic())


def _text(time: Microseconds) -> str:
    """Return a time as people read it; a time that no calendar has, as a number."""
    try:
        return f"{datetime.fromtimestamp(time / SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time} µs"
