"""What one connection should say, and what its frames mean for its subscriptions and books: decisions without I/O."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from coin_platform.book import Applied, Book
from coin_platform.collect.drift import Drift
from coin_platform.errors import BadTime, BookError, ChecksumMismatch, DecodeError
from coin_platform.exchanges.base import Exchange, Request
from coin_platform.model import (
    BookUpdate,
    Channel,
    Control,
    Data,
    Frame,
    Instant,
    Kind,
    Microseconds,
    Notice,
    Pair,
    Refused,
    Subscribed,
)
from coin_platform.preprocess.ledger import Cause
from coin_platform.wire import Checkpoint

PATIENCE = 10.0  # seconds: for an answer to a subscription, and between two attempts to get one book back
FLOWING = (Channel.TICKER, Channel.ORDERBOOK)  # some pair always has news; trades and their minutes may have none


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
    """The exchange does not serve this pair; the others go on."""

    pair: Pair
    reason: str


class Rotate(NamedTuple):
    """The exchange will close this connection: a successor should take over."""

    reason: str


class Banned(NamedTuple):
    """The exchange must not be asked anything for a while, as this refusal of it says."""

    refusal: Refused


Action: TypeAlias = Send | Fetch | Lost | Restored | Failed | Rotate | Banned


class Ask(Protocol):
    """The type of `Exchange.subscribe` and `Exchange.unsubscribe`."""

    def __call__(
        self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds
    ) -> Iterator[Request]: ...


class Session:
    """The subscriptions and books of one connection that carries one channel."""

    def __init__(self, exchange: Exchange, channel: Channel, pairs: Iterable[Pair], drift: Drift | None = None) -> None:
        self.exchange = exchange
        self.channel = channel
        self.drift = drift or Drift()
        self.undecodable = 0
        self.unasked = 0  # events of pairs that are not wanted, or not any more
        self.refused: dict[Pair, str] = {}
        self._wanted = dict.fromkeys(pairs)
        self._asked: dict[Pair, float] = {}  # when, for those the exchange has not confirmed
        self._requests: dict[int, tuple[Pair, ...]] = {}
        self._said = ""  # the last refusal that named neither a pair nor a request of one pair
        self._next_id = 1
        self._is_open = False
        self._books: dict[Pair, Book] = {}
        self._lost: set[Pair] = set()
        self._delivered: set[Pair] = set()  # pairs that have sent data
        self._told: dict[Pair, float] = {}  # when a pair had news, or was asked for
        self._news = 0.0  # when any pair had, or something came that could not be read
        self.fresh: set[Pair] = set()  # pairs whose book became valid since they were taken
        self._resynced: dict[Pair, float] = {}

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs this connection should carry."""
        return tuple(self._wanted)

    @property
    def unconfirmed(self) -> frozenset[Pair]:
        """Pairs that were asked for and have neither been confirmed nor sent anything yet."""
        return frozenset(self._asked)

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
        """Every pair that is served has sent data, and a book that can be trusted where books come as changes."""
        missing = self._wanted.keys() - self._delivered - self.refused.keys()
        return not missing and not self.invalid

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
        if added or (dropped and self.exchange.replaces and wanted):
            yield from self._subscribe(added, now)

    def received(self, frame: Frame, now: Instant) -> Iterator[Action]:
        """Check a frame that has already been stored. A frame that cannot be decoded is only counted here."""
        try:
            events = self.exchange.decode(frame)
        except DecodeError as error:
            self.undecodable += 1
            self._news = now.monotonic  # another connection would bring no better
            if isinstance(error, BadTime):
                self.drift.note(frame.received_time - error.exchange_time)
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
                    pass
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
                yield self._fail(pair, f"no answer in {PATIENCE:.0f} s{said}: is it a pair of this exchange?")
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
            self._asked[pair] = self._told[pair] = now.monotonic
            if not self.exchange.is_bridged:
                self._resynced[pair] = now.monotonic  # the subscription brings the snapshot
            self.refused.pop(pair, None)
        yield from self._send(self.exchange.subscribe, self.pairs if self.exchange.replaces else pairs, now)

    def _send(self, ask: Ask, pairs: Sequence[Pair], now: Instant) -> Iterator[Action]:
        for request in ask(self.channel, pairs, id=self._next_id, time=now.wall):
            if request.id is not None:
                self._requests[request.id] = request.pairs
                self._next_id = request.id + 1
            yield Send(request.payload)

    def _confirm(self, pair: Pair) -> None:
        self._asked.pop(pair, None)
        self.refused.pop(pair, None)  # an answer that came late, or data all the same

    def _deliver(self, event: Data, frame: Frame, now: Instant) -> None:
        self._news = now.monotonic
        if event.exchange_time is not None:
            self.drift.note(frame.received_time - event.exchange_time)
        if event.pair not in self._wanted:
            self.unasked += 1
            return
        self._confirm(event.pair)
        self._delivered.add(event.pair)
        self._told[event.pair] = now.monotonic

    def _confirmed(self, event: Subscribed) -> None:
        pairs = (event.pair,) if event.pair else self._requests.get(event.request or 0, ())
        for pair in pairs:
            self._confirm(pair)
            if event.depth is not None and self.exchange.has_deltas and pair in self._wanted:
                self._book(pair).depth = event.depth

    def _refuse(self, event: Refused, now: Instant) -> Iterator[Action]:
        asked = self._requests.pop(event.request, ()) if event.request is not None else ()
        if event.pair is not None:
            asked = tuple(pair for pair in asked if pair != event.pair)
            if event.pair in self._wanted:
                yield self._fail(event.pair, event.reason)
        elif len(asked) == 1:
            yield self._fail(asked[0], event.reason)
        else:
            self._said = event.reason
        rest = [pair for pair in asked if pair in self._asked]
        if self.exchange.refuses_all and rest:
            self._asked.update(dict.fromkeys(rest, now.monotonic))
            for some in [rest] if event.pair is not None else [[pair] for pair in rest]:
                yield from self._send(self.exchange.subscribe, some, now)

    def _not_fetched(self, pair: Pair | None, reason: str) -> Iterator[Action]:
        if pair is not None and pair in self._wanted:
            yield from self._lose(pair, f"no book over REST: {reason}", Cause.NO_BOOK)  # asked for again when it is due

    def _lose(self, pair: Pair, reason: str, cause: Cause) -> Iterator[Action]:
        if pair not in self._lost:  # what does not mend it loses it no second time
            self._lost.add(pair)
            yield Lost(pair, reason, cause)

    def _fail(self, pair: Pair, reason: str) -> Failed:
        self._confirm(pair)
        self.refused[pair] = reason
        return Failed(pair, reason)

    def _forget(self, pair: Pair) -> None:
        self._confirm(pair)
        self._books.pop(pair, None)
        self._lost.discard(pair)
        self._delivered.discard(pair)
        self._told.pop(pair, None)
        self.fresh.discard(pair)
        self.refused.pop(pair, None)

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
        """Ask for one pair's book again, at most once in `PATIENCE`, so that a flood of bad updates asks once."""
        if now.monotonic - self._resynced.get(pair, float("-inf")) < PATIENCE:
            return
        self._resynced[pair] = now.monotonic
        url = self.exchange.request_url(self.channel, pair) if self.exchange.is_bridged else None
        if url is not None:
            yield Fetch(pair, url)
        else:
            yield from self._send(self.exchange.unsubscribe, [pair], now)
            yield from self._send(self.exchange.subscribe, [pair], now)
