"""Bybit: the rules of its numbered books, on recorded sequences."""

import pytest

from coin_platform.book import Applied, Book
from coin_platform.errors import DecodeError, SequenceGap
from coin_platform.exchanges.bybit import Bybit
from coin_platform.model import BookUpdate, Channel, Level, Pair
from tests.kit.recordings import frames, say
from tests.kit.sequences import updates

BYBIT = Bybit()
BTC_USDT = Pair("BTC", "USDT")
SEQUENCES = ["book_sequence_1", "book_sequence_2", "book_sequence_3"]


def book_and_next_update(sequence: int) -> tuple[Book, BookUpdate]:
    """Return a book of one level a side that was last changed by `sequence`, and the next update."""
    snapshot, change = (
        BookUpdate(
            pair=BTC_USDT,
            is_snapshot=number == sequence,
            bids=[Level(1, 1)],
            asks=[Level(2, 1)],
            first_sequence=number,
            last_sequence=number,
        )
        for number in (sequence, sequence + 1)
    )
    book = BYBIT.book()
    assert BYBIT.apply(book, snapshot) is Applied.APPLIED
    return book, change


def test_a_book_starts_with_a_snapshot_and_goes_on_with_changes() -> None:
    snapshot, change, *_ = updates("bybit", "book_sequence_1")
    assert (snapshot.pair, snapshot.is_snapshot, snapshot.depth) == (BTC_USDT, True, 200)
    assert (snapshot.first_sequence, snapshot.last_sequence) == (62_505_424, 62_505_424)
    assert (len(snapshot.bids), len(snapshot.asks), snapshot.bids[0]) == (200, 200, Level(65_140.4, 0.885797))
    assert change == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_786_310_816_585_000,  # of the matching engine; sent at …618
        is_snapshot=False,
        bids=[Level(65_140.4, 0.875077)],
        asks=[Level(65_154.6, 0.09948), Level(65_154.7, 0.123013), Level(65_239, 0.155135), Level(65_239.1, 0)],
        first_sequence=62_505_425,
        last_sequence=62_505_425,
    )


@pytest.mark.parametrize(
    ("stem", "levels"), [("book_sequence_1", 200), ("book_sequence_2", 1), ("book_sequence_3", 200)]
)
def test_recorded_books_have_no_gap_and_are_never_crossed(stem: str, levels: int) -> None:
    book = BYBIT.book()
    for update in updates("bybit", stem):
        assert BYBIT.apply(book, update) is Applied.APPLIED
        assert not book.is_crossed
        assert 0 < len(book.bids.levels) <= levels and 0 < len(book.asks.levels) <= levels


@pytest.mark.parametrize("stem", ["book_sequence_1", "book_sequence_3"])
def test_a_dropped_message_is_found_at_the_next_one(stem: str) -> None:
    recorded = updates("bybit", stem)
    changes = [index for index, update in enumerate(recorded) if not update.is_snapshot]
    for dropped in changes[:-1:20]:
        book = BYBIT.book()
        for update in recorded[:dropped]:
            BYBIT.apply(book, update)
        with pytest.raises(SequenceGap):
            BYBIT.apply(book, recorded[dropped + 1])
        assert not book.is_valid
        assert BYBIT.apply(book, recorded[0]) is Applied.APPLIED and book.is_valid


@pytest.mark.parametrize("stem", SEQUENCES)
def test_a_repeated_message_changes_nothing(stem: str) -> None:
    once, twice = BYBIT.book(), BYBIT.book()
    for update in updates("bybit", stem):
        BYBIT.apply(once, update)
        BYBIT.apply(twice, update)
        assert BYBIT.apply(twice, update) is (Applied.APPLIED if update.is_snapshot else Applied.IGNORED)
    assert twice.snapshot(BTC_USDT) == once.snapshot(BTC_USDT)


def test_a_keep_alive_repeats_its_number_without_alarm() -> None:
    numbers = [update.last_sequence for update in updates("bybit", "book_sequence_2")]
    assert len(numbers) - len(set(numbers)) == 3
    assert all(update.is_snapshot and update.depth == 1 for update in updates("bybit", "book_sequence_2"))


def test_number_one_is_a_restart_and_the_whole_book_also_when_it_is_called_a_delta() -> None:
    payload = frames("bybit", "book_sequence_1")[1].payload.replace(b'"u":62505425', b'"u":1')
    [restart] = say("bybit", Channel.ORDERBOOK, payload)
    assert isinstance(restart, BookUpdate)
    assert (restart.is_snapshot, restart.last_sequence, restart.depth) == (True, 1, 200)
    book, change = book_and_next_update(62_505_424)
    assert BYBIT.apply(book, restart) is Applied.APPLIED
    assert (book.sequence, book.bids.best, len(book.asks.levels)) == (1, 65_140.4, 3)
    with pytest.raises(SequenceGap):
        BYBIT.apply(book, change)


def test_a_book_message_of_an_unknown_type_is_a_dead_letter() -> None:
    payload = frames("bybit", "book_sequence_1")[1].payload.replace(b'"type":"delta"', b'"type":"other"')
    with pytest.raises(DecodeError):
        say("bybit", Channel.ORDERBOOK, payload)


def test_changes_before_a_snapshot_wait_and_old_ones_are_ignored() -> None:
    snapshot, change, *_ = updates("bybit", "book_sequence_1")
    assert BYBIT.apply(BYBIT.book(), change) is Applied.WAITING
    book, _ = book_and_next_update(62_505_425)
    assert BYBIT.apply(book, change) is Applied.IGNORED
    assert BYBIT.apply(book, snapshot) is Applied.APPLIED  # a snapshot replaces, however old
