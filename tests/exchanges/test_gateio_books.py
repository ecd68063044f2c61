"""Gate.io: the rules of its numbered books, on recorded sequences."""

import msgspec
import pytest

from coin_platform.book import Applied
from coin_platform.commands.decode import BookReplay
from coin_platform.errors import DecodeError, SequenceGap
from coin_platform.exchanges.gateio import Gateio
from coin_platform.model import BookUpdate, Channel, Control, Level, Pair, Subscribed
from tests.kit.recordings import events, frames, say
from tests.kit.sequences import folded, sides, updates

GATEIO = Gateio()
BTC_USDT = Pair("BTC", "USDT")
BRIDGED = [f"book_sequence_{number}" for number in range(1, 5)]  # `spot.order_book_update`, and a book of REST
WHOLE = "book_sequence_5"  # `spot.obu`, which brings its whole book


def test_a_whole_book_of_the_socket_names_its_depth() -> None:
    assert updates("gateio", "orderbook")[0] == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_754_006_400_261_000,
        is_snapshot=True,
        bids=[Level(115_765.1, 0.337839), Level(115_764.2, 0.005), Level(115_763.3, 0.004365)],
        asks=[Level(115_765.2, 0.631155), Level(115_765.9, 0.001534), Level(115_769.4, 0.005014)],
        last_sequence=25_847_113_075,
        depth=400,
    )


def test_changes_leave_out_a_side_that_has_none_and_come_after_the_answer() -> None:
    whole, answer, change = events("gateio", WHOLE)
    assert isinstance(whole, BookUpdate)
    assert (whole.is_snapshot, whole.last_sequence, whole.depth) == (True, 39_106_162_812, 50)
    assert answer == Subscribed(request=1)
    assert change == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_786_541_318_151_000,
        is_snapshot=False,
        bids=[Level(63_915.2, 0.022796)],
        asks=[],
        first_sequence=39_106_162_813,
        last_sequence=39_106_162_816,
    )


def test_the_older_book_channels() -> None:
    recorded = updates("gateio", "orderbook")
    assert recorded[4] == BookUpdate(
        pair=Pair("SAND", "USD"),
        exchange_time=1_790_133_869_806_000,
        is_snapshot=False,
        bids=[],
        asks=[Level(0.04446, 0.0)],
        first_sequence=2_448_207,
        last_sequence=2_448_207,
    )
    assert recorded[5] == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_606_294_781_123_000,
        is_snapshot=True,  # "full":true
        bids=[Level(19_137.74, 0.0001), Level(19_088.37, 0.0)],
        asks=[Level(19_137.75, 0.6135)],
        last_sequence=48_776_306,
        depth=100,
    )
    whole = recorded[6]
    assert (whole.is_snapshot, whole.exchange_time) == (True, 1_606_295_412_123_000)
    assert (whole.last_sequence, whole.depth) == (48_791_820, 5)
    assert whole.bids[0] == Level(19_079.55, 0.0195) and whole.asks[-1] == Level(19_083.8, 0.097)


def test_the_best_prices_alone_are_no_book() -> None:
    assert [event for event in events("gateio", "orderbook") if isinstance(event, Control)] == [
        Control(name="spot.book_ticker")
    ] * 3


def test_changes_without_a_first_number_are_a_dead_letter() -> None:
    payload = frames("gateio", WHOLE)[2].payload.replace(b'"U":39106162813,', b"")
    with pytest.raises(DecodeError, match="U is missing"):
        say("gateio", Channel.ORDERBOOK, payload)


def test_a_rest_book_is_of_the_time_of_its_last_change() -> None:
    book, old = updates("gateio", "rest_orderbook")
    assert book == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_759_104_757_919_000,
        is_snapshot=True,
        bids=[
            Level(112_095.8, 2.255276),
            Level(112_095.7, 1.490851),
            Level(112_095.0, 0.0439),
            Level(112_094.2, 0.08921),
            Level(112_092.3, 1.186865),
        ],
        asks=[
            Level(112_095.9, 0.509926),
            Level(112_096.0, 0.0439),
            Level(112_097.0, 0.0439),
            Level(112_097.9, 0.044111),
            Level(112_098.0, 0.0439),
        ],
        last_sequence=27_596_272_445,
    )
    assert (old.pair, old.exchange_time, old.last_sequence) == (Pair("HAI", "ETH"), None, 2_691_446)
    answered = frames("gateio", "rest_orderbook")[0].payload.replace(b',"update":1759104757919', b"")
    [timed] = say("gateio", Channel.ORDERBOOK, answered, BTC_USDT)
    assert isinstance(timed, BookUpdate) and timed.exchange_time == 1_759_104_757_920_000


@pytest.mark.parametrize("stem", [*BRIDGED, WHOLE])
def test_F1_recorded_books_become_what_the_last_size_of_every_price_says(stem: str) -> None:
    replay = BookReplay(GATEIO)
    book = GATEIO.book()
    for frame in frames("gateio", stem):
        replay.feed(frame)
    for update in updates("gateio", stem):
        GATEIO.apply(book, update)
        assert not book.is_crossed
    result = replay.result()
    assert (result["gaps"], result["crossed"]) == (0, 0)
    assert book.is_valid and sides(book) == folded(updates("gateio", stem))
    assert book.sequence == updates("gateio", stem)[-1].last_sequence


def test_F1_a_lost_message_is_found_at_the_next_one() -> None:
    for stem in BRIDGED:
        early, whole, *changes = updates("gateio", stem)
        for lost in range(len(changes) - 1):
            if (changes[lost].last_sequence or 0) <= (whole.last_sequence or 0):
                continue  # the whole book has this change
            book = GATEIO.book()
            for update in (early, whole, *changes[:lost]):
                GATEIO.apply(book, update)
            with pytest.raises(SequenceGap):
                GATEIO.apply(book, changes[lost + 1])
            assert not book.is_valid


def test_F2_a_repeated_message_changes_nothing_and_a_swapped_one_is_a_gap() -> None:
    early, whole, *changes = updates("gateio", "book_sequence_1")
    book = GATEIO.book()
    GATEIO.apply(book, early)
    GATEIO.apply(book, whole)
    for update in changes:
        assert GATEIO.apply(book, update) is Applied.APPLIED
        assert GATEIO.apply(book, update) is Applied.IGNORED
    assert sides(book) == folded([early, whole, *changes])
    book = GATEIO.book()
    GATEIO.apply(book, whole)
    with pytest.raises(SequenceGap):
        GATEIO.apply(book, changes[1])


def test_a_first_change_that_reaches_into_the_whole_book_is_applied() -> None:
    _, whole, *changes = updates("gateio", "book_sequence_1")
    assert whole.last_sequence == 59_231_869
    straddling = msgspec.structs.replace(changes[0], first_sequence=59_231_860)
    book = GATEIO.book()
    assert GATEIO.apply(book, straddling) is Applied.WAITING
    assert GATEIO.apply(book, whole) is Applied.APPLIED
    assert book.sequence == changes[0].last_sequence
    assert sides(book) == folded([whole, changes[0]])


def test_a_whole_book_that_is_older_than_what_waits_is_a_gap() -> None:
    _, whole, *changes = updates("gateio", "book_sequence_1")
    book = GATEIO.book()
    GATEIO.apply(book, changes[1])
    with pytest.raises(SequenceGap):
        GATEIO.apply(book, whole)
    assert not book.is_valid


def test_a_rest_answer_that_was_overtaken_is_ignored() -> None:
    early, whole, *changes = history = updates("gateio", "book_sequence_1")
    book = GATEIO.book()
    for update in history:
        GATEIO.apply(book, update)
    assert GATEIO.apply(book, whole) is Applied.IGNORED
    assert book.sequence == changes[-1].last_sequence
    assert sides(book) == folded([early, whole, *changes])


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
