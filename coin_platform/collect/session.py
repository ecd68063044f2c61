"""What one connection should say, and what its frames mean for its subscriptions and books: decisions without I/O."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from coin_platform.book import Applied, Book
from coin_platform.collect.clock_lag import ClockLag, Greetings
from coin_platform.collect.pacing import Backoff
from coin_platform.errors import BadTime, BookError, ChecksumMismatch, DecodeError
from coin_platform.exchanges.base import TICKER_WITHOUT_PRICE, Exchange, Request
from coin_platform.model import (
    BookUpdate,
    Cause,
    Channel,
    Control,
    Data,
    Frame,
    Instant,
    Kind,
    Microseconds,
    Notice,
    Pair,
    Refusal,
    Refused,
    Subscribed,
)
from coin_platform.records import Checkpoint

PATIENCE = 10.0  # seconds: for an answer to a subscription, and between two attempts to get one book back
FLOWING = (Channel.TICKER, Channel.ORDERBOOK)  # some pair always has news; trades and their minutes may have none
MANY_PAIRS = 10  # so many markets are not quiet at the same time for two minutes; four or five of one kind may be
LIVELY_EVENTS = 1000  # after so many, a connection of few pairs has shown how long its pauses are
LIVELY_PAUSES = 10  # times its longest pause: longer than what a market that becomes quiet for the night does


class Send(NamedTuple):
    """Write this message to the socket."""

    payload: str


class Fetch(NamedTuple):
    """Get this book over REST and hand the answer back as a frame."""

    pair: Pair
    url: str


class Lost(NamedTuple):
    """This pair's book is not to be trusted until its next snapshot."""

    pair: Pair
    reason: str
    cause: Cause = Cause.SEQUENCE


class Restored(NamedTuple):
    """This pair's book is right again."""

    pair: Pair


class Failed(NamedTuple):
    """The exchange does not serve this pair, for good or for the moment; the others go on."""

    pair: Pair
    reason: str
    refusal: Refusal = Refusal.FINAL

    def __str__(self) -> str:
        return f"refused for {'good' if self.refusal is Refusal.FINAL else 'the moment'}: {self.reason}"


class Leave(NamedTuple):
    """The exchange refuses the whole connection: it is closed, and another one is opened later."""

    reason: str


class Rotate(NamedTuple):
    """The exchange will close this connection: a successor should take over."""

    reason: str


class Banned(NamedTuple):
    """The exchange must not be asked anything for a while, as this refusal of it says."""

    refusal: Refused


Action: TypeAlias = Send | Fetch | Lost | Restored | Failed | Leave | Rotate | Banned


class Ask(Protocol):
    """The type of `Exchange.subscribe` and `Exchange.unsubscribe`."""

    def __call__(
        self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds
    ) -> Iterator[Request]: ...


class Session:
    """The subscriptions and books of one connection that carries one channel."""

    def __init__(
        self,
        exchange: Exchange,
        channel: Channel,
        pairs: Iterable[Pair],
        clock_lag: ClockLag | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Carry these pairs; `chance` spreads the attempts to get a pair that is refused for the moment."""
        self.exchange = exchange
        self.channel = channel
        self.clock_lag = clock_lag or ClockLag()
        self._greetings = Greetings()
        self.undecodable = 0
        self.unasked = 0  # events of pairs that are not wanted, or not any more
        self.refused: dict[Pair, Failed] = {}  # until the pair is confirmed or sends data
        self._wanted = dict.fromkeys(pairs)
        self._asked: dict[Pair, float] = {}  # when, for those the exchange has not confirmed
        self._requests: dict[int, tuple[Pair, ...]] = {}
        self._said = ""  # the last refusal that named neither a pair nor a request of one pair
        self._chance = chance
        self._backoffs: dict[Pair, Backoff] = {}  # of the pairs that are refused for the moment
        self._retry_at: dict[Pair, float] = {}
        self._next_id = 1
        self._is_open = False
        self._books: dict[Pair, Book] = {}
        self._lost: set[Pair] = set()
        self._delivered: set[Pair] = set()  # pairs that have sent data
        self._told: dict[Pair, float] = {}  # when a pair had news, or was asked for
        self._news = 0.0  # when any pair had, or something came that could not be read
        self._events = 0  # of market data
        self._longest_pause = 0.0  # seconds between two of them
        self.fresh: set[Pair] = set()  # pairs whose book became valid since they were taken
        self._resynced: dict[Pair, float] = {}

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs this connection should carry."""
        return tuple(self._wanted)

    @property
    def unconfirmed(self) -> frozenset[Pair]:
        """Pairs that were asked for and have neither been confirmed nor refused nor sent anything yet."""
        return frozenset(self._asked.keys() - self.refused.keys())

    @property
    def served(self) -> frozenset[Pair]:
        """Pairs that the exchange has confirmed or sent, and does not refuse."""
        return (
            frozenset(self._wanted.keys() - self._asked.keys() - self.refused.keys()) if self._is_open else frozenset()
        )

    @property
    def refused_now(self) -> frozenset[Pair]:
        """Pairs that are refused for the moment, and are asked for again."""
        return frozenset(pair for pair, failed in self.refused.items() if failed.refusal is not Refusal.FINAL)

    @property
    def invalid(self) -> frozenset[Pair]:
        """Pairs whose book cannot be trusted now."""
        return frozenset(pair for pair, book in self._books.items() if not book.is_valid)

    @property
    def has_data(self) -> bool:
        """At least one pair has sent data."""
        return bool(self._delivered)

    @property
    def is_complete(self) -> bool:
        """Every pair that is not refused for good has sent data, and its book can be trusted; at least one pair has."""
        final = self.refused.keys() - self.refused_now
        missing = (self._wanted.keys() - self._delivered - final) | self.refused_now
        return bool(self.served) and not missing and not self.invalid

    def stale(self, now: Instant, limit: float) -> frozenset[Pair]:
        """Return the pairs that are served and had no news for `limit` seconds: a label, no reason to reconnect."""
        return frozenset(
            pair for pair, at in self._told.items() if now.monotonic - at > limit and pair not in self.refused
        )

    def mute(self, now: Instant) -> float:
        """Return for how many seconds nothing has come of a channel that always flows; 0 for one that may be quiet."""
        if self.channel not in FLOWING or not self._wanted.keys() - self.refused.keys():
            return 0.0
        return now.monotonic - self._news

    @property
    def mute_limit(self) -> float:
        """Return for how many seconds a connection that is heard may bring no data before it counts as dead.

        1. A connection that has brought nothing at all, or that serves many pairs, may be mute for `mute_seconds`.
        2. A few pairs may be quiet for as long as the exchange proves the connection with heartbeats or pongs, unless
           this connection has shown that its pauses are much shorter.
        """
        if not self._events or len(self.served) >= MANY_PAIRS:
            return self.exchange.mute_seconds
        if self._events < LIVELY_EVENTS:
            return float("inf")
        return max(self.exchange.mute_seconds, LIVELY_PAUSES * self._longest_pause)

    def opened(self, now: Instant) -> Iterator[Action]:
        """Subscribe to everything: a new connection remembers nothing."""
        self._is_open = True
        self._news = now.monotonic
        if self._wanted:
            yield from self._subscribe(self.pairs, now)

    def follow(self, pairs: Iterable[Pair], now: Instant) -> Iterator[Action]:
        """Move the subscription to `pairs`, sending only the difference."""
        wanted = dict.fromkeys(pairs)
        added = [pair for pair in wanted if pair not in self._wanted]
        dropped = [pair for pair in self._wanted if pair not in wanted]
        self._wanted = wanted
        for pair in dropped:
            self._forget(pair)
        if not self._is_open:
            return
        if dropped:
            yield from self._send(self.exchange.unsubscribe, dropped, now)
        if added or (dropped and self.exchange.replaces_subscription and wanted):
            yield from self._subscribe(added, now)

    def received(self, frame: Frame, now: Instant) -> Iterator[Action]:
        """Check a frame that has already been stored. A frame that cannot be decoded is only counted here."""
        try:
            events = self.exchange.decode(frame)
        except DecodeError as error:
            self.undecodable += 1
            self._news = now.monotonic  # another connection would bring no better
            lag = frame.received_time - error.exchange_time if isinstance(error, BadTime) else 0
            if lag < 0 and frame.kind is Kind.SOCKET:  # what is older than any market is no time
                self.clock_lag.note(lag)
            yield from self._doubt(frame, error, now)
            return
        for event in events:
            if isinstance(event, Refused) and event.ban_seconds > 0:
                yield Banned(event)
            match event:
                case Subscribed():
                    self._confirmed(event)
                case Refused() if frame.kind is Kind.REST:
                    yield from self._not_fetched(frame.pair, event.reason)
                case Refused():
                    yield from self._refuse(event, now)
                case Notice():
                    yield Rotate(event.reason)
                case Control():
                    if event == TICKER_WITHOUT_PRICE and frame.kind is Kind.SOCKET:
                        self._hear(self.exchange.only_pair_in(frame.payload, self._wanted), now)
                case _:
                    if frame.kind is Kind.SOCKET:
                        self._deliver(event, frame, now)
                    if isinstance(event, BookUpdate):
                        yield from self._apply(event, now)

    def tick(self, now: Instant) -> Iterator[Action]:
        """Do what is due because time has passed; called about once a second."""
        for pair, since in list(self._asked.items()):
            if now.monotonic - since > PATIENCE:
                said = f" ({self._said})" if self._said else ""
                silence = f"no answer in {PATIENCE:.0f} s{said}: is it a pair of this exchange?"
                yield from self._fail(pair, Refused(reason=silence), now)
        due = [pair for pair, at in self._retry_at.items() if at <= now.monotonic]
        for pairs in [[pair] for pair in due] if self.exchange.refuses_whole_request else filter(None, [due]):
            yield from self._ask_for(pairs, now)
        for pair in sorted(self._lost):
            yield from self._resync(pair, now)

    def take_fresh(self) -> frozenset[Pair]:
        """Return the pairs whose book became valid since the last call."""
        fresh, self.fresh = frozenset(self.fresh), set()
        return fresh

    def checkpoints(self, pairs: frozenset[Pair] | None = None) -> Iterator[Checkpoint]:
        """Return the books that can be trusted, of all pairs or of these, each as it is when it is asked for."""
        for pair in [*self._books]:
            book = self._books.get(pair)
            if book is not None and book.is_valid and (pairs is None or pair in pairs):
                yield Checkpoint.of(book.snapshot(pair))

    def _subscribe(self, pairs: Sequence[Pair], now: Instant) -> Iterator[Action]:
        self._news = now.monotonic
        for pair in pairs:
            self._told[pair] = now.monotonic
            self._accept(pair)
        yield from self._ask_for(pairs, now)

    def _ask_for(self, pairs: Sequence[Pair], now: Instant) -> Iterator[Action]:
        """Subscribe, for the first time or again; a pair that is refused stays so until an answer or data come."""
        for pair in pairs:
            self._asked[pair] = now.monotonic
            self._retry_at.pop(pair, None)
            if not self.exchange.is_bridged:
                self._resynced[pair] = now.monotonic  # the subscription brings the snapshot
        yield from self._send(
            self.exchange.subscribe, self.pairs if self.exchange.replaces_subscription else pairs, now
        )

    def _send(self, ask: Ask, pairs: Sequence[Pair], now: Instant) -> Iterator[Action]:
        for request in ask(self.channel, pairs, id=self._next_id, time=now.wall):
            for pair in request.pairs:
                self._greetings.expect(pair)
            if request.id is not None:
                self._requests[request.id] = request.pairs
                self._next_id = request.id + 1
            yield Send(request.payload)

    def _confirm(self, pair: Pair) -> None:
        self._asked.pop(pair, None)
        if self.refused:
            self._accept(pair)  # an answer that came late, or data all the same

    def _accept(self, pair: Pair) -> None:
        """Forget that a pair was refused."""
        self.refused.pop(pair, None)
        self._retry_at.pop(pair, None)
        self._backoffs.pop(pair, None)

    def _deliver(self, event: Data, frame: Frame, now: Instant) -> None:
        if self._events:
            self._longest_pause = max(self._longest_pause, now.monotonic - self._news)
        self._events += 1
        if event.exchange_time is not None:
            self._compare(event, event.exchange_time, frame, now)
        self._hear(event.pair, now)

    def _hear(self, pair: Pair | None, now: Instant) -> None:
        """Note that the exchange serves a pair: it has spoken of it on this channel. None: of one that is not known."""
        self._news = now.monotonic
        if pair is None or pair not in self._wanted:
            self.unasked += 1
            return
        self._confirm(pair)
        self._delivered.add(pair)
        self._told[pair] = now.monotonic

    def _compare(self, event: Data, time: Microseconds, frame: Frame, now: Instant) -> None:
        """Compare the clocks by a message: one that is news, or one that came before it was sent."""
        is_whole = isinstance(event, BookUpdate) and event.is_snapshot and self.exchange.has_deltas
        is_news = self._greetings.is_news(event.pair, time, frame.number, now.monotonic, is_whole=is_whole)
        if is_news or frame.received_time < time:
            self.clock_lag.note(frame.received_time - time)

    def _confirmed(self, event: Subscribed) -> None:
        pairs = (event.pair,) if event.pair else self._requests.get(event.request or 0, ())
        for pair in pairs:
            self._confirm(pair)
            if event.depth is not None and self.exchange.has_deltas and pair in self._wanted:
                self._book(pair).depth = event.depth

    def _refuse(self, event: Refused, now: Instant) -> Iterator[Action]:
        if event.refusal is Refusal.CONNECTION:
            yield Leave(event.reason)
            return
        asked = self._requests.pop(event.request, ()) if event.request is not None else ()
        if event.pair is not None:
            asked = tuple(pair for pair in asked if pair != event.pair)
            if event.pair in self._wanted:
                yield from self._fail(event.pair, event, now)
        elif len(asked) == 1:
            yield from self._fail(asked[0], event, now)
        else:
            self._said = event.reason
        rest = [pair for pair in asked if pair in self._asked]
        if self.exchange.refuses_whole_request and rest:
            yield from self._ask_the_rest(rest, event, now)

    def _ask_the_rest(self, rest: list[Pair], event: Refused, now: Instant) -> Iterator[Action]:
        """Ask again for the pairs that were refused only because they were in one request with another.

        Where nobody can say which pair is meant, each is asked for alone: at once if the refusal is for good, else when
        its back-off is over.
        """
        is_for_all = event.refusal is not Refusal.FINAL and (event.pair is None or event.ban_seconds > 0)
        if is_for_all:
            for pair in rest:
                yield from self._fail(pair, event, now)
            return
        for pairs in [rest] if event.pair is not None else [[pair] for pair in rest]:
            yield from self._ask_for(pairs, now)

    def _not_fetched(self, pair: Pair | None, reason: str) -> Iterator[Action]:
        if pair is not None and pair in self._wanted:
            yield from self._lose(pair, f"no book over REST: {reason}", Cause.NO_BOOK)  # asked for again when it is due

    def _lose(self, pair: Pair, reason: str, cause: Cause) -> Iterator[Action]:
        if pair not in self._lost:  # what does not mend it loses it no second time
            self._lost.add(pair)
            yield Lost(pair, reason, cause)

    def _fail(self, pair: Pair, event: Refused, now: Instant) -> Iterator[Failed]:
        """Note that a pair is not served, and plan the next attempt; yield so when that is new."""
        failed = Failed(pair, event.reason, event.refusal)
        is_new = self.refused.get(pair) != failed
        self._asked.pop(pair, None)
        self.refused[pair] = failed
        self._retry_at.pop(pair, None)
        if event.refusal is not Refusal.FINAL:
            wait = self._backoffs.setdefault(pair, Backoff(self._chance)).next(0.0)
            self._retry_at[pair] = now.monotonic + max(wait, event.ban_seconds)
        if is_new:
            yield failed

    def _doubt(self, frame: Frame, error: DecodeError, now: Instant) -> Iterator[Action]:
        """A change that cannot be read is missing in a book, and nothing later reveals that on some exchanges."""
        if self.channel is not Channel.ORDERBOOK or not self.exchange.can_hide_losses or frame.kind is not Kind.SOCKET:
            return
        named = self.exchange.only_pair_in(frame.payload, self._wanted)
        for pair in self.pairs if named is None else [named]:
            self._book(pair).invalidate()
            yield from self._lose(pair, f"a message could not be read: {error!s:.200}", Cause.UNREADABLE)
            yield from self._resync(pair, now)

    def _forget(self, pair: Pair) -> None:
        self._asked.pop(pair, None)
        self._accept(pair)
        self._books.pop(pair, None)
        self._lost.discard(pair)
        self._delivered.discard(pair)
        self._told.pop(pair, None)
        self.fresh.discard(pair)

    def _book(self, pair: Pair) -> Book:
        if pair not in self._books:
            self._books[pair] = self.exchange.book()
        return self._books[pair]

    def _apply(self, update: BookUpdate, now: Instant) -> Iterator[Action]:
        pair = update.pair
        if not self.exchange.has_deltas or pair not in self._wanted:
            return
        book = self._book(pair)
        was_valid = book.is_valid
        try:
            applied = self.exchange.apply(book, update)
        except BookError as error:
            is_sum = isinstance(error, ChecksumMismatch)
            yield from self._lose(pair, str(error), Cause.CHECKSUM if is_sum else Cause.SEQUENCE)
            yield from self._resync(pair, now)
            return
        if applied is Applied.WAITING:
            yield from self._resync(pair, now)
        if book.is_valid and not was_valid:
            self.fresh.add(pair)
        if book.is_valid and pair in self._lost:
            self._lost.discard(pair)
            yield Restored(pair)

    def _resync(self, pair: Pair, now: Instant) -> Iterator[Action]:
        """Ask for one pair's book again, at most once in `PATIENCE`, so that a flood of bad updates asks once.

        A pair that is refused is asked for again, or not, as its refusal says.
        """
        if pair in self.refused:
            return
        if now.monotonic - self._resynced.get(pair, float("-inf")) < PATIENCE:
            return
        self._resynced[pair] = now.monotonic
        url = self.exchange.request_url(self.channel, pair) if self.exchange.is_bridged else None
        if url is not None:
            yield Fetch(pair, url)
        else:
            yield from self._send(self.exchange.unsubscribe, [pair], now)
            yield from self._send(self.exchange.subscribe, [pair], now)
