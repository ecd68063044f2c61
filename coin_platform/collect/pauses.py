"""The pauses between the data of one connection, and how long such a pause may last."""

MANY_PAIRS = 10  # so many markets are not quiet at the same time for two minutes; four or five of one sort may be
LIVELY_EVENTS = 1000  # after so many events, a connection of few pairs has shown how long its pauses are
LIVELY_PAUSES = 10  # times the longest pause: longer than that of a market that becomes quiet for the night


class Pauses:
    """Measures the pauses of one connection, in monotonic seconds."""

    def __init__(self) -> None:
        self._begin_seconds = 0.0
        self._events = 0
        self._longest_seconds = 0.0

    def begin(self, moment: float) -> None:
        """Begin a pause: the connection was opened, asked for more, or got a frame that is not market data."""
        self._begin_seconds = moment

    def end(self, moment: float) -> None:
        """End the pause with an event of market data, and begin the next one."""
        if self._events:
            self._longest_seconds = max(self._longest_seconds, self.seconds(moment))
        self._events += 1
        self._begin_seconds = moment

    def seconds(self, moment: float) -> float:
        """Return how long the pause has lasted."""
        return moment - self._begin_seconds

    def limit_seconds(self, mute_seconds: float, pairs: int) -> float:
        """Return how long a connection that is alive and serves so many pairs may bring no data.

        1. A connection that has brought nothing at all, or that serves many pairs, may pause for `mute_seconds`.
        2. A connection of few pairs may pause without limit, as long as heartbeats or pongs prove it. If it has shown
           that its pauses are much shorter, it may pause for `LIVELY_PAUSES` times the longest one.
        """
        if not self._events or pairs >= MANY_PAIRS:
            return mute_seconds
        if self._events < LIVELY_EVENTS:
            return float("inf")
        return max(mute_seconds, LIVELY_PAUSES * self._longest_seconds)
