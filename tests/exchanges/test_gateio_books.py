"""Gate.io: the rules of its numbered books, as far as no other exchange has them."""

import msgspec
import pytest

from coin_platform.book import Applied
from coin_platform.errors import DecodeError, SequenceGap
from coin_platform.exchanges.gateio import Gateio
from coin_platform.model import BookUpdate, Channel, Pair
from tests.kit.recordings import frames, say
from tests.kit.sequences import folded, sides, updates

GATEIO = Gateio()
BTC_USDT = Pair("BTC", "USDT")
WHOLE = "book_sequence_5"  # `spot.obu`, which brings its whole book


def test_changes_without_a_first_number_are_a_dead_letter() -> None:
    payload = frames("gateio", WHOLE)[2].payload.replace(b'"U":39106162813,', b"")
    with pytest.raises(DecodeError, match="U is missing"):
        say("gateio", Channel.ORDERBOOK, payload)


def test_a_rest_book_without_the_time_of_its_last_change_is_of_the_time_of_the_answer() -> None:
    answered = frames("gateio", "rest_orderbook")[0].payload.replace(b',"update":1759104757919', b"")
    [timed] = say("gateio", Channel.ORDERBOOK, answered, BTC_USDT)
    assert isinstance(timed, BookUpdate) and timed.exchange_time == 1_759_104_757_920_000


def test_a_whole_book_of_the_socket_counts_whatever_its_number() -> None:
    whole, change = updates("gateio", WHOLE)
    book = GATEIO.book()
    GATEIO.apply(book, whole)
    GATEIO.apply(book, change)
    restarted = msgspec.structs.replace(whole, last_sequence=5)
    assert GATEIO.apply(book, restarted) is Applied.APPLIED
    assert (book.sequence, sides(book)) == (5, folded([whole]))
    assert GATEIO.apply(book, msgspec.structs.replace(change, first_sequence=6, last_sequence=6)) is Applied.APPLIED
    with pytest.raises(SequenceGap):
        GATEIO.apply(book, change)


def test_changes_before_the_whole_book_of_the_socket_are_dropped() -> None:
    whole, change = updates("gateio", WHOLE)
    book = GATEIO.book()
    assert GATEIO.apply(book, change) is Applied.WAITING
    assert GATEIO.apply(book, whole) is Applied.APPLIED
    assert (book.sequence, sides(book)) == (whole.last_sequence, folded([whole]))
