"""F2: a lost book becomes right again, in whatever order messages come."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from coin_platform.book import Book
from coin_platform.collect.actions import Action, Fetch, Lost, Restored, Send
from coin_platform.collect.session import ANSWER_SECONDS
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import BookUpdate, Channel, Kind, Level, Pair, Refused, Subscribed
from tests.kit.bench import running_feed
from tests.kit.clock import MovedClock
from tests.kit.kraken import UPDATES, Quick, depth
from tests.kit.toy import A, B, Bridged, Talk, Toy, snapshot, update
from tests.kit.waiting import eventually

PAIRS = (A, B)


class Resync(RuleBasedStateMachine):
    """A session with two books, against a model of the books it may trust. `market` is the exchange's last word."""

    exchange: type[Toy] = Toy

    @initialize()
    def begin(self) -> None:
        self.time = 100.0
        self.talk = Talk(self.exchange(), *PAIRS)
        self.market = dict.fromkeys(PAIRS, 100)  # the last sequence that was sent or skipped
        self.heard: dict[Pair, int | None] = dict.fromkeys(PAIRS)  # the last one of a right book; None: it is not right
        self.asked: dict[Pair, list[float]] = {pair: [] for pair in PAIRS}
        self.lost: set[Pair] = set()
        self._take(self.talk.hear(*(Subscribed(pair=pair) for pair in PAIRS)))

    def _take(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Lost(pair):
                    assert pair not in self.lost
                    self.lost.add(pair)
                case Restored(pair):
                    self.lost.remove(pair)
                case Fetch(pair):
                    self.asked[pair].append(self.time)
                case Send(payload) if payload.startswith("+"):
                    [base] = payload[1:].split()  # one pair alone
                    self.asked[Pair(base, "USD")].append(self.time)

    def _hear(self, *events: BookUpdate, rest: Pair | None = None) -> None:
        self._take(self.talk.hear(*events, after=self.time, rest=rest))

    def _hear_update(self, pair: Pair) -> None:
        number, known = self.market[pair], self.heard[pair]
        self._hear(update(pair, number))
        if known is not None and number > known:
            self.heard[pair] = number if number == known + 1 else None

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.time += seconds
        self._take(self.talk.tick(self.time))

    @rule(pair=st.sampled_from(PAIRS), count=st.integers(1, 30))
    def hear_updates(self, pair: Pair, count: int) -> None:
        for _ in range(count):
            self.market[pair] += 1
            self._hear_update(pair)

    @rule(pair=st.sampled_from(PAIRS), count=st.integers(1, 3))
    def miss_and_hear_the_next(self, pair: Pair, count: int) -> None:
        self.market[pair] += count + 1
        self._hear_update(pair)

    @rule(pair=st.sampled_from(PAIRS))
    def hear_twice(self, pair: Pair) -> None:
        self._hear_update(pair)

    @rule(pair=st.sampled_from(PAIRS))
    def get_a_snapshot(self, pair: Pair) -> None:
        self._hear(snapshot(pair, self.market[pair]), rest=pair if self.exchange.is_bridged else None)
        self.heard[pair] = self.market[pair]

    @invariant()
    def a_book_is_valid_only_while_nothing_is_missing(self) -> None:
        right = {pair for pair, sequence in self.heard.items() if sequence is not None}
        books = {Pair.parse(book.pair): book for book in self.talk.session.checkpoints()}
        assert books.keys() == right
        assert {pair: book.sequence for pair, book in books.items()} == {pair: self.heard[pair] for pair in right}

    @invariant()
    def no_pair_is_asked_for_twice_within_ten_seconds(self) -> None:
        for times in self.asked.values():
            assert all(later - earlier >= ANSWER_SECONDS - 1e-6 for earlier, later in pairwise(times))


class BridgedResync(Resync):
    """The same with snapshots over REST. Some of them are too old."""

    exchange = Bridged

    @rule(pair=st.sampled_from(PAIRS), age=st.integers(1, 5))
    def get_an_old_snapshot(self, pair: Pair, age: int) -> None:
        """Bring a snapshot. It makes a book right only if all later updates were kept. A right book ignores it."""
        number, known = self.market[pair] - age, self.heard[pair]
        self._hear(snapshot(pair, number), rest=pair)
        if known is None or number > known:
            right = {Pair.parse(book.pair): book.sequence for book in self.talk.session.checkpoints()}.get(pair)
            assert right is None or number <= right <= self.market[pair]
            self.heard[pair] = right

    @rule(pair=st.sampled_from(PAIRS))
    def get_a_refusal(self, pair: Pair) -> None:
        if self.heard[pair] is None and pair not in self.lost:
            self._take(self.talk.hear(Refused(pair=pair, reason="busy"), after=self.time, rest=pair))


@pytest.mark.parametrize("machine", [Resync, BridgedResync])
def test_F2_a_book_is_trusted_from_its_snapshot_to_the_next_gap_and_asked_for_once_in_ten_seconds(
    machine: type[Resync],
) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


# B7: the snapshot, and what was kept for it


def bridged(name: str) -> tuple[Exchange, Pair]:
    """Return an exchange whose books are bridged, and a pair of it."""
    return EXCHANGES[name], Pair("BTC", EXCHANGES[name].quote)


def change(pair: Pair, first: int, last: int | None = None) -> BookUpdate:
    """Return a change that spans these sequence numbers. Its price is its last number."""
    number = last or first
    return BookUpdate(
        pair=pair,
        is_snapshot=False,
        bids=[Level(float(number), 1.0)],
        asks=[],
        first_sequence=first,
        last_sequence=number,
    )


def whole(pair: Pair, number: int) -> BookUpdate:
    """Return a snapshot over REST."""
    return BookUpdate(pair=pair, is_snapshot=True, bids=[Level(1.0, 1.0)], asks=[], last_sequence=number)


@pytest.mark.parametrize("name", ["binance", "gateio"])
@pytest.mark.parametrize(
    ("number", "is_right", "bids"),
    [
        (97, False, None),  # older than what was kept: 98 and 99 are missing
        (99, True, {1, 102, 104, 106}),  # ends right before it
        (101, True, {1, 102, 104, 106}),  # ends within the first
        (104, True, {1, 106}),
        (106, True, {1}),  # ends with the last
        (500, True, {1}),  # newer than all that was kept
    ],
)
def test_B7_a_snapshot_continues_with_what_was_kept_for_it_or_is_not_trusted(
    name: str, number: int, is_right: bool, bids: set[int] | None
) -> None:
    exchange, pair = bridged(name)
    book = exchange.book()
    for first in (100, 103, 105):
        exchange.apply(book, change(pair, first, first + 2 if first == 100 else first + 1))
    try:
        exchange.apply(book, whole(pair, number))
    except Exception as error:
        assert not is_right, error
    assert book.is_valid is is_right
    if bids is not None:
        assert set(book.bids.levels) == bids
    exchange.apply(book, whole(pair, 105))  # a newer one makes it right
    assert book.is_valid


@pytest.mark.parametrize("name", ["binance", "gateio"])
def test_B7_at_most_ten_thousand_updates_are_kept_and_what_fell_out_is_missed(name: str) -> None:
    exchange, pair = bridged(name)
    book = exchange.book()
    for number in range(1, Book.MAX_EARLY_UPDATES + 11):
        exchange.apply(book, change(pair, number))
    with pytest.raises(Exception, match=r"wanted an update from 10, got one from 11"):
        exchange.apply(book, whole(pair, 9))
    assert not book.is_valid
    exchange.apply(book, whole(pair, 10))
    assert (book.is_valid, book.sequence, len(book.bids.levels)) == (
        True,
        Book.MAX_EARLY_UPDATES + 10,
        Book.MAX_EARLY_UPDATES + 1,
    )


class Patient(Quick):
    """Kraken whose snapshots come over REST, and that may be silent for ever."""

    is_bridged = True
    silence_seconds = mute_seconds = 1e6


async def test_B7_a_snapshot_that_comes_late_or_never_is_asked_for_once_at_a_time_and_costs_nothing_else() -> None:
    asked: list[asyncio.Event] = []
    clock = MovedClock()

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(asyncio.Event())
        await asked[-1].wait()
        return httpx.Response(200, content=depth("BTC/USD"))

    transport = httpx.MockTransport(answer)
    async with running_feed(exchange=Patient(), transport=transport, clock=clock) as bench:
        bench.fake.sends_snapshots = False
        await eventually(lambda: bench.fake.methods("subscribe"))
        counts = []
        for text in UPDATES[:5]:
            await bench.fake.push("BTC/USD", [text])
            await bench.stored(text)
            clock.monotonic += ANSWER_SECONDS + 1  # long overdue, but under way
            await clock.looks()
            counts.append(len(asked))
        assert bench.feed.status.invalid == frozenset(bench.feed.pairs)
        asked[0].set()
        await eventually(lambda: bench.values(Kind.CHECKPOINT))
        assert (bench.feed.status.invalid, len(bench.fake.opened)) == (frozenset(), 1)
        assert [*counts, len(asked)] == [1] * 6


def test_B7_a_snapshot_of_a_pair_that_was_not_asked_for_changes_no_book() -> None:
    talk = Talk(Bridged(), A, B)
    talk.hear(update(A, 8), update(B, 8))
    stranger = Pair("NO", "USD")
    assert talk.hear(snapshot(stranger, 8), after=1, rest=stranger) == []
    assert list(talk.session.checkpoints()) == []
    talk.hear(snapshot(A, 8), after=2, rest=A)
    assert [checkpoint.pair for checkpoint in talk.session.checkpoints()] == ["A-USD"]
    assert talk.session.invalid == {B}


def test_B7_the_books_of_the_socket_are_not_kept_for_a_snapshot_where_it_comes_over_the_socket() -> None:
    for exchange in EXCHANGES.values():
        if exchange.has_deltas and exchange.name not in ("binance", "gateio"):
            book, pair = exchange.book(), Pair("BTC", exchange.quote)
            assert Channel.ORDERBOOK in exchange.channels
            exchange.apply(book, change(pair, 2))
            exchange.apply(book, whole(pair, 1))
            assert set(book.bids.levels) == {1.0}, exchange.name
