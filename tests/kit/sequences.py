"""Recorded sequences of book updates, and the books they must lead to."""

from collections.abc import Iterable
from typing import TypeAlias

from coin_platform.book import Book
from coin_platform.model import BookUpdate, Level
from tests.kit.recordings import events

Sizes: TypeAlias = dict[float, float]


def updates(exchange: str, stem: str) -> list[BookUpdate]:
    """Return the book updates of one recording, in order of arrival."""
    return [event for event in events(exchange, stem) if isinstance(event, BookUpdate)]


def sides(book: Book) -> tuple[Sizes, Sizes]:
    """Return the sizes of a book's bids and asks by their prices."""
    return _sizes(book.bids.levels.values()), _sizes(book.asks.levels.values())


def folded(history: Iterable[BookUpdate]) -> tuple[Sizes, Sizes]:
    """Return the last size of every price, from the only snapshot on. Changes that the snapshot holds are left out."""
    history = list(history)
    [whole] = [update for update in history if update.is_snapshot]
    bids, asks = _sizes(whole.bids), _sizes(whole.asks)
    for update in history:
        known = whole.last_sequence or 0
        if not update.is_snapshot and (update.last_sequence is None or update.last_sequence > known):
            bids |= _sizes(update.bids)
            asks |= _sizes(update.asks)
    return _present(bids), _present(asks)


def _sizes(levels: Iterable[Level]) -> Sizes:
    return {level.price: level.size for level in levels}


def _present(sizes: Sizes) -> Sizes:
    return {price: size for price, size in sizes.items() if size}
