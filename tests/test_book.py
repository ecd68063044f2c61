"""The order book: a fold of its updates, exact totals, and when it must not be trusted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.book import Applied, Book, Side
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
    side, expected = Side(is_bid=is_bid), dict[float, float]()
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


@given(LEVELS, st.integers(1, 10))
def test_truncation_keeps_the_best_levels(levels: list[Level], depth: int) -> None:
    side = Side(is_bid=False)
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
    for one in updates:
        plain.apply(one)
    # the snapshot holds the first `known` updates and arrives after `arrived` of them
    known = data.draw(st.integers(0, len(updates)))
    arrived = data.draw(st.integers(0, len(updates)))
    at_snapshot, book = Book(), Book(is_bridged=True)
    at_snapshot.apply(update(0, 0, whole=True, bids=[]))
    for one in updates[:known]:
        at_snapshot.apply(one)
    for one in updates[:arrived]:
        assert book.apply(one) is Applied.WAITING
    book.apply(at_snapshot.snapshot(PAIR))
    for one in updates[arrived:]:
        book.apply(one)
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
