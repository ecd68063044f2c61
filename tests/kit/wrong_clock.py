"""A wall clock that a test sets wrong, beside a clock that nobody sets."""

from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import SteadyClock

HOUR: Microseconds = 3600 * SECOND
DAY = 24 * HOUR
BEGIN: Microseconds = 1_795_000_000 * SECOND
YEAR_2036: Microseconds = 2_082_758_400 * SECOND
JUMPS = (HOUR, -HOUR, 25 * HOUR, -25 * HOUR, YEAR_2036 - BEGIN)


class Clocks:
    """The true time, and the two clocks of a machine: its wall clock is wrong by `error`."""

    def __init__(self) -> None:
        self.true = BEGIN
        self.error = 0

    def wall(self) -> Microseconds:
        return self.true + self.error

    def monotonic(self) -> float:
        return (self.true - BEGIN) / SECOND + 17

    def steady(self) -> SteadyClock:
        return SteadyClock(self.wall, self.monotonic)

    def pass_(self, seconds: float, clock: SteadyClock) -> Microseconds:
        """Let time pass in steps of a second, read the clock after each, and return its last time."""
        time = 0
        for _ in range(int(seconds)):
            self.true += SECOND
            time = clock()
        return time
