"""Sequence numbers that are missing, repeated, swapped, late, counted anew, or as large as can be (B1, B8)."""

import random
from collections.abc import Iterator

import msgspec
import pytest

from coin_platform.book import Applied, Book
from coin_platform.errors import BookError, DecodeError, SequenceGap
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, BookUpdate, Channel, Level, Pair, Proof
from tests.kit.recordings import say

NUMBERED = [name for name, exchange in EXCHANGES.items() if exchange.proof is Proof.SEQUENCE]
START = 1_800_000_000 * SECOND
OKX = (
    '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"%s","data":[{"asks":[],"bids":[["1","%d","0","1"]],'
    '"ts":"1786182438509","checksum":0,"seqId":%s,"prevSeqId":%s}]}'
)


def change(number: int, pair: Pair, *, time: int | None = None) -> BookUpdate:
    """Return the change with this number. Its time is `number` tenths of a second after the start, unless given."""
    return BookUpdate(
        pair=pair,
        is_snapshot=False,
        bids=[Level(float(number % 7 + 1), float(number))],
        asks=[],
        first_sequence=number,
        last_sequence=number,
        exchange_time=START + number * SECOND // 10 if time is None else time,
    )


def whole(number: int, pair: Pair, *, time: int | None = None) -> BookUpdate:
    """Return a snapshot with this number."""
    return msgspec.structs.replace(change(number, pair, time=time), is_snapshot=True)


def started(name: str, number: int) -> tuple[Book, Pair]:
    """Return a book with this number, and its pair."""
    exchange = EXCHANGES[name]
    pair = Pair("BTC", exchange.quote)
    book = exchange.book()
    exchange.apply(book, whole(number, pair))
    return book, pair


def injected(chance: random.Random, fault: str, numbers: list[int]) -> tuple[list[int], list[int]]:
    """Return numbers with one fault in them, and the numbers at which it must be noticed."""
    at, count = chance.randrange(5, len(numbers) - 10), chance.randrange(1, 6)
    before, affected, after = numbers[:at], numbers[at : at + count], numbers[at + count :]
    match fault:
        case "drop":
            return before + after, after[:1]
        case "repeat":
            return before + affected[:1] * 2 + affected[1:] + after, []
        case "swap":
            return [*before, after[0], *affected, *after[1:]], after[:1]
        case _:  # late, by `count` and more
            return [*before, *after[:count], *affected, *after[count:]], after[:1]


@pytest.mark.parametrize("fault", ["drop", "repeat", "swap", "delay"])
@pytest.mark.parametrize("name", NUMBERED)
def test_F1_B1_every_hole_is_noticed_at_the_next_message_and_nothing_else_is(name: str, fault: str) -> None:
    exchange, chance = EXCHANGES[name], random.Random(f"{name} {fault}")
    for _ in range(50):
        book, pair = started(name, 100)
        numbers, holes = injected(chance, fault, list(range(101, 160)))
        noticed: list[int] = []
        for number in numbers:
            try:
                exchange.apply(book, change(number, pair))
            except SequenceGap:
                noticed.append(number)
                assert not book.is_valid
        assert noticed == holes
        assert book.is_valid is (not holes)
        exchange.apply(book, whole(200, pair))
        assert exchange.apply(book, change(201, pair)) is Applied.APPLIED


@pytest.mark.parametrize("name", [name for name in NUMBERED if name != "okx"])
def test_B8_an_exchange_that_counts_anew_is_noticed_and_not_taken_for_old_news(name: str) -> None:
    exchange = EXCHANGES[name]
    book, pair = started(name, 1000)
    exchange.apply(book, change(1001, pair))
    assert exchange.apply(book, change(1000, pair)) is Applied.IGNORED  # old by its time too
    later = START + 1001 * SECOND // 10
    assert (
        exchange.apply(book, change(990, pair, time=later)) is Applied.IGNORED
    )  # clocks of one exchange differ a little
    with pytest.raises(SequenceGap, match="number 1 came after 1001: it is counted anew"):
        exchange.apply(book, change(1, pair, time=later + 2 * SECOND))
    assert not book.is_valid
    exchange.apply(book, whole(1, pair, time=later + 3 * SECOND))
    assert exchange.apply(book, change(2, pair, time=later + 3 * SECOND)) is Applied.APPLIED
    assert (book.is_valid, book.sequence) == (True, 2)


def okx(action: str, size: int, number: int | str, before: int | str) -> Iterator[BookUpdate]:
    """Yield the update of a book message of OKX."""
    for event in say("okx", Channel.ORDERBOOK, (OKX % (action, size, number, before)).encode()):
        assert isinstance(event, BookUpdate)
        yield event


def test_B8_okx_may_count_anew_repeat_a_number_and_count_as_far_as_it_likes() -> None:
    exchange, book = EXCHANGES["okx"], EXCHANGES["okx"].book()
    steps = [("snapshot", 9, -1), ("update", 12, 9), ("update", 12, 12), ("update", 3, 12), ("update", 5, 3)]
    steps += [("update", 2**63 - 2, 5), ("update", 0, 2**63 - 2), ("update", 2**63 - 1, 0)]
    for size, (action, number, before) in enumerate(steps, 1):
        for update in okx(action, size, number, before):
            assert exchange.apply(book, update) in (Applied.APPLIED, Applied.IGNORED)
    assert (book.sequence, book.bids.levels[1.0].size) == (2**63 - 1, float(len(steps)))
    [lost] = okx("update", 99, 4, 3)
    with pytest.raises(SequenceGap):
        exchange.apply(book, lost)


@pytest.mark.parametrize("name", [name for name in NUMBERED if name != "okx"])
def test_B8_numbers_around_two_to_the_sixty_third_are_numbers(name: str) -> None:
    exchange = EXCHANGES[name]
    book, pair = started(name, 2**63 - 2)
    time = START + 10**12
    for number in (2**63 - 1, 2**63, 2**63 + 1):
        assert exchange.apply(book, change(number, pair, time=time)) is Applied.APPLIED
    with pytest.raises(BookError):
        exchange.apply(book, change(2**63 + 3, pair, time=time))


@pytest.mark.parametrize(("number", "before"), [('"12"', '"9"'), ('"12"', "9"), ("12", '"9"')])
def test_B8_a_number_in_quotes_is_that_number_or_a_dead_letter(number: str, before: str) -> None:
    try:
        [update] = okx("update", 1, number, before)
    except DecodeError:
        return
    assert (update.first_sequence, update.last_sequence) == (10, 12)
