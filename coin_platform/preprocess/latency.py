"""Measure how old records are on their way from the exchange to the processed topic: percentiles for each stage."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from coin_platform.model import SECOND, Microseconds

SHARES = (0.5, 0.95, 0.99)
_LEAST: Microseconds = 100  # shorter durations count as this one
_STEP = math.log(1.1)  # classes are 10 % wide, so a percentile is right within 5 %


class Stage(StrEnum):
    """A part of the way. Clocks differ, so a negative duration counts as 0."""

    RECEIVED = "received"  # since the exchange's own time, where it gives one
    LOGGED = "logged"  # since received
    PROCESSED = "processed"  # since logged, until its processed records are stored
    TOTAL = "total"  # since the exchange's own time


class Times(NamedTuple):
    """The times of one raw record, UTC."""

    exchange: Microseconds | None
    received: Microseconds
    logged: Microseconds


class Ages:
    """Counts durations in classes of size, so that percentiles need little memory."""

    def __init__(self) -> None:
        self.seconds = 0.0  # the sum
        self._counts: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, ages: Sequence[Microseconds]) -> None:
        """Count durations."""
        self.seconds += sum(ages) / SECOND
        self._counts.update([math.floor(math.log(max(age, _LEAST) / _LEAST) / _STEP) for age in ages])

    def merge(self, other: "Ages") -> None:
        """Count the durations of another instance, too."""
        self.seconds += other.seconds
        self._counts.update(other._counts)

    def percentile(self, share: float) -> float:
        """Return the seconds below which a share of the durations lies; 0 when there are none."""
        remaining = share * self._counts.total()
        for size, count in sorted(self._counts.items()):
            remaining -= count
            if remaining <= 0:
                return _seconds(size)
        return 0.0

    def below(self, bounds: Iterable[float]) -> list[int]:
        """Return how many durations are at most each of `bounds` (seconds). Any thread may call this."""
        counts = dict(self._counts)
        return [sum(count for size, count in counts.items() if _seconds(size) <= bound) for bound in bounds]

    def __str__(self) -> str:
        return "/".join(f"{1000 * self.percentile(share):.3g}" for share in SHARES)


def ages(times: Sequence[Times], done: Microseconds) -> dict[Stage, list[Microseconds]]:
    """Return the durations of each stage of records whose results were stored at `done` (µs)."""
    known = [(record.exchange, record.received) for record in times if record.exchange is not None]
    return {
        Stage.RECEIVED: [max(0, received - exchange) for exchange, received in known],
        Stage.LOGGED: [max(0, record.logged - record.received) for record in times],
        Stage.PROCESSED: [max(0, done - record.logged) for record in times],
        Stage.TOTAL: [max(0, done - exchange) for exchange, _ in known],
    }


def _seconds(size: int) -> float:
    return _LEAST / SECOND * math.exp((size + 0.5) * _STEP)
