"""When a feed is asked for over REST, which pair is next, and what its answers say of it: decisions without I/O."""

from collections.abc import Iterable

from coin_platform.collect.actions import Banned, Failed, Fetch
from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Frame, Instant, Pair, Refusal, Refused

OUTAGE = 10.0  # seconds without a live socket after which its channel is polled
STANDBY = 10.0  # seconds between two requests for a pair meanwhile
MINUTE = 60.0  # seconds between two requests for a pair whose channel has no stream
LAG = 2.0  # seconds after a minute has begun: candles of the one before are complete
APART = 1.0  # seconds between two requests, or less where the pairs would not fit into the period


class Standby:
    """Whether a feed is to be polled: always where nothing is streamed, else once no socket was live for `OUTAGE`."""

    def __init__(self, at: float, *, is_streamed: bool) -> None:
        self._served_at = at
        self._patience = OUTAGE if is_streamed else 0.0

    def is_due(self, at: float, *, is_served: bool) -> bool:
        """Return whether to poll now, given whether a socket is live or nothing is wanted; `at` is monotonic."""
        if is_served:
            self._served_at = at
        return not is_served and at - self._served_at >= self._patience


class PollPlan:
    """The pairs of one channel, asked for one after another: a pair's turn comes again a period after its answer.

    Where nothing is streamed the period ends shortly after the next minute has begun.
    """

    def __init__(self, exchange: Exchange, channel: Channel, pairs: Iterable[Pair], now: Instant) -> None:
        self.exchange = exchange
        self.channel = channel
        self.undecodable = 0
        self.refused: dict[Pair, Failed] = {}
        self.is_streamed = channel in exchange.channels
        self.period = STANDBY if self.is_streamed else MINUTE
        self._urls: dict[Pair, str] = {}
        self._due: dict[Pair, float] = {}
        self._answered: set[Pair] = set()
        self._free = now.monotonic  # nothing is asked for before
        self.follow(pairs, now)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that are asked for."""
        return tuple(self._due)

    @property
    def unconfirmed(self) -> frozenset[Pair]:
        """Pairs that have been neither answered nor refused yet."""
        return frozenset(self._due.keys() - self._answered - self.refused.keys())

    def follow(self, pairs: Iterable[Pair], now: Instant) -> None:
        """Ask for these of the pairs that have an address: new ones as soon as it may be."""
        self._urls = {pair: url for pair in pairs if (url := self.exchange.request_url(self.channel, pair))}
        self._due = {pair: self._due.get(pair, now.monotonic) for pair in self._urls}
        self._answered.intersection_update(self._urls)
        self.refused = {pair: failed for pair, failed in self.refused.items() if pair in self._due}

    def wait(self, now: Instant) -> float:
        """Return the seconds until a request is due, infinite where there is nothing to ask for."""
        first = min(self._due.values(), default=float("inf"))
        return max(0.0, max(first, self._free) - now.monotonic)

    def take(self, now: Instant) -> Fetch | None:
        """Return the request that is due, if one is; `done` must follow."""
        if self.wait(now) > 0:
            return None
        self._free = now.monotonic + min(APART, self.period / len(self._due))
        pair = min(self._due, key=self._due.__getitem__)
        return Fetch(pair, self._urls[pair])

    def done(self, pair: Pair, now: Instant) -> None:
        """Plan a pair's next turn, after an answer or an error."""
        if pair in self._due:
            self._due[pair] = now.monotonic + self._pause(now)

    @property
    def is_served(self) -> bool:
        """Whether the newest answer to at least one pair was no refusal."""
        return bool(self._answered)

    def received(self, pair: Pair, frame: Frame) -> list[Failed | Banned]:
        """Read an answer that has already been stored; return what is wrong with its pair, when that is new."""
        try:
            events = self.exchange.decode(frame)
        except DecodeError as error:
            self.undecodable += 1
            return [*self.failed(pair, str(error), Refusal.TEMPORARY)]
        refusals = [event for event in events if isinstance(event, Refused)]
        if refusals:
            bans = [Banned(refusal) for refusal in refusals if refusal.ban_seconds > 0]
            return [*bans, *self.failed(pair, refusals[0].reason, refusals[0].refusal)]
        self._answered.add(pair)
        self.refused.pop(pair, None)
        return []

    def failed(self, pair: Pair, reason: str, refusal: Refusal = Refusal.FINAL) -> list[Failed]:
        """Note that a pair is not served; return so when that is new."""
        is_new = pair not in self.refused
        self.refused[pair] = Failed(pair, reason, refusal)
        self._answered.discard(pair)
        return [self.refused[pair]] if is_new else []

    def _pause(self, now: Instant) -> float:
        """A period; on the minute, it is measured by the wall clock, once, so that a jump of it delays nothing."""
        return self.period if self.is_streamed else self.period - now.wall / SECOND % self.period + LAG
