"""Broken, lost, repeated or reordered messages are noticed, or they change no value."""

import re
from collections.abc import Iterator

import msgspec
import pytest

from coin_platform.book import Applied, Book
from coin_platform.errors import BookError, ChecksumMismatch, DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import BookUpdate, Channel, Event, Frame, Level, Pair, Subscribed, Ticker
from tests.kit.recordings import files, frames, say

RECORDED = sorted({exchange for exchange, _ in files("ticker")} & {exchange for exchange, _ in files("orderbook")})
NUMBER = re.compile(rb'"?-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"?')
MOST = 1e15


def first(exchange: str, kind: type[Ticker] | type[BookUpdate]) -> tuple[Frame, Ticker | BookUpdate]:
    """Return the first recorded message of this kind that has a time, and for books a level."""
    for frame in frames(exchange, "ticker" if kind is Ticker else "orderbook"):
        for event in EXCHANGES[exchange].decode(frame):
            if isinstance(event, kind) and event.exchange_time is not None and getattr(event, "bids", [0]):
                return msgspec.structs.replace(frame, received_time=event.exchange_time + 1_000_000), event
    raise AssertionError(f"{exchange} has no recorded {kind.__name__} with a time")


def tokens(payload: bytes, value: float) -> list[re.Match[bytes]]:
    """Return the numbers of a payload that have this value, with their quotes."""
    return [match for match in NUMBER.finditer(payload) if float(match[0].strip(b'"')) == value]


def instead(frame: Frame, old: re.Match[bytes], new: bytes) -> Frame:
    """Return the frame with one number replaced."""
    return msgspec.structs.replace(frame, payload=frame.payload[: old.start()] + new + frame.payload[old.end() :])


def decoded(frame: Frame) -> list[Event]:
    """Return the events of a frame; none for a dead letter."""
    try:
        return EXCHANGES[frame.exchange].decode(frame)
    except DecodeError:
        return []


BAD = [
    *(b"0", b"-1", b'"0"', b'"-1"', b'"NaN"', b"NaN", b'"Infinity"', b"1E+400", b'"1E+400"', b"1E+999999999"),
    *(
        b'"1E+999999999"',
        b"9" * 40,
        b'"' + b"9" * 40 + b'"',
        b'""',
        b"null",
        b"[]",
        b"{}",
        b"true",
        b'"1_000"',
        b'" 1"',
    ),
    *(b'"\xef\xbc\x91"', b'"1,5"', b'"0x10"', b'"\\u0000"', b"-0.0", b"1E-400"),
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
@pytest.mark.parametrize("exchange", RECORDED)
def test_B9_a_last_price_that_cannot_be_is_never_a_value(exchange: str, bad: bytes) -> None:
    frame, event = first(exchange, Ticker)
    assert isinstance(event, Ticker)
    places = tokens(frame.payload, float(event.last))
    changed = [decoded(instead(frame, place, bad)) for place in places]
    lasts = [ticker.last for events in changed for ticker in events if isinstance(ticker, Ticker)]
    assert places and lasts.count(event.last) == len(lasts)  # where another field had the same number
    assert len(lasts) < len(places)


@pytest.mark.parametrize("bad", BAD, ids=repr)
@pytest.mark.parametrize("exchange", RECORDED)
def test_B9_a_level_that_cannot_be_is_never_in_a_book(exchange: str, bad: bytes) -> None:
    frame, event = first(exchange, BookUpdate)
    assert isinstance(event, BookUpdate)
    for value in (event.bids[0].price, event.bids[0].size):
        for place in tokens(frame.payload, value):
            for update in decoded(instead(frame, place, bad)):
                assert isinstance(update, BookUpdate)
                assert all(0 < level.price < MOST and 0 <= level.size < MOST for level in [*update.bids, *update.asks])
                assert len(update.bids) + len(update.asks) <= len(event.bids) + len(event.asks)


@pytest.mark.parametrize("good", ["0.000000000001", "999999999.999999", "1E-7", "1e3"])
@pytest.mark.parametrize("exchange", RECORDED)
def test_B9_small_and_large_numbers_keep_their_value(exchange: str, good: str) -> None:
    frame, event = first(exchange, BookUpdate)
    assert isinstance(event, BookUpdate)
    place = tokens(frame.payload, event.bids[0].price)[0]
    quote = b'"' if place[0].startswith(b'"') else b""
    [update, *_] = decoded(instead(frame, place, quote + good.encode() + quote))
    assert isinstance(update, BookUpdate)
    assert float(good) in [level.price for level in [*update.bids, *update.asks]]


@pytest.mark.parametrize("exchange", RECORDED)
@pytest.mark.parametrize("kind", [Ticker, BookUpdate])
def test_B9_fields_that_are_new_change_nothing(exchange: str, kind: type[Ticker] | type[BookUpdate]) -> None:
    frame, _ = first(exchange, kind)
    more = re.sub(rb"\{(?=\")", b'{"new":{"a":[1,null]},', frame.payload)
    assert EXCHANGES[exchange].decode(msgspec.structs.replace(frame, payload=more)) == EXCHANGES[exchange].decode(frame)


def times(frame: Frame, time: int) -> Iterator[tuple[re.Match[bytes], int]]:
    """Yield the numbers of a payload that are this time, and the microseconds of their unit."""
    for unit in (1, 1_000, 1_000_000):
        yield from ((match, unit) for match in tokens(frame.payload, time // unit) if time % unit == 0)


@pytest.mark.parametrize("exchange", RECORDED)
@pytest.mark.parametrize("kind", [Ticker, BookUpdate])
def test_B12_a_time_that_cannot_be_is_bad_time_or_right(exchange: str, kind: type[Ticker] | type[BookUpdate]) -> None:
    frame, event = first(exchange, kind)
    assert event.exchange_time is not None
    for place, unit in times(frame, event.exchange_time):
        quote = b'"' if place[0].startswith(b'"') else b""
        stamp = event.exchange_time // unit
        wrong = (0, 1, -1, stamp // 1000, stamp * 1000, 4_102_444_800_000_000 // unit, 2**63, 10**40)
        for number in wrong:
            changed = instead(frame, place, quote + str(number).encode() + quote)
            events = [decoded_event for decoded_event in decoded(changed) if isinstance(decoded_event, kind)]
            times_read = [
                decoded_event.exchange_time or event.exchange_time for decoded_event in events
            ]  # another unit, or the message's other time
            assert all(abs(time - event.exchange_time) < 1_000_000 for time in times_read), number


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-08-02T12:35:51.660084+09:00", 1_785_641_751_660_084),
        ("2026-08-02T03:35:51.660084", 1_785_641_751_660_084),
        ("2026-08-02T03:35:51.660084999Z", 1_785_641_751_660_084),
        ("1970-01-01T00:00:00.000000Z", None),
    ],
)
def test_B12_a_written_time_is_right_in_every_zone(text: str, time: int | None) -> None:
    ticker = f'{{"channel":"ticker","data":[{{"symbol":"BTC/USD","last":1.0,"timestamp":"{text}"}}]}}'
    [event] = say("kraken", Channel.TICKER, ticker.encode())
    assert isinstance(event, Ticker) and event.exchange_time == time


@pytest.mark.parametrize("text", ["2100-01-01T00:00:01Z", "2008-01-01T00:00:00Z", "now"])
def test_B12_a_written_time_that_cannot_be_is_a_dead_letter(text: str) -> None:
    ticker = f'{{"channel":"ticker","data":[{{"symbol":"BTC/USD","last":1.0,"timestamp":"{text}"}}]}}'
    frame = msgspec.structs.replace(frames("kraken", "ticker")[0], received_time=1_795_000_000_000_000)
    with pytest.raises(DecodeError):
        EXCHANGES["kraken"].decode(msgspec.structs.replace(frame, payload=ticker.encode()))


PROVED = [("kraken", "book_sequence_1"), ("kraken", "book_sequence_2"), ("okx", "book_sequence_1")]
PROVED += [("okx", "book_sequence_2"), ("okx", "book_sequence_3")]
BEST = {"kraken": 10, "okx": 25}  # levels a side that the checksum proves

Best = tuple[list[Level], list[Level]]


class Moment:
    """An update of a recorded sequence, the book before it, and the proved part of the book after it."""

    def __init__(self, exchange: Exchange, before: BookUpdate, update: BookUpdate, after: Best) -> None:
        self.exchange, self.before, self.update, self.after = exchange, before, update, after

    def book(self) -> Book:
        """Return the book as it was before the update."""
        book = self.exchange.book()
        book.apply(self.before)
        return book


def best(exchange: Exchange, book: Book) -> Best:
    """Return the part of a book that its checksum proves."""
    return book.bids.top(BEST[exchange.name]), book.asks.top(BEST[exchange.name])


def moments(exchange: str, stem: str) -> list[Moment]:
    """Return all changes that a recorded sequence makes to a valid book."""
    adapter, book, changes = EXCHANGES[exchange], EXCHANGES[exchange].book(), list[Moment]()
    for frame in frames(exchange, stem):
        for event in adapter.decode(frame):
            if isinstance(event, Subscribed):
                book.depth = event.depth
            elif isinstance(event, BookUpdate):
                before = book.snapshot(event.pair)
                adapter.apply(book, event)
                if not event.is_snapshot:
                    changes.append(Moment(adapter, before, event, best(adapter, book)))
    return changes


def is_caught(moment: Moment, *updates: BookUpdate) -> bool:
    """Return whether these updates, in place of the moment's, raise an error. If not, the proved part must be right."""
    book = moment.book()
    try:
        for update in updates:
            moment.exchange.apply(book, update)
    except ChecksumMismatch:
        assert not book.is_valid
        return True
    assert best(moment.exchange, book) == moment.after
    return False


@pytest.mark.parametrize(("exchange", "stem"), PROVED)
def test_F1_B1_a_lost_message_is_found_at_the_next_one_or_has_changed_nothing_proved(exchange: str, stem: str) -> None:
    history = moments(exchange, stem)
    caught = [
        is_caught(Moment(lost.exchange, lost.before, lost.update, following.after), following.update)
        for lost, following in zip(history[::3], history[1::3], strict=False)
        if lost.update.bids or lost.update.asks
    ]
    assert sum(caught) > len(caught) / 3


@pytest.mark.parametrize(("exchange", "stem"), PROVED)
def test_F1_B1_swapped_messages_are_found_or_have_changed_nothing_proved(exchange: str, stem: str) -> None:
    history = moments(exchange, stem)
    caught = [
        is_caught(
            Moment(first_moment.exchange, first_moment.before, first_moment.update, third_moment.after),
            second_moment.update,
            first_moment.update,
            third_moment.update,
        )
        for first_moment, second_moment, third_moment in zip(history[::5], history[1::5], history[2::5], strict=False)
    ]
    assert any(caught)


@pytest.mark.parametrize(("exchange", "stem"), PROVED)
def test_F1_a_changed_digit_is_found_or_has_changed_nothing_proved(exchange: str, stem: str) -> None:
    caught = []
    for moment in moments(exchange, stem)[::7]:
        for side in ("bids", "asks"):
            levels = getattr(moment.update, side)
            if levels and levels[0].size:
                wrong = msgspec.structs.replace(
                    levels[0],
                    size=levels[0].size * 10,
                    text=levels[0].text[:-1] + str((int(levels[0].text[-1]) + 1) % 10),
                )
                caught.append(is_caught(moment, msgspec.structs.replace(moment.update, **{side: [wrong, *levels[1:]]})))
    assert sum(caught) > len(caught) / 3


@pytest.mark.parametrize(("exchange", "stem"), PROVED)
def test_a_message_that_comes_twice_raises_no_alarm_and_changes_nothing(exchange: str, stem: str) -> None:
    for moment in moments(exchange, stem)[::5]:
        assert not is_caught(moment, moment.update, moment.update)


def test_a_book_that_was_lost_waits_for_its_snapshot_and_is_then_right_again() -> None:
    exchange, book = EXCHANGES["kraken"], EXCHANGES["kraken"].book()
    updates = [u for f in frames("kraken", "book_sequence_1") for u in exchange.decode(f) if isinstance(u, BookUpdate)]
    later = next(number for number, update in enumerate(updates[1:], 1) if update.is_snapshot)
    exchange.apply(book, updates[0])
    with pytest.raises(BookError):
        exchange.apply(book, msgspec.structs.replace(updates[1], checksum=1))
    assert {exchange.apply(book, update) for update in updates[2:later]} == {Applied.WAITING}
    assert {exchange.apply(book, update) for update in updates[later:]} == {Applied.APPLIED}


def test_a_refused_pair_costs_that_pair_only() -> None:
    acknowledged = b'{"method":"subscribe","result":{"channel":"ticker","symbol":"ETH/USD"},"success":true}'
    refused = b'{"error":"Currency pair not supported NO/USD","method":"subscribe","success":false,"symbol":"NO/USD"}'
    assert say("kraken", Channel.TICKER, acknowledged) == [Subscribed(pair=Pair("ETH", "USD"))]
    [event] = say("kraken", Channel.TICKER, refused)
    assert getattr(event, "pair", None) == Pair("NO", "USD")
