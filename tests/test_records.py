"""Headers, and our own records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.errors import DecodeError
from coin_platform.model import BookUpdate, Channel, Kind, Level, Pair
from coin_platform.records import Checkpoint, Facts, Header, frame, unpack, unpack_facts

NUMBERS = st.integers(0, 2**62)
NAMES = st.text("abcxyz0123456789-", min_size=1, max_size=30)
PAIRS = st.one_of(st.none(), st.builds(Pair, st.sampled_from(["BTC", "1INCH"]), st.sampled_from(["KRW", "USDT"])))


@given(st.builds(Header, st.sampled_from(Kind), NUMBERS, NAMES, NUMBERS, NUMBERS, PAIRS))
def test_a_header_reads_back_as_it_was_written(header: Header) -> None:
    assert unpack(header.pack()) == header


@pytest.mark.parametrize(
    "text", ["", "w,1,c,1", "x,1,c,1,1", "w,one,c,1,1", "r,1,c,1,1,BTCKRW", "r,1,c,1,1,BTC-KRW,more"]
)
def test_a_header_that_is_not_ours_is_refused(text: str) -> None:
    if text.endswith("more"):
        assert unpack(text).pair == Pair("BTC", "KRW")
        return
    with pytest.raises(DecodeError):
        unpack(text)


def test_a_frame_is_its_header_and_the_exact_bytes() -> None:
    header = Header(Kind.REST, 3, "c", 7, 11, Pair("BTC", "KRW"))
    read = frame("upbit", Channel.TICKER, header, b"\x00{")
    assert (read.payload, read.number, read.epoch, read.kind) == (b"\x00{", 7, 3, Kind.REST)
    assert (read.connection, read.received_time, read.pair) == ("c", 11, header.pair)


def test_a_checkpoint_reads_back_as_the_book_it_was() -> None:
    pair = Pair("BTC", "USDT")
    book = BookUpdate(pair=pair, is_snapshot=True, bids=[Level(1.5, 2)], asks=[], last_sequence=9, depth=10)
    facts = Facts(pairs=["BTC-USDT"], code="1", book=Checkpoint.of(book))
    read = unpack_facts(facts.pack())
    assert read == facts
    assert read.book is not None
    again = read.book.update()
    assert (again.bids[0].price, again.bids[0].size, again.last_sequence, again.depth) == (1.5, 2, 9, 10)


def test_what_is_no_record_of_ours_is_refused() -> None:
    with pytest.raises(DecodeError):
        unpack_facts(b"[]")
