"""Pace attempts and requests: growing delays, token buckets, and the Retry-After header."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from coin_platform.exchanges.bans import plausible_ban

LONGEST_DELAY_SECONDS = 60.0  # between two attempts
SETTLED_SECONDS = 60.0  # of data, after which failures are forgotten
MOST_DOUBLINGS = 10  # 2**10 s is far above the longest delay, and no float overflows


class Backoff:
    """Delays between attempts. They double with each failure, up to a bound.

    Half of a delay is fixed, so that there is a lower bound. Half is random, so that clients do not come in a herd.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0

    def next(self, data_seconds: float) -> float:
        """Return the seconds to wait after a connection that brought data for so long."""
        if data_seconds >= SETTLED_SECONDS:
            self._failures = 0
        longest = min(LONGEST_DELAY_SECONDS, 2.0 ** min(self._failures, MOST_DOUBLINGS))
        self._failures += 1
        return longest / 2 + self._chance() * longest / 2


class TokenBucket:
    """A budget of requests to one host: at most `burst` at once, and `rate` a second in the long run."""

    def __init__(self, rate: float, burst: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._at = burst, clock()
        self._forbidden_until = self._at

    @property
    def tokens(self) -> float:
        """The tokens that are valid now; negative while some wait for theirs."""
        return min(self._burst, self._tokens + (self._clock() - self._at) * self._rate)

    def reserve(self) -> float:
        """Take a token. Return the seconds to wait until it is valid."""
        self._refill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def forbid(self, seconds: float) -> None:
        """Give out no token for so long, because the exchange said so. A shorter ban does not end a longer one."""
        if seconds > 0:
            self._refill()
            self._tokens = min(
                self._tokens, 1 - seconds * self._rate
            )  # the first token is valid then, the others are paced after it
            self._forbidden_until = max(self._forbidden_until, self._at + seconds)

    async def take(self) -> None:
        """Wait for a token. A ban that begins meanwhile is waited for, too."""
        await asyncio.sleep(self.reserve())
        while self._clock() < self._forbidden_until:
            await asyncio.sleep(self.reserve())

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


def retry_after(text: str | None, date: str | None = None) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3), given in seconds or as a date.

    `date` is the Date header of the same answer. A date is measured from there, since our clock may be wrong. Return
    None if Retry-After is missing, cannot be read, or names a time that no exchange means.
    """
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return plausible_ban(float(text))
    until, now = _moment(text), _moment(date or "") or datetime.now(UTC)
    return None if until is None else plausible_ban(max(0.0, (until - now).total_seconds()))


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else None
