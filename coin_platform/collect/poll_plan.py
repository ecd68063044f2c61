"""Decide when a feed is polled over REST, which pair is next, and what an answer says of its pair. No I/O."""

from collections.abc import Iterable

from coin_platform.collect.actions import Banned, Failed, Fetch, Listed
from coin_platform.collect.listings import listed
from coin_platform.collect.traffic import Traffic
from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Frame, Instant, Microseconds, Pair, Refusal, Refused
from coin_platform.tables.instrument import LIST_PERIOD, RETRY_PERIOD, list_period

OUTAGE_SECONDS = 10.0  # without a live socket, after which its channel is polled
STANDBY_SECONDS = 10.0  # between two requests for a pair while its channel has no live socket
MINUTE_SECONDS = 60.0  # between two requests for a pair whose channel is not streamed
CANDLE_LAG_SECONDS = 2.0  # after a minute has begun, the candle of the minute before is complete
APART_SECONDS = 1.0  # between two requests, or less if the pairs would not fit into the period


class Standby:
    """Decides whether a feed is polled: if it is not streamed, or after `OUTAGE_SECONDS` without a live socket."""

    def __init__(self, at: float, *, is_streamed: bool) -> None:
        self._served_at = at
        self._wait_seconds = OUTAGE_SECONDS if is_streamed else 0.0

    def is_due(self, at: float, *, is_served: bool) -> bool:
        """Return whether to poll now. `is_served`: a socket is live, or nothing is to be polled. `at`: monotonic."""
        if is_served:
            self._served_at = at
        return not is_served and at - self._served_at >= self._wait_seconds


class PollPlan:
    """The turns of the pairs of one channel. A pair's next turn comes one period after its answer.

    1. If the channel is not streamed, the period ends shortly after the next minute has begun.
    2. A list of markets is one answer for all pairs. It is asked for once in `list_period`, and sooner after an error.
    """

    def __init__(
        self,
        exchange: Exchange,
        channel: Channel,
        pairs: Iterable[Pair],
        now: Instant,
        window: Microseconds = LIST_PERIOD,
        *,
        traffic: Traffic | None = None,
    ) -> None:
        """Ask for these pairs. `traffic` counts over all connections of the feed."""
        self.exchange = exchange
        self.channel = channel
        self.traffic = traffic or Traffic()
        self.refused: dict[Pair, Failed] = {}
        self.is_streamed = channel in exchange.channels
        self.is_list = channel is Channel.INSTRUMENT
        self.period = STANDBY_SECONDS if self.is_streamed else MINUTE_SECONDS
        if self.is_list:
            self.period = list_period(window, is_streamed=False) / SECOND
        self._urls: dict[Pair, str] = {}
        self._due: dict[Pair, float] = {}
        self._answered: dict[Pair, Microseconds] = {}  # when each pair had its newest answer that was no refusal
        self._free_at = now.monotonic  # nothing is asked for before
        self.follow(pairs, now)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that are asked for."""
        return tuple(self._due)

    @property
    def unconfirmed(self) -> frozenset[Pair]:
        """The pairs that have been neither answered nor refused yet."""
        return frozenset(self._due.keys() - self._answered.keys() - self.refused.keys())

    @property
    def news_times(self) -> dict[Pair, Microseconds]:
        """When each pair that is served had its newest answer."""
        return dict(self._answered)

    def follow(self, pairs: Iterable[Pair], now: Instant) -> None:
        """Ask for these pairs from now on, as far as they have an address. New pairs are due at once."""
        self._urls = {pair: url for pair in pairs if (url := self.exchange.request_url(self.channel, pair))}
        self._due = {pair: self._due.get(pair, now.monotonic) for pair in self._urls}
        self._answered = {pair: time for pair, time in self._answered.items() if pair in self._urls}
        self.refused = {pair: failed for pair, failed in self.refused.items() if pair in self._due}

    def wait(self, now: Instant) -> float:
        """Return the seconds until a request is due; infinite if there is nothing to ask for."""
        first = min(self._due.values(), default=float("inf"))
        return max(0.0, max(first, self._free_at) - now.monotonic)

    def take(self, now: Instant) -> Fetch | None:
        """Return the request that is due, or None. After a request, call `done`."""
        if self.wait(now) > 0:
            return None
        self._free_at = now.monotonic + min(APART_SECONDS, self.period / len(self._due))
        pair = min(self._due, key=self._due.__getitem__)
        return Fetch(pair, self._urls[pair])

    def done(self, pair: Pair, now: Instant, *, is_error: bool = False) -> None:
        """Plan a pair's next turn, after an answer or an error."""
        is_missed = is_error or pair not in self._answered
        pause = min(self._pause(now), RETRY_PERIOD / SECOND) if self.is_list and is_missed else self._pause(now)
        for other in self._asked_with(pair):
            self._due[other] = now.monotonic + pause

    @property
    def is_served(self) -> bool:
        """Whether the newest answer to at least one pair was no refusal."""
        return bool(self._answered)

    def received(self, pair: Pair, frame: Frame) -> list[Failed | Banned | Listed]:
        """Read an answer that has already been stored. Return what is wrong with its pair, if that is new.

        Of a list of markets, return what it lists.
        """
        try:
            events = self.exchange.decode(frame)
        except DecodeError as error:
            self.traffic.undecodable += 1
            return [*self.failed(pair, str(error), Refusal.TEMPORARY)]
        refusals = [event for event in events if isinstance(event, Refused)]
        if refusals:
            bans = [Banned(refusal) for refusal in refusals if refusal.ban_seconds > 0]
            return [*bans, *self.failed(pair, refusals[0].reason, refusals[0].refusal)]
        for other in self._asked_with(pair):
            self._answered[other] = frame.received_time
            self.refused.pop(other, None)
        return [*listed(events)]

    def failed(self, pair: Pair, reason: str, refusal: Refusal = Refusal.FINAL) -> list[Failed]:
        """Note that a pair is not served. Return that if it is new."""
        new = []
        for other in self._asked_with(pair):
            is_new = other not in self.refused
            self.refused[other] = Failed(other, reason, refusal)
            self._answered.pop(other, None)
            new += [self.refused[other]] if is_new else []
        return new

    def _asked_with(self, pair: Pair) -> tuple[Pair, ...]:
        """Return the pairs that one request asks for: for a list of markets, all."""
        return self.pairs if self.is_list else (pair,) if pair in self._due else ()

    def _pause(self, now: Instant) -> float:
        """Return the seconds until the next turn. The wall clock is read once: its jump delays one turn at most."""
        return self.period if self.is_streamed else self.period - now.wall / SECOND % self.period + CANDLE_LAG_SECONDS
