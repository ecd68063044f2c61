"""The time by which windows close: that of the clock that stamps the log's records, not that of this machine."""

import logging
from collections.abc import Callable, Sequence

from coin_platform.broker import Broker, Place
from coin_platform.clock import elapsed, wall
from coin_platform.errors import RetentionLoss
from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import MAX_STEP, SteadyClock

logger = logging.getLogger(__name__)

_PARTITIONS = 3  # whose newest record a look reads: one clock stamps all partitions


class LogClock:
    """The time by which the windows of some partitions close.

    1. While records come, it is the time of the newest records. Between records it goes on by the monotonic clock. So
       a local clock that is ahead closes no window early, and a local clock that is behind delays no window.
    2. If the local clock differs from that by at most `MAX_STEP`, it is the local clock.
    3. Until records have come between two looks, it is the local clock, whose jumps are held back. A clock that is
       wrong since this process began is then believed, because nothing contradicts it.
    """

    def __init__(self, wall: Callable[[], Microseconds] = wall, monotonic: Callable[[], float] = elapsed) -> None:
        self._local = SteadyClock(wall, monotonic, is_quiet=True)
        self._ends: dict[Place, int] = {}
        self._newest: tuple[Microseconds, float] | None = None  # the log's time, and when it was read
        self._is_reported = False  # whether the log says already that the clocks differ

    def look(self, broker: Broker, places: Sequence[Place]) -> Microseconds:
        """Return the time now. Read the newest records if any have come since the last look."""
        local, moment = self._local(), self._local.monotonic()
        former_ends, self._ends = self._ends, broker.end_offsets(places)
        grown = [place for place, end in self._ends.items() if place in former_ends and end > former_ends[place]]
        times = [_newest_time(broker, place, self._ends[place]) for place in grown[:_PARTITIONS]]
        if known_times := [time for time in times if time is not None]:
            self._newest = max(known_times), moment
        if self._newest is None:
            return local
        log_time = self._newest[0] + int((moment - self._newest[1]) * SECOND)
        is_apart = abs(local - log_time) > MAX_STEP
        if is_apart and not self._is_reported:
            logger.warning(
                "the log's clock and ours are %.0f s apart: windows close by the log's clock; correct the wrong one",
                (local - log_time) / SECOND,
            )
        self._is_reported = is_apart
        return log_time if is_apart else local


def _newest_time(broker: Broker, place: Place, end: int) -> Microseconds | None:
    try:
        return next((record.time for record in broker.read(*place, end - 1, end)), None)
    except RetentionLoss:
        return None
