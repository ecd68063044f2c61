"""Measure how far our wall clock is from the clock of an exchange, by the times in its messages."""

from collections import deque
from statistics import median_low
from typing import NamedTuple

from coin_platform.model import SECOND, Instant, Microseconds, Pair
from coin_platform.steady_clock import JumpFilter

TOLERANCE: Microseconds = 5 * SECOND  # no message is so long on its way
LAG_MESSAGES = 101  # the newest ones, of which the median is taken
LEAST_LAG_MESSAGES = 21  # nothing is concluded from fewer
BURST_SECONDS = 1.0  # at most, between two messages of one greeting


class ClockLag:
    """Our clock against the clock of one exchange. All connections share it, so that no quiet pair decides alone."""

    def __init__(self) -> None:
        self._lags: deque[Microseconds] = deque(maxlen=LAG_MESSAGES)
        self._jumps = JumpFilter(is_quiet=True)  # the clock that stamps the log reports a jump

    def note(self, lag: Microseconds) -> None:
        """Take the received time of a message less its exchange time."""
        self._lags.append(lag)

    def look(self, moment: Instant) -> None:
        """Take the time on both of our clocks: so a jump is seen even if no message carries a time."""
        self._jumps.step(moment.wall, moment.monotonic)

    @property
    def lag(self) -> Microseconds | None:
        """The median of the newest messages: their time on the way, and how far our clock is ahead. None: not known."""
        return median_low(self._lags) if len(self._lags) >= LEAST_LAG_MESSAGES else None

    @property
    def is_suspect(self) -> bool:
        """Whether our clock seems wrong: it has jumped, or messages seem late or early by more than `TOLERANCE`."""
        return self._jumps.is_held or (self.lag is not None and abs(self.lag) > TOLERANCE)

    def __str__(self) -> str:
        if self._jumps.is_held:
            return "our clock has jumped"
        if self.lag is None:
            return "our clock goes on steadily"
        return f"our clock and the exchange's are {self.lag / SECOND:.1f} s apart"


class _LastMessage(NamedTuple):
    """The last message of a pair."""

    time: Microseconds  # of the exchange; the latest so far
    frame: int  # number of the frame
    moment: float  # monotonic seconds
    is_greeting: bool


class Greetings:
    """Tells the news of one connection from the old messages with which an exchange greets a subscriber.

    1. The first frame of a pair after it was subscribed is a greeting: the last trade, a snapshot, the last minutes.
    2. The frames that follow at once are greetings, too, if their times pass faster than time itself.
    3. A message is news only if its time is later than all times of the pair before. Many tickers repeat a time.
    """

    def __init__(self) -> None:
        self._last: dict[Pair, _LastMessage] = {}

    def expect(self, pair: Pair) -> None:
        """Expect a greeting of a pair: it is being subscribed."""
        self._last.pop(pair, None)

    def is_news(self, pair: Pair, time: Microseconds, frame: int, moment: float, *, is_whole: bool = False) -> bool:
        """Return whether a message of a pair is news: in frame number `frame`, with exchange time `time` (µs).

        `moment`: when it came, in monotonic seconds. `is_whole`: it is the state of a book, not a change.
        """
        before = self._last.get(pair)
        if before is None or is_whole:
            self._last[pair] = _LastMessage(time, frame, moment, is_greeting=True)
            return False
        passed = moment - before.moment
        runs_ahead = passed < BURST_SECONDS and time - before.time > int(passed * SECOND) + TOLERANCE
        is_greeting = before.is_greeting and (frame == before.frame or runs_ahead)
        self._last[pair] = _LastMessage(max(time, before.time), frame, moment, is_greeting)
        return time > before.time and not is_greeting
