"""The premiums of the last two hours, sampled every 10 s, so that a chart need not begin empty."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from coin_platform.clock import wall
from coin_platform.model import SECOND, Microseconds
from coin_platform.serve.feed.latest import Latest
from coin_platform.serve.feed.premium import premiums, quotes

STEP_SECONDS = 10.0
MOST_POINTS = 720  # of each base: two hours
MOST_BASES = 300  # further ones are not kept: 300 take 25 MB at most
_DIGITS = 6  # of a premium: a hundredth of a basis point


class Point(NamedTuple):
    """The premium of each Korean exchange at a time. An exchange whose premium is not known is left out."""

    time: Microseconds
    premiums: dict[str, float]


class PremiumHistory:
    """Keeps points in memory. A server that starts has none. One thread samples, any thread reads."""

    def __init__(self, latest: Latest) -> None:
        """Sample what `latest` knows."""
        self._latest = latest
        self._points: dict[str, deque[Point]] = {}

    def sample(self, now: Microseconds) -> None:
        """Take a point of each base that has a premium now."""
        for base, prices in premiums(quotes(self._latest.all(), now)).prices.items():
            known = {each.quote.exchange: round(each.premium, _DIGITS) for each in prices if each.premium is not None}
            if known and (base in self._points or len(self._points) < MOST_BASES):
                self._points.setdefault(base, deque(maxlen=MOST_POINTS)).append(Point(now, known))
        oldest = now - int(STEP_SECONDS * MOST_POINTS) * SECOND
        self._points = {base: points for base, points in self._points.items() if points[-1].time > oldest}

    def of(self, base: str) -> list[Point]:
        """Return the points of a base, the oldest first. Where there is none nothing was known."""
        return list(self._points.get(base, ()))


@contextlib.contextmanager
def sampling(history: PremiumHistory, clock: Callable[[], Microseconds] = wall) -> Iterator[None]:
    """Sample in a thread, again and again."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(STEP_SECONDS):
            history.sample(clock())

    thread = threading.Thread(target=run, name="premium history")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
