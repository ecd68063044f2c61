"""The books of one connection: made when they are asked for, and the cause of the gap when one is lost."""

import pytest

from coin_platform.book import Applied
from coin_platform.errors import BookError, ChecksumMismatch, SequenceGap
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.books import BookShelf
from coin_platform.model import BookUpdate, Cause, Level, Pair

PAIR = Pair("BTC", "USDT")


def update(number: int, *, whole: bool = False) -> BookUpdate:
    bids, asks = [Level(99.0, 1.0), Level(98.0, 1.0)], [Level(101.0, 1.0)]
    return BookUpdate(
        pair=PAIR, is_snapshot=whole, bids=bids, asks=asks, first_sequence=number, last_sequence=number, exchange_time=0
    )


def test_a_book_is_made_when_it_is_first_looked_up() -> None:
    shelf = BookShelf(EXCHANGES["bybit"])
    assert PAIR not in shelf
    assert shelf.apply(update(1)) is Applied.WAITING
    assert list(shelf) == [PAIR] and shelf[PAIR] is shelf[PAIR]


def test_the_confirmed_depth_holds_for_the_pair_that_was_named() -> None:
    shelf = BookShelf(EXCHANGES["bybit"])
    shelf.set_depth(None, 1)
    shelf.set_depth(PAIR, None)
    assert not shelf
    shelf.set_depth(PAIR, 1)
    shelf.apply(update(1, whole=True))
    assert list(shelf[PAIR].bids.levels) == [99.0]


def test_the_error_of_a_lost_book_names_the_cause_of_the_gap() -> None:
    shelf = BookShelf(EXCHANGES["bybit"])
    shelf.apply(update(1, whole=True))
    with pytest.raises(SequenceGap) as lost:
        shelf.apply(update(5))
    assert Cause(lost.value.cause) is Cause.SEQUENCE
    assert not shelf[PAIR].is_valid
    assert [Cause(kind.cause) for kind in (BookError, ChecksumMismatch)] == [Cause.SEQUENCE, Cause.CHECKSUM]
