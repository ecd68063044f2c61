"""How far our wall clock is from an exchange's, by the times that its messages carry."""

from collections import deque
from statistics import median_low

from coin_platform.model import SECOND, Microseconds

TOLERANCE: Microseconds = 5 * SECOND
LENGTH = 101  # messages, the newest ones
LEAST = 21  # messages; of fewer nothing is concluded, for the first ones after a subscription may tell old news


class Drift:
    """The clock of one exchange against ours; all its connections share it, so that no quiet pair decides."""

    def __init__(self) -> None:
        self._lags: deque[Microseconds] = deque(maxlen=LENGTH)

    def note(self, lag: Microseconds) -> None:
        """Take a message's received time less its exchange time."""
        self._lags.append(lag)

    @property
    def lag(self) -> Microseconds | None:
        """The median of the newest messages: the way of a message, and how far our clock is ahead; None: not known."""
        return median_low(self._lags) if len(self._lags) >= LEAST else None

    @property
    def is_suspect(self) -> bool:
        """Whether our clock seems wrong: no message takes as long, and none comes before it was sent."""
        return self.lag is not None and abs(self.lag) > TOLERANCE
