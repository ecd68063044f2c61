"""The order book: a fold of its updates, exact totals, and when it must not be trusted."""

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.book import Applied, Book, BookSide
from coin_platform.errors import SequenceGap
from coin_platform.model import BookUpdate, Level, Pair

PAIR = Pair("BTC", "USDT")
PRICES = st.integers(1, 30).map(float)
SIZES = st.one_of(st.just(0.0), st.decimals("0.00000001", "99999", places=8).map(float))
LEVELS = st.lists(st.builds(Level, PRICES, SIZES), max_size=12)


def update(
    first: int | None = None, last: int | None = None, *, whole: bool = False, bids: list[Level] | None = None
) -> BookUpdate:
    """Make an update with these sequences."""
    return BookUpdate(
        pair=PAIR,
        is_snapshot=whole,
        bids=[Level(1.0, 1.0)] if bids is None else bids,
        asks=[],
        first_sequence=first,
        last_sequence=last,
    )


@given(st.lists(LEVELS, max_size=20), st.booleans())
def test_a_side_is_the_last_size_of_every_price(history: list[list[Level]], is_bid: bool) -> None:
    side, expected = BookSide(is_bid=is_bid), dict[float, float]()
    for levels in history:
        for level in levels:
            side.set(level)
            expected[level.price] = level.size
        left = {price: size for price, size in expected.items() if size}
        best = sorted(left.items(), reverse=is_bid)
        assert side.best == (best[0][0] if best else None)
        assert [(level.price, level.size) for level in side.top(5)] == best[:5]
        assert [level.price for level in side.top(100)] == [price for price, _ in best]
        assert side.total == math.fsum(left.values())


OPERATIONS = st.one_of(
    st.builds(Level, PRICES, SIZES), LEVELS, st.integers(1, 8)
)  # set a level, hold exactly these levels, keep so many


@given(st.lists(st.tuples(OPERATIONS, st.integers(0, 12)), max_size=30), st.booleans())
def test_the_best_levels_are_right_whenever_and_however_many_are_asked_for(
    history: list[tuple[Level | list[Level] | int, int]], is_bid: bool
) -> None:
    side = BookSide(is_bid=is_bid)
    for operation, count in history:
        match operation:
            case Level():
                side.set(operation)
            case int():
                side.truncate(operation)
            case _:
                side.replace(operation)
        expected = sorted(side.levels.values(), key=lambda level: level.price, reverse=is_bid)
        assert side.top(count) == expected[:count]
        assert side.best == (expected[0].price if expected else None)
        assert side.total == math.fsum(level.size for level in expected)


@given(LEVELS, st.lists(st.integers(0, 12), max_size=4), st.randoms())
def test_a_book_is_the_same_in_one_update_or_in_many(levels: list[Level], cuts: list[int], chance: Random) -> None:
    whole, parts = Book(), Book()
    for book in (whole, parts):
        book.apply(update(whole=True, bids=[]))
    whole.apply(update(bids=levels))
    edges = [0, *sorted(cuts), len(levels)]
    for start, stop in pairwise(edges):
        parts.apply(update(bids=levels[start:stop]))
    assert parts.snapshot(PAIR) == whole.snapshot(PAIR)
    # prices that are all different may come in any order, and the total is the same to the last bit
    once = list({level.price: level for level in levels}.values())
    chance.shuffle(once)
    other = Book()
    other.apply(update(whole=True, bids=[]))
    other.apply(update(bids=once))
    assert other.snapshot(PAIR) == whole.snapshot(PAIR)
    assert other.bids.total == whole.bids.total


@given(LEVELS, st.integers(1, 10))
def test_truncation_keeps_the_best_levels(levels: list[Level], depth: int) -> None:
    side = BookSide(is_bid=False)
    side.replace(levels)
    kept = sorted(side.levels)[:depth]
    side.truncate(depth)
    assert sorted(side.levels) == kept
    assert side.best == (kept[0] if kept else None)


@given(st.lists(LEVELS, max_size=10), LEVELS)
def test_a_checkpoint_gives_an_equal_book(history: list[list[Level]], first: list[Level]) -> None:
    book, copy = Book(), Book()
    book.apply(update(1, 1, whole=True, bids=first))
    for number, levels in enumerate(history, 2):
        book.apply(update(number, number, bids=levels))
    copy.apply(book.snapshot(PAIR))
    assert copy.snapshot(PAIR) == book.snapshot(PAIR)
    assert copy.bids.total == book.bids.total


@given(st.lists(LEVELS, min_size=1, max_size=12), st.data())
def test_a_bridged_book_is_the_same_wherever_its_snapshot_arrives(
    history: list[list[Level]], data: st.DataObject
) -> None:
    updates = [update(n, n, bids=levels) for n, levels in enumerate(history, 1)]
    plain = Book()
    plain.apply(update(0, 0, whole=True, bids=[]))
    for change in updates:
        plain.apply(change)
    # the snapshot holds the first `known` updates and arrives after `arrived` of them
    known = data.draw(st.integers(0, len(updates)))
    arrived = data.draw(st.integers(0, len(updates)))
    at_snapshot, book = Book(), Book(is_bridged=True)
    at_snapshot.apply(update(0, 0, whole=True, bids=[]))
    for change in updates[:known]:
        at_snapshot.apply(change)
    for change in updates[:arrived]:
        assert book.apply(change) is Applied.WAITING
    book.apply(at_snapshot.snapshot(PAIR))
    for change in updates[arrived:]:
        book.apply(change)
    assert book.snapshot(PAIR).bids == plain.snapshot(PAIR).bids


def test_a_gap_invalidates_until_the_next_snapshot() -> None:
    book = Book()
    book.apply(update(5, 5, whole=True))
    assert book.apply(update(6, 8)) is Applied.APPLIED
    assert book.apply(update(7, 8)) is Applied.IGNORED
    assert book.apply(update(8, 9)) is Applied.APPLIED  # overlaps what is known
    with pytest.raises(SequenceGap, match="wanted an update from 10, got one from 11"):
        book.apply(update(11, 11))
    assert book.apply(update(12, 12)) is Applied.WAITING
    assert book.apply(update(1, 1, whole=True)) is Applied.APPLIED  # the numbering may restart
    assert book.is_valid


def test_a_chained_book_takes_no_overlap() -> None:
    book = Book(is_chained=True)
    book.apply(update(5, 5, whole=True))
    with pytest.raises(SequenceGap):
        book.apply(update(5, 9))


def test_a_snapshot_that_is_too_old_for_its_buffer_is_a_gap() -> None:
    book = Book(is_bridged=True)
    book.apply(update(10, 11))
    with pytest.raises(SequenceGap):
        book.apply(update(8, 8, whole=True))
    assert not book.is_valid


def test_a_rest_answer_that_the_socket_overtook_is_ignored() -> None:
    book = Book(is_bridged=True)
    book.apply(update(8, 8, whole=True))
    book.apply(update(9, 12))
    assert book.apply(update(10, 10, whole=True)) is Applied.IGNORED
    assert book.sequence == 12


def test_updates_without_numbers_apply_in_order() -> None:
    book = Book()
    book.apply(update(whole=True))
    assert book.apply(update()) is Applied.APPLIED


def test_a_crossed_book_says_so() -> None:
    book = Book()
    book.apply(BookUpdate(pair=PAIR, is_snapshot=True, bids=[Level(2, 1)], asks=[Level(2, 1)]))
    assert book.is_crossed
    book.apply(update(whole=True))
    assert not book.is_crossed


def test_a_book_that_waits_for_its_snapshot_keeps_the_newest_updates_and_no_more() -> None:
    book = Book(is_bridged=True)
    for number in range(1, Book.MAX_EARLY_UPDATES + 101):
        assert book.apply(update(number, number, bids=[Level(float(number), 1.0)])) is Applied.WAITING
    book.apply(update(100, 100, whole=True, bids=[]))  # the first that is left follows it
    assert (book.sequence, len(book.bids.levels)) == (Book.MAX_EARLY_UPDATES + 100, Book.MAX_EARLY_UPDATES)
    book.invalidate()
    for number in range(1, Book.MAX_EARLY_UPDATES + 101):
        book.apply(update(number, number))
    with pytest.raises(SequenceGap, match="wanted an update from 100, got one from 101"):
        book.apply(update(99, 99, whole=True))


def test_a_book_that_needs_no_bridge_keeps_nothing_from_before_its_snapshot() -> None:
    book = Book()
    assert book.apply(update(6, 6, bids=[Level(9.0, 1.0)])) is Applied.WAITING
    book.apply(update(5, 5, whole=True, bids=[Level(1.0, 1.0)]))
    assert (book.sequence, book.bids.best) == (5, 1.0)


def test_an_invalid_book_forgets_what_it_had_kept() -> None:
    book = Book(is_bridged=True)
    book.apply(update(6, 6, bids=[Level(9.0, 1.0)]))
    book.invalidate()
    book.apply(update(5, 5, whole=True, bids=[Level(1.0, 1.0)]))
    assert book.bids.best == 1.0


def test_a_level_that_fell_out_of_the_depth_is_gone_for_good() -> None:
    book = Book()
    book.depth = 2
    book.apply(update(whole=True, bids=[Level(3.0, 1.0), Level(2.0, 1.0)]))
    book.apply(update(bids=[Level(4.0, 1.0)]))
    book.apply(update(bids=[Level(4.0, 0.0)]))
    assert book.bids.top(5) == [Level(3.0, 1.0)]
