"""How old records are on their way from the exchange to the processed topic: percentiles, stage by stage."""

import math
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from coin_platform.model import SECOND, Microseconds

SHARES = (0.5, 0.95, 0.99)
_LEAST = 1e-4  # seconds; less is not told apart
_STEP = math.log(1.1)  # classes are 10 % wide, so a percentile is right within 5 %


class Stage(StrEnum):
    """A part of the way. Clocks differ: what would be negative counts as 0."""

    RECEIVED = "received"  # since the exchange's own time, where it gives one
    LOGGED = "logged"  # since received
    PROCESSED = "processed"  # since logged, until its processed records are stored
    TOTAL = "total"  # since the exchange's own time


class Times(NamedTuple):
    """When one raw record was where, UTC."""

    exchange: Microseconds | None
    received: Microseconds
    logged: Microseconds

    def ages(self, done: Microseconds) -> Iterator[tuple[Stage, float]]:
        """Return the seconds of each stage that is known, for a record that was processed at `done`."""
        if self.exchange is not None:
            yield Stage.RECEIVED, max(0, self.received - self.exchange) / SECOND
            yield Stage.TOTAL, max(0, done - self.exchange) / SECOND
        yield Stage.LOGGED, max(0, self.logged - self.received) / SECOND
        yield Stage.PROCESSED, max(0, done - self.logged) / SECOND


class Ages:
    """Any number of durations, counted by size: their percentiles need little memory."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[math.floor(math.log(max(seconds, _LEAST) / _LEAST) / _STEP)] += 1

    def merge(self, other: "Ages") -> None:
        """Count those of another too."""
        self._counts.update(other._counts)

    def percentile(self, share: float) -> float:
        """Return the seconds below which a share of them lies; 0 when there are none."""
        wanted = share * self._counts.total()
        for size, count in sorted(self._counts.items()):
            wanted -= count
            if wanted <= 0:
                return _LEAST * math.exp((size + 0.5) * _STEP)
        return 0.0

    def __str__(self) -> str:
        return "/".join(f"{1000 * self.percentile(share):.3g}" for share in SHARES)
