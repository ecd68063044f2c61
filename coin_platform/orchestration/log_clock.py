"""What time it is for a log: windows close by the clock that stamps its records, not by the one that looks at them."""

import logging
from collections.abc import Callable, Sequence

from coin_platform.broker import Broker, Place
from coin_platform.clock import elapsed, wall
from coin_platform.errors import RetentionLoss
from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import MAX_STEP, SteadyClock

logger = logging.getLogger(__name__)

_PARTITIONS = 3  # whose newest record is read at a look: all are stamped by one clock


class LogClock:
    """The time by which the windows of some partitions close.

    1. While records come, it is that of the newest ones, and from then on it goes on by the monotonic clock. So a local
       clock that is ahead closes no window early, and one that is behind holds none up.
    2. Within `MAX_STEP` of that, and before any record has come between two looks, it is the local clock, whose jumps
       are held. A clock that is wrong from the start of this process on is believed until then: nothing says otherwise.
    """

    def __init__(self, wall: Callable[[], Microseconds] = wall, monotonic: Callable[[], float] = elapsed) -> None:
        self._local = SteadyClock(wall, monotonic, is_quiet=True)
        self._ends: dict[Place, int] = {}
        self._newest: tuple[Microseconds, float] | None = None  # the log's time, and when it was read
        self._is_told = False

    def look(self, broker: Broker, places: Sequence[Place]) -> Microseconds:
        """Return the time now, having looked whether records have come since the last look."""
        local, moment = self._local(), self._local.monotonic()
        before, self._ends = self._ends, broker.end_offsets(places)
        grown = [place for place, end in self._ends.items() if place in before and end > before[place]]
        stamps = [_newest_time(broker, place, self._ends[place]) for place in grown[:_PARTITIONS]]
        if known := [stamp for stamp in stamps if stamp is not None]:
            self._newest = max(known), moment
        if self._newest is None:
            return local
        log_time = self._newest[0] + int((moment - self._newest[1]) * SECOND)
        is_apart = abs(local - log_time) > MAX_STEP
        if is_apart and not self._is_told:
            logger.warning(
                "the log's clock and ours are %.0f s apart: windows close by the log's; set the wrong one right",
                (local - log_time) / SECOND,
            )
        self._is_told = is_apart
        return log_time if is_apart else local


def _newest_time(broker: Broker, place: Place, end: int) -> Microseconds | None:
    try:
        return next((record.time for record in broker.read(*place, end - 1, end)), None)
    except RetentionLoss:
        return None
