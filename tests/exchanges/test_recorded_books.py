"""Recorded sequences of books that begin with a whole book, over REST or on the socket, and go on with changes."""

from collections.abc import Iterable

import msgspec
import pytest

from coin_platform.book import Applied, Book
from coin_platform.errors import SequenceGap
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import BookUpdate
from tests.kit.sequences import folded, sides, updates

# The whole book comes over REST, and the first change before it.
BRIDGED = [("binance", f"book_sequence_{number}") for number in range(1, 4)]
BRIDGED += [("gateio", f"book_sequence_{number}") for number in range(1, 5)]
STREAMED = [("gateio", "book_sequence_5"), ("coinbase", "book_sequence_1"), ("coinbase", "book_sequence_2")]

both = pytest.mark.parametrize("exchange", ["binance", "gateio"])


def book_after(exchange: str, history: Iterable[BookUpdate]) -> Book:
    """Return the book of an exchange after these updates."""
    book = EXCHANGES[exchange].book()
    for update in history:
        EXCHANGES[exchange].apply(book, update)
    return book


def bridged(exchange: str, stem: str = "book_sequence_1") -> tuple[BookUpdate, BookUpdate, list[BookUpdate]]:
    """Return the change before the whole book, the whole book, and the changes behind it."""
    early, whole, *changes = updates(exchange, stem)
    assert whole.is_snapshot and whole.last_sequence is not None
    return early, whole, changes


@pytest.mark.parametrize(("exchange", "stem"), BRIDGED + STREAMED)
def test_F1_recorded_books_become_what_the_last_size_of_every_price_says(exchange: str, stem: str) -> None:
    adapter, history = EXCHANGES[exchange], updates(exchange, stem)
    book = adapter.book()
    for update in history:
        assert adapter.apply(book, update) is Applied.APPLIED or (exchange, stem) in BRIDGED
        assert not book.is_crossed
    assert book.is_valid and sides(book) == folded(history)
    assert book.sequence == history[-1].last_sequence
    assert book.exchange_time == history[-1].exchange_time


@pytest.mark.parametrize(("exchange", "stem"), BRIDGED)
def test_F1_a_lost_message_is_found_at_the_next_one(exchange: str, stem: str) -> None:
    early, whole, changes = bridged(exchange, stem)
    known = whole.last_sequence or 0
    first = next(index for index, change in enumerate(changes) if (change.last_sequence or 0) > known)
    for lost in range(first, len(changes) - 1, 7 if exchange == "binance" else 1):
        book = book_after(exchange, (early, whole, *changes[:lost]))
        with pytest.raises(SequenceGap):
            EXCHANGES[exchange].apply(book, changes[lost + 1])
        assert not book.is_valid


@both
def test_F2_a_repeated_message_changes_nothing_and_a_swapped_one_is_a_gap(exchange: str) -> None:
    adapter, (early, whole, changes) = EXCHANGES[exchange], bridged(exchange)
    book = book_after(exchange, (early, whole))
    for update in changes:
        assert adapter.apply(book, update) is Applied.APPLIED
        assert adapter.apply(book, update) is Applied.IGNORED
    assert sides(book) == folded([early, whole, *changes])
    with pytest.raises(SequenceGap):
        adapter.apply(book_after(exchange, (whole,)), changes[1])


@both
def test_a_first_change_that_reaches_into_the_whole_book_is_applied(exchange: str) -> None:
    adapter, (_, whole, changes) = EXCHANGES[exchange], bridged(exchange)
    assert changes[0].first_sequence == (whole.last_sequence or 0) + 1
    straddling = msgspec.structs.replace(changes[0], first_sequence=(whole.last_sequence or 0) - 2)
    book = adapter.book()
    assert adapter.apply(book, straddling) is Applied.WAITING
    assert adapter.apply(book, whole) is Applied.APPLIED
    assert book.sequence == changes[0].last_sequence
    assert sides(book) == folded([whole, changes[0]])


@both
def test_a_whole_book_that_is_older_than_what_waits_is_a_gap(exchange: str) -> None:
    _, whole, changes = bridged(exchange)
    book = book_after(exchange, changes[1:2])
    with pytest.raises(SequenceGap):
        EXCHANGES[exchange].apply(book, whole)
    assert not book.is_valid


@both
def test_a_whole_book_that_was_overtaken_is_ignored(exchange: str) -> None:
    history = updates(exchange, "book_sequence_1")
    book = book_after(exchange, history)
    assert EXCHANGES[exchange].apply(book, history[1]) is Applied.IGNORED
    assert (book.sequence, sides(book)) == (history[-1].last_sequence, folded(history))
