"""How far our wall clock is from an exchange's, by the times that its messages carry."""

from collections import deque
from statistics import median_low
from typing import NamedTuple

from coin_platform.model import SECOND, Instant, Microseconds, Pair
from coin_platform.steady_clock import JumpFilter

TOLERANCE: Microseconds = 5 * SECOND
LENGTH = 101  # messages, the newest ones
LEAST = 21  # messages; of fewer nothing is concluded
BURST_SECONDS = 1.0  # between two messages of one greeting, at most


class ClockLag:
    """The clock of one exchange against ours; all its connections share it, so that no quiet pair decides."""

    def __init__(self) -> None:
        self._lags: deque[Microseconds] = deque(maxlen=LENGTH)
        self._jumps = JumpFilter(is_quiet=True)  # the clock that stamps the log reports a jump

    def note(self, lag: Microseconds) -> None:
        """Take a message's received time less its exchange time."""
        self._lags.append(lag)

    def look(self, moment: Instant) -> None:
        """Take both of our clocks: a jump of one is seen also where no exchange says a time."""
        self._jumps.step(moment.wall, moment.monotonic)

    @property
    def lag(self) -> Microseconds | None:
        """The median of the newest messages: the way of a message, and how far our clock is ahead; None: not known."""
        return median_low(self._lags) if len(self._lags) >= LEAST else None

    @property
    def is_suspect(self) -> bool:
        """Whether our clock seems wrong: it has just jumped, or messages take longer than any, or come before sent."""
        return self._jumps.is_held or (self.lag is not None and abs(self.lag) > TOLERANCE)


class _Heard(NamedTuple):
    """What a pair has said last."""

    time: Microseconds  # the newest one, the exchange's
    frame: int  # its number
    moment: float  # monotonic
    is_greeting: bool


class Greetings:
    """Tells the news of one connection from what an exchange repeats to greet a subscriber.

    1. The first frame of a pair after it was subscribed is a greeting: the last trade, a snapshot, the last minutes.
    2. So is what follows at once if its times run ahead of time itself: old news, frame by frame.
    3. Only a time after all that the pair has said is news: many a ticker repeats the time of the last trade.
    """

    def __init__(self) -> None:
        self._heard: dict[Pair, _Heard] = {}

    def expect(self, pair: Pair) -> None:
        """Take it that a pair will greet: it is being subscribed."""
        self._heard.pop(pair, None)

    def is_news(self, pair: Pair, time: Microseconds, frame: int, moment: float, *, is_whole: bool = False) -> bool:
        """Whether what frame number `frame` says of a pair at exchange time `time` (µs) has just happened.

        `moment` is when it came, in monotonic seconds; `is_whole`: it is the state of a book, not a change.
        """
        before = self._heard.get(pair)
        if before is None or is_whole:
            self._heard[pair] = _Heard(time, frame, moment, is_greeting=True)
            return False
        passed = moment - before.moment
        runs_ahead = passed < BURST_SECONDS and time - before.time > int(passed * SECOND) + TOLERANCE
        is_greeting = before.is_greeting and (frame == before.frame or runs_ahead)
        self._heard[pair] = _Heard(max(time, before.time), frame, moment, is_greeting)
        return time > before.time and not is_greeting
