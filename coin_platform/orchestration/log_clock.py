"""The time by which windows close: that of the clock that stamps the log's records, not that of this machine."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from coin_platform.broker import Broker, Place
from coin_platform.clock import elapsed, wall
from coin_platform.errors import DeliveryError, RetentionLoss, SettingsError
from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import MAX_STEP, SteadyClock

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0  # a log that gets no record for so long is idle: nothing contradicts the local clock
_LOOK_SECONDS = 0.25  # between two looks while the time is not settled
_PARTITIONS = 3  # whose newest record a look reads: one clock stamps all partitions


class LogClock:
    """The time by which the windows of some partitions close.

    1. While records come, it is the time of the newest records. Between records it goes on by the monotonic clock. So
       a local clock that is ahead closes no window early, and a local clock that is behind delays no window.
    2. If the local clock differs from that by at most `MAX_STEP`, it is the local clock.
    3. Until records have come between two looks, it is that of the newest record at the first look, which goes on by
       the monotonic clock. So a process that begins on a wrong clock closes no window early.
    4. If none have come for `SETTLE_SECONDS`, it is the local clock, whose jumps are held back. A clock that is wrong
       since this process began is then believed, because nothing contradicts it.
    """

    def __init__(
        self,
        wall: Callable[[], Microseconds] = wall,
        monotonic: Callable[[], float] = elapsed,
        settle_seconds: float | None = None,
    ) -> None:
        self._settle_seconds = SETTLE_SECONDS if settle_seconds is None else settle_seconds
        self._local = SteadyClock(wall, monotonic, is_quiet=True)
        self._ends: dict[Place, int] = {}
        self._newest: tuple[Microseconds, float] | None = None  # the log's time, and when it was read
        self._first: tuple[Microseconds, float] | None = None  # the newest record at the first look, and when that was
        self.is_settled = False  # whether more looks would tell the same; if not, the time may be too early
        self._is_reported = False  # whether the log says already that the clocks differ

    def look(self, broker: Broker, places: Sequence[Place]) -> Microseconds:
        """Return the time now. Read the newest records if any have come since the last look."""
        local, moment = self._local(), self._local.monotonic()
        former_ends, self._ends = self._ends, _ends(broker, places)
        grown = [place for place, end in self._ends.items() if place in former_ends and end > former_ends[place]]
        if log_time := _newest_time(broker, {place: self._ends[place] for place in grown[:_PARTITIONS]}):
            self._newest = log_time, moment
        elif self._first is None and (log_time := _newest_time(broker, self._ends)):
            self._first = log_time, moment
        log_time = self._log_time(moment)
        is_apart = log_time is not None and abs(local - log_time) > MAX_STEP
        self.is_settled = self._newest is not None or not is_apart
        if log_time is None or not is_apart:
            self._is_reported = False
            return local
        if self.is_settled and not self._is_reported:
            self._is_reported = True
            logger.warning(
                "the log's clock and ours are %.0f s apart: windows close by the log's clock; correct the wrong one",
                (local - log_time) / SECOND,
            )
        return log_time

    def _log_time(self, moment: float) -> Microseconds | None:
        """Return the time by the log's clock; `None` where the log tells none, or has become idle."""
        if self._newest is None and self._first is not None and moment - self._first[1] >= self._settle_seconds:
            return None
        known = self._newest or self._first
        return None if known is None else known[0] + int((moment - known[1]) * SECOND)


def settled_time(broker: Broker, places: Sequence[Place], clock: LogClock | None = None) -> Microseconds:
    """Return the time by which windows close. Wait for records if our clock and the log's are far apart.

    The wait ends after `SETTLE_SECONDS`: such a log is idle.
    """
    clock = clock or LogClock()
    now = clock.look(broker, places)
    while not clock.is_settled:
        time.sleep(_LOOK_SECONDS)
        now = clock.look(broker, places)
    return now


def _ends(broker: Broker, places: Sequence[Place]) -> dict[Place, int]:
    """Return the end offsets of the partitions that can be read. One that is damaged or missing tells no time."""
    try:
        return broker.end_offsets(places)
    except (DeliveryError, SettingsError):
        ends: dict[Place, int] = {}
        for place in places:
            with contextlib.suppress(DeliveryError, SettingsError):
                ends[place] = broker.end_offset(*place)
        return ends


def _newest_time(broker: Broker, ends: Mapping[Place, int]) -> Microseconds | None:
    """Return the time of the newest record of some partitions, `None` if they have none."""
    times: list[Microseconds] = []
    for place, end in ends.items():
        with contextlib.suppress(RetentionLoss):
            times += [record.time for record in broker.read(*place, max(0, end - 1), end)]
    return max(times, default=None)
