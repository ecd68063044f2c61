"""Decide what a connection sends, and what its frames mean for its subscriptions and books. No I/O."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from coin_platform.book import Applied
from coin_platform.collect.actions import Action, Banned, Failed, Fetch, Leave, Lost, Restored, Rotate, Send
from coin_platform.collect.clock_lag import ClockLag, Greetings
from coin_platform.collect.listings import listed
from coin_platform.collect.pauses import Pauses
from coin_platform.collect.refusals import Refusals
from coin_platform.collect.traffic import Traffic
from coin_platform.errors import BadTime, BookError, DecodeError
from coin_platform.exchanges.base import TICKER_WITHOUT_PRICE, Exchange, Request
from coin_platform.exchanges.books import BookShelf
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Cause,
    Channel,
    Control,
    Data,
    Event,
    Frame,
    Instant,
    Instrument,
    Kind,
    Microseconds,
    Notice,
    Pair,
    Proof,
    Refusal,
    Refused,
    Subscribed,
)
from coin_platform.records import Checkpoint
from coin_platform.tables.instrument import LIST_PERIOD, list_period

ANSWER_SECONDS = 10.0  # for an answer to a subscription, and between two attempts to get the book of one pair back
FLOWING_CHANNELS = (Channel.TICKER, Channel.ORDERBOOK)  # some pair always has news; trades and candles may have none


class Ask(Protocol):
    """The type of `Exchange.subscribe` and `Exchange.unsubscribe`."""

    def __call__(
        self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds
    ) -> Iterator[Request]: ...


class Session:
    """The subscriptions and books of one connection that carries one channel.

    The methods that take an event (`opened`, `follow`, `received`, `tick`) return the actions that the connection must
    do, in order.
    """

    def __init__(
        self,
        exchange: Exchange,
        channel: Channel,
        pairs: Iterable[Pair],
        clock_lag: ClockLag | None = None,
        chance: Callable[[], float] = random.random,
        *,
        window: Microseconds = LIST_PERIOD,
        traffic: Traffic | None = None,
    ) -> None:
        """Carry these pairs. `chance` spreads the attempts to get a pair that is refused for the moment.

        `traffic` counts over all connections of the feed.
        """
        self.exchange = exchange
        self.channel = channel
        self.clock_lag = clock_lag or ClockLag()
        self.traffic = traffic or Traffic()
        self.fresh: set[Pair] = set()  # pairs whose book became valid since `take_fresh`
        self._is_list = channel is Channel.INSTRUMENT  # a subscription has no pairs: it tells what is listed
        self._list_period = list_period(window, is_streamed=True)
        self._list_number = 0  # of the period in which the whole list was asked for last
        self._list_asked_at: float | None = None  # monotonic seconds; null once it has come
        self._greetings = Greetings()
        self._refusals = Refusals(chance)
        self._pauses = Pauses()
        self._actions: list[Action] = []  # not returned yet
        self._pairs = dict.fromkeys(pairs)
        self._asked_at: dict[Pair, float] = {}  # of the pairs that the exchange has not confirmed
        self._requests: dict[int, tuple[Pair, ...]] = {}
        self._next_id = 1
        self._unnamed_refusal = ""  # the last one that named neither a pair nor a request of one pair
        self._is_open = False
        self._books = BookShelf(exchange)
        self._lost: set[Pair] = set()
        self._resynced_at: dict[Pair, float] = {}
        self._delivered: set[Pair] = set()  # pairs that have sent data
        self._heard_at: dict[Pair, float] = {}  # when a pair last had news, or was subscribed

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs this connection should carry."""
        return tuple(self._pairs)

    @property
    def refused(self) -> dict[Pair, Failed]:
        """The pairs that the exchange refuses, until it confirms them or sends their data."""
        return self._refusals.pairs

    @property
    def refused_now(self) -> frozenset[Pair]:
        """The pairs that are refused for the moment, and are asked for again."""
        return self._refusals.temporary

    @property
    def unconfirmed(self) -> frozenset[Pair]:
        """The pairs that were asked for and have neither been confirmed nor refused, nor sent anything yet."""
        return frozenset(self._asked_at.keys() - self.refused.keys())

    @property
    def served(self) -> frozenset[Pair]:
        """The pairs that the exchange has confirmed or sent, and does not refuse."""
        if not self._is_open:
            return frozenset()
        return frozenset(self._pairs.keys() - self._asked_at.keys() - self.refused.keys())

    @property
    def invalid(self) -> frozenset[Pair]:
        """The pairs whose book cannot be trusted now."""
        return frozenset(pair for pair, book in self._books.items() if not book.is_valid)

    @property
    def has_data(self) -> bool:
        """Whether at least one pair has sent data."""
        return bool(self._delivered)

    @property
    def is_complete(self) -> bool:
        """Whether all that is not refused for good has come: data of every pair, and valid books; at least one pair."""
        missing = (self._pairs.keys() - self._delivered - self._refusals.final) | self.refused_now
        return bool(self.served) and not missing and not self.invalid

    def stale(self, now: Instant, seconds: float) -> frozenset[Pair]:
        """Return the served pairs that had no news for so long. This is a label, and no reason to reconnect.

        A list has no news for days.
        """
        return frozenset(
            pair
            for pair, moment in self._heard_at.items()
            if now.monotonic - moment > seconds and pair not in self.refused and not self._is_list
        )

    @property
    def proved(self) -> frozenset[Pair]:
        """The served pairs whose book is valid now, and would be known to be wrong if a message were missing."""
        if self.channel is not Channel.ORDERBOOK or self.exchange.proof is Proof.NONE:
            return frozenset()
        if not self.exchange.has_deltas:  # each message is the whole book
            return self.served & self._delivered
        return frozenset(pair for pair in self.served if (book := self._books.get(pair)) is not None and book.is_valid)

    def news_times(self, now: Instant) -> dict[Pair, Microseconds]:
        """Return when each pair that has sent data last had news, on the wall clock of now (µs)."""
        return {
            pair: now.wall - int((now.monotonic - moment) * SECOND)
            for pair, moment in list(self._heard_at.items())
            if pair in self._delivered
        }

    def mute_seconds(self, now: Instant) -> float:
        """Return for how long nothing has come of a channel that always flows; 0 for one that may be quiet."""
        if self.channel not in FLOWING_CHANNELS or not self._pairs.keys() - self.refused.keys():
            return 0.0
        return self._pauses.seconds(now.monotonic)

    @property
    def mute_limit_seconds(self) -> float:
        """How long a connection that is alive may bring no data before it counts as dead: `Pauses.limit_seconds`."""
        return self._pauses.limit_seconds(self.exchange.mute_seconds, len(self.served))

    def opened(self, now: Instant) -> list[Action]:
        """Subscribe to everything: a new connection remembers nothing."""
        self._is_open = True
        self._pauses.begin(now.monotonic)
        if self._pairs:
            self._subscribe(self.pairs, now)
        return self._take_actions()

    def follow(self, pairs: Iterable[Pair], now: Instant) -> list[Action]:
        """Carry `pairs` from now on. Only the difference is sent."""
        new = dict.fromkeys(pairs)
        added = [pair for pair in new if pair not in self._pairs]
        dropped = [pair for pair in self._pairs if pair not in new]
        self._pairs = new
        for pair in dropped:
            self._forget(pair)
        if self._is_list:
            if self._is_open and added:
                self._ask_for_list(now)
            return self._take_actions()
        if self._is_open and dropped:
            self._send(self.exchange.unsubscribe, dropped, now)
        if self._is_open and (added or (dropped and self.exchange.replaces_subscription and new)):
            self._subscribe(added, now)
        return self._take_actions()

    def received(self, frame: Frame, now: Instant) -> list[Action]:
        """Check a frame that has already been stored. A frame that cannot be decoded is only counted here."""
        try:
            events = self.exchange.decode(frame)
        except DecodeError as error:
            self._take_undecodable(frame, error, now)
            return self._take_actions()
        if self._is_list:
            self._take_list(events, frame, now)
        for event in events:
            if isinstance(event, Refused) and event.ban_seconds > 0:
                self._actions.append(Banned(event))
            match event:
                case Subscribed():
                    self._confirm_subscribed(event)
                case Refused() if frame.kind is Kind.REST:
                    self._miss_answer(frame.pair, event.reason)
                case Refused():
                    self._refuse(event, now)
                case Notice():
                    self._actions.append(Rotate(event.reason))
                case Instrument():
                    pass  # `_take_list` has taken them all together
                case Control():
                    if event == TICKER_WITHOUT_PRICE and frame.kind is Kind.SOCKET:
                        self._pauses.begin(now.monotonic)
                        self._hear(self.exchange.only_pair_in(frame.payload, self._pairs), now)
                case _:
                    if frame.kind is Kind.SOCKET:
                        self._deliver(event, frame, now)
                    if isinstance(event, BookUpdate):
                        self._apply(event, now)
        return self._take_actions()

    def tick(self, now: Instant) -> list[Action]:
        """Do what is due because time has passed. Call this about once a second."""
        if self._lacks_list(now):
            # To ask again brings no list: an exchange that has counted the first question refuses the second one.
            self._list_asked_at = None
            self._actions.append(Leave(f"no list of markets in {ANSWER_SECONDS:.0f} s"))
            return self._take_actions()
        for pair, moment in list(self._asked_at.items()):
            if now.monotonic - moment > ANSWER_SECONDS:
                hint = f" ({self._unnamed_refusal})" if self._unnamed_refusal else ""
                reason = f"no answer in {ANSWER_SECONDS:.0f} s{hint}: is it a pair of this exchange?"
                self._fail(pair, Refused(reason=reason), now)
        due = self._refusals.take_due(now)
        for pairs in [[pair] for pair in due] if self.exchange.refuses_whole_request else filter(None, [due]):
            self._ask_for(pairs, now)
        for pair in sorted(self._lost):
            self._resync(pair, now)
        if self._is_list and self.served and now.wall // self._list_period != self._list_number:
            self._ask_for_list(now)
        return self._take_actions()

    def take_fresh(self) -> frozenset[Pair]:
        """Return the pairs whose book became valid since the last call."""
        fresh, self.fresh = frozenset(self.fresh), set()
        return fresh

    def checkpoints(self, pairs: frozenset[Pair] | None = None) -> Iterator[Checkpoint]:
        """Yield the valid books, of all pairs or of these. Each is copied when it is asked for, not before."""
        for pair in [*self._books]:
            book = self._books.get(pair)
            if book is not None and book.is_valid and (pairs is None or pair in pairs):
                yield Checkpoint.of(book.snapshot(pair))

    def _take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def _subscribe(self, pairs: Sequence[Pair], now: Instant) -> None:
        self._pauses.begin(now.monotonic)
        for pair in pairs:
            self._heard_at[pair] = now.monotonic
            self._refusals.remove(pair)
        self._ask_for(pairs, now)

    def _ask_for(self, pairs: Sequence[Pair], now: Instant) -> None:
        """Subscribe to pairs, for the first time or again. A refused pair stays refused until an answer or data."""
        self._list_number, self._list_asked_at = now.wall // self._list_period, now.monotonic
        for pair in pairs:
            self._asked_at[pair] = now.monotonic
            if not self.exchange.is_bridged:
                self._resynced_at[pair] = now.monotonic  # the subscription brings the snapshot
        self._send(self.exchange.subscribe, self.pairs if self.exchange.replaces_subscription else pairs, now)

    def _ask_for_list(self, now: Instant) -> None:
        """Ask for the whole list anew. It tells of all pairs, so that each window begins with the whole set."""
        self._send(self.exchange.unsubscribe, self.pairs, now)
        self._subscribe(self.pairs, now)

    def _take_list(self, events: Sequence[Event], frame: Frame, now: Instant) -> None:
        """Take what a frame lists. It serves all pairs, also those that it does not list."""
        actions = listed(events)
        self._actions += actions
        if frame.kind is Kind.SOCKET and any(action.is_whole for action in actions):
            self._list_asked_at = None
            for pair in self._pairs:
                self._hear(pair, now)

    def _lacks_list(self, now: Instant) -> bool:
        """Return whether a list was asked for, and neither came nor was refused in time."""
        is_late = self._list_asked_at is not None and now.monotonic - self._list_asked_at > ANSWER_SECONDS
        return self._is_list and is_late and not (self._unnamed_refusal or self.refused)

    def _send(self, ask: Ask, pairs: Sequence[Pair], now: Instant) -> None:
        for request in ask(self.channel, pairs, id=self._next_id, time=now.wall):
            for pair in request.pairs:
                self._greetings.expect(pair)
            if request.id is not None:
                self._requests[request.id] = request.pairs
                self._next_id = request.id + 1
            self._actions.append(Send(request.payload))

    def _confirm(self, pair: Pair) -> None:
        """Note that the exchange serves a pair: by an answer, be it late, or by data."""
        self._asked_at.pop(pair, None)
        if self.refused:
            self._refusals.remove(pair)

    def _confirm_subscribed(self, event: Subscribed) -> None:
        pairs = (event.pair,) if event.pair else self._requests.get(event.request or 0, ())
        for pair in pairs:
            self._confirm(pair)
            if event.depth is not None and self.exchange.has_deltas and pair in self._pairs:
                self._books[pair].depth = event.depth

    def _deliver(self, event: Data, frame: Frame, now: Instant) -> None:
        self._pauses.end(now.monotonic)
        if event.exchange_time is not None:
            self._compare_clocks(event, event.exchange_time, frame, now)
        self._hear(event.pair, now)

    def _hear(self, pair: Pair | None, now: Instant) -> None:
        """Note news of a pair on this channel: the exchange serves it. `pair` is None if it is not known."""
        if pair is None or pair not in self._pairs:
            self.traffic.unasked += 1
            return
        self._confirm(pair)
        self._delivered.add(pair)
        self._heard_at[pair] = now.monotonic

    def _compare_clocks(self, event: Data, time: Microseconds, frame: Frame, now: Instant) -> None:
        """Compare the clocks by a message that is news, or that was received before the exchange sent it."""
        is_whole = isinstance(event, BookUpdate) and event.is_snapshot and self.exchange.has_deltas
        is_news = self._greetings.is_news(event.pair, time, frame.number, now.monotonic, is_whole=is_whole)
        if is_news or frame.received_time < time:
            self.clock_lag.note(frame.received_time - time)

    def _take_undecodable(self, frame: Frame, error: DecodeError, now: Instant) -> None:
        self.traffic.undecodable += 1
        self._pauses.begin(now.monotonic)  # a new connection would bring the same
        lag = frame.received_time - error.exchange_time if isinstance(error, BadTime) else 0
        if lag < 0 and frame.kind is Kind.SOCKET:  # a time that is older than any market is no time
            self.clock_lag.note(lag)
        self._doubt(frame, error, now)

    def _refuse(self, event: Refused, now: Instant) -> None:
        if event.refusal is Refusal.CONNECTION:
            self._actions.append(Leave(event.reason))
            return
        asked = self._requests.pop(event.request, ()) if event.request is not None else ()
        if event.pair is not None:
            asked = tuple(pair for pair in asked if pair != event.pair)
            if event.pair in self._pairs:
                self._fail(event.pair, event, now)
        elif len(asked) == 1:
            self._fail(asked[0], event, now)
        else:
            self._unnamed_refusal = event.reason
        rest = [pair for pair in asked if pair in self._asked_at]
        if self.exchange.refuses_whole_request and rest:
            self._ask_the_rest(rest, event, now)

    def _ask_the_rest(self, rest: list[Pair], event: Refused, now: Instant) -> None:
        """Ask again for the pairs that were refused only because another pair of their request was.

        1. If the refusal does not name the pair, each pair is asked for alone.
        2. A refusal for the moment that does not name the pair, or that is a ban, holds for all: each back-off ends it.
        """
        is_for_all = event.refusal is not Refusal.FINAL and (event.pair is None or event.ban_seconds > 0)
        if is_for_all:
            for pair in rest:
                self._fail(pair, event, now)
            return
        for pairs in [rest] if event.pair is not None else [[pair] for pair in rest]:
            self._ask_for(pairs, now)

    def _fail(self, pair: Pair, event: Refused, now: Instant) -> None:
        """Note that a pair is refused, and report it if that is new."""
        self._asked_at.pop(pair, None)
        failed = self._refusals.add(pair, event, now)
        if failed is not None:
            self._actions.append(failed)

    def _miss_answer(self, pair: Pair | None, reason: str) -> None:
        """Take a refusal over REST. The book is asked for again when that is due."""
        if pair is not None and pair in self._pairs:
            self._lose(pair, f"no book over REST: {reason}", Cause.NO_BOOK)

    def _forget(self, pair: Pair) -> None:
        self._asked_at.pop(pair, None)
        self._refusals.remove(pair)
        self._books.pop(pair, None)
        self._lost.discard(pair)
        self._delivered.discard(pair)
        self._heard_at.pop(pair, None)
        self.fresh.discard(pair)

    def _apply(self, update: BookUpdate, now: Instant) -> None:
        pair = update.pair
        if not self.exchange.has_deltas or pair not in self._pairs:
            return
        book = self._books[pair]
        was_valid = book.is_valid
        try:
            applied = self._books.apply(update)
        except BookError as error:
            self._lose(pair, str(error), Cause(error.cause))
            self._resync(pair, now)
            return
        if applied is Applied.WAITING:
            self._resync(pair, now)
        if book.is_valid and not was_valid:
            self.fresh.add(pair)
        if book.is_valid and pair in self._lost:
            self._lost.discard(pair)
            self._actions.append(Restored(pair))

    def _doubt(self, frame: Frame, error: DecodeError, now: Instant) -> None:
        """Distrust the books that an unreadable message may have changed, if nothing later would reveal the change."""
        if self.channel is not Channel.ORDERBOOK or not self.exchange.can_hide_losses or frame.kind is not Kind.SOCKET:
            return
        named = self.exchange.only_pair_in(frame.payload, self._pairs)
        for pair in self.pairs if named is None else [named]:
            self._books[pair].invalidate()
            self._lose(pair, f"a message could not be read: {error!s:.200}", Cause.UNREADABLE)
            self._resync(pair, now)

    def _lose(self, pair: Pair, reason: str, cause: Cause) -> None:
        """Report a book as lost, once until it is restored."""
        if pair not in self._lost:
            self._lost.add(pair)
            self._actions.append(Lost(pair, reason, cause))

    def _resync(self, pair: Pair, now: Instant) -> None:
        """Ask for the book of one pair again, at most once in `ANSWER_SECONDS`: a flood of bad updates asks once.

        A refused pair is not asked for here: its refusal says when that is due.
        """
        if pair in self.refused:
            return
        if now.monotonic - self._resynced_at.get(pair, float("-inf")) < ANSWER_SECONDS:
            return
        self.traffic.resyncs += pair in self._resynced_at
        self._resynced_at[pair] = now.monotonic
        url = self.exchange.request_url(self.channel, pair) if self.exchange.is_bridged else None
        if url is not None:
            self._actions.append(Fetch(pair, url))
        else:
            self._send(self.exchange.unsubscribe, [pair], now)
            self._send(self.exchange.subscribe, [pair], now)
