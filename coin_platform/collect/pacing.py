"""When to try again, and how often one may ask: delays and token buckets, without a clock of their own."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 60.0  # seconds between two attempts
SETTLED = 60.0  # seconds of data after which failures are forgotten


class Backoff:
    """Delays between attempts: exponential, half fixed (a hard bound), half random (no herd)."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0

    def next(self, lived: float) -> float:
        """Return the seconds to wait after a connection that gave data for `lived` seconds."""
        if lived >= SETTLED:
            self._failures = 0
        longest = min(LONGEST, 2.0 ** min(self._failures, 10))
        self._failures += 1
        return longest / 2 + self._chance() * longest / 2


class TokenBucket:
    """At most `burst` at once and `rate` a second in the long run; shared by all who ask the same host."""

    def __init__(self, rate: float, burst: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._at = burst, clock()

    def reserve(self) -> float:
        """Take a token; return the seconds to wait until it is valid."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self._rate)

    def forbid(self, seconds: float) -> None:
        """Give no token out for this long: the other side said so."""
        self._tokens = min(self._tokens, -seconds * self._rate)

    async def take(self) -> None:
        """Wait for a token."""
        await asyncio.sleep(self.reserve())


def retry_after(text: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header, given in seconds or as a date; None if it says nothing readable."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError):
        return None
