"""A known loss costs a book its trust where the exchange proves no book: in the windows as in the collector."""

from typing import Any

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import BookUpdate, Cause, Channel, Kind, Pair, Subscribed
from coin_platform.records import Checkpoint, Facts, Header, Record
from coin_platform.tables.dataframes import Batch, batch
from coin_platform.tables.gap_table import Gaps, StoredFault
from coin_platform.tables.outcomes import FrameOutcome
from coin_platform.tables.transform import Transform
from tests.kit.log import TIME, conserves
from tests.kit.recordings import frames

HIDING = [name for name, exchange in EXCHANGES.items() if exchange.can_hide_losses]
PROVING = [name for name, exchange in EXCHANGES.items() if exchange.has_deltas and not exchange.can_hide_losses]
STEP = 1_000


class Books:
    """The log of one connection that carries the books of a recording, up to a few changes after the last snapshot."""

    def __init__(self, exchange: str) -> None:
        adapter = EXCHANGES[exchange]
        self.source = Source(adapter, Channel.ORDERBOOK, "t", 0)
        recording = [frame for frame in frames(exchange, "book_sequence_1") if frame.kind is Kind.SOCKET]
        self._said = {frame.payload: adapter.decode(frame) for frame in recording}
        self.payloads = [frame.payload for frame in recording]
        snapshots = [
            at for at, payload in enumerate(self.payloads) if any(each.is_snapshot for each in self.of(payload))
        ]
        self.middle = max(snapshots, default=0) + 5
        self.payloads = self.payloads[: self.middle + 20]
        self.records: list[Record] = []
        self.number = 0
        self.names = sorted({str(update.pair) for update in self.of(*self.payloads)})
        self.own(Kind.OPENED)

    def of(self, *payloads: bytes) -> list[BookUpdate]:
        """Return the updates that these messages hold."""
        return [event for payload in payloads for event in self._said[payload] if isinstance(event, BookUpdate)]

    def _append(self, kind: Kind, value: bytes) -> None:
        time = TIME + len(self.records) * STEP
        header = Header(kind, 1, "c", self.number, time)
        self.records.append(Record(len(self.records), time, header.pack(), value))

    def own(self, kind: Kind, book: Checkpoint | None = None) -> None:
        self._append(kind, Facts(pairs=self.names, book=book).pack())

    def say(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.number += 1
            self._append(Kind.SOCKET, payload)

    def checkpoints(self, payloads: list[bytes]) -> None:
        """Log the books that a collector has which has read all these."""
        exchange, books = self.source.exchange, dict[Pair, Any]()
        for event in (event for payload in payloads for event in self._said[payload]):
            if isinstance(event, Subscribed) and event.pair and event.depth:
                books.setdefault(event.pair, exchange.book()).depth = event.depth
            if isinstance(event, BookUpdate):
                exchange.apply(books.setdefault(event.pair, exchange.book()), event)
        for pair, book in books.items():
            if book.is_valid:
                self.own(Kind.CHECKPOINT, Checkpoint.of(book.snapshot(pair)))

    def batch(self, start: int = 0) -> Batch:
        return batch(self.source, self.records, start)

    def gaps(self, found: Batch) -> list[Any]:
        gaps = Gaps(self.source, None)
        faults = [StoredFault(offset, str(pair), *rest) for offset, (pair, *rest) in found.transform.faults]
        gaps.read(self.records, found.rows, faults)
        return gaps.table().rows(named=True)


@pytest.mark.parametrize("exchange", HIDING)
def test_R4_after_a_frame_that_cannot_be_read_no_row_is_told_until_the_exchange_sends_the_book(exchange: str) -> None:
    books = Books(exchange)
    cut = books.middle
    before, after = books.payloads[:cut], books.payloads[cut:]
    books.say(*before, b"{half")
    dead = books.records[-1].offset
    books.say(*after[:5])
    books.checkpoints(books.payloads[: cut + 5])  # of a collector that has not noticed
    books.say(*after[5:])
    again = len(books.records)
    books.say(*books.payloads)  # the exchange sends its snapshots, and goes on
    found = books.batch()
    offsets = set(found.rows["offset"])
    assert not [offset for offset in offsets if dead <= offset < again]
    assert [offset for offset in offsets if offset < dead] and [offset for offset in offsets if offset >= again]
    faults = [(offset, fault) for offset, fault in found.transform.faults if fault.cause is not Cause.NO_BOOK]
    assert {(offset, fault.cause) for offset, fault in faults} == {(dead, Cause.UNREADABLE)}
    assert {str(fault.pair) for _, fault in faults} == set(books.names)
    assert found.counts["frames_invalid"] > 0 and conserves(found)
    gaps = {gap["pair"]: gap for gap in books.gaps(found) if gap["cause"] == "unreadable"}
    assert set(gaps) == set(books.names)
    for name, gap in gaps.items():
        rows = found.rows.filter(pair=name)
        assert gap["from"] == rows.filter(rows["offset"] < dead)["received_time"].max()
        assert gap["to"] == rows.filter(rows["offset"] >= again)["received_time"].min()


@pytest.mark.parametrize("exchange", HIDING)
def test_R4_after_frames_that_never_reached_the_log_a_checkpoint_of_the_collector_restores_the_book(
    exchange: str,
) -> None:
    books = Books(exchange)
    cut = books.middle
    books.say(*books.payloads[:cut])
    books.number += 3  # these the collector has read, too
    missed = books.payloads[: cut + 3]
    first = len(books.records)
    books.say(*books.payloads[cut + 3 : cut + 8])
    books.checkpoints(missed + books.payloads[cut + 3 : cut + 8])
    again = len(books.records)
    books.say(*books.payloads[cut + 8 :])
    found = books.batch()
    offsets = set(found.rows["offset"])
    assert not [offset for offset in offsets if first <= offset < again]
    assert [offset for offset in offsets if offset >= again]
    faults = [(offset, fault) for offset, fault in found.transform.faults if fault.cause is not Cause.NO_BOOK]
    assert {(offset, fault.cause) for offset, fault in faults} == {(first, Cause.LOST_FRAMES)}
    assert found.counts["missing"] == 3 and conserves(found)
    assert {gap["pair"] for gap in books.gaps(found) if gap["cause"] == "lost_frames"} == set(books.names)


@pytest.mark.parametrize("exchange", HIDING)
def test_R4_a_book_that_a_checkpoint_has_shown_after_the_hole_is_trusted(exchange: str) -> None:
    books = Books(exchange)
    cut = books.middle
    books.say(*books.payloads[:cut])
    books.number += 1
    books.checkpoints(books.payloads[: cut + 1])
    again = len(books.records)
    books.say(*books.payloads[cut + 1 :])
    found = books.batch()
    assert Cause.LOST_FRAMES not in {fault.cause for _, fault in found.transform.faults}
    assert found.rows["offset"].max() == len(books.records) - 1 and again in set(found.rows["offset"])


@pytest.mark.parametrize("exchange", HIDING)
def test_R4_a_loss_of_the_window_before_is_its_fault_and_a_closed_connection_takes_its_doubts_along(
    exchange: str,
) -> None:
    books = Books(exchange)
    cut = books.middle
    books.say(*books.payloads[:cut], b"{half", *books.payloads[cut : cut + 3])
    start = len(books.records)
    books.say(*books.payloads[cut + 3 : cut + 6])
    found = books.batch(start)
    assert {fault.cause for _, fault in found.transform.faults} <= {Cause.NO_BOOK}
    assert found.rows.is_empty() and found.counts["frames_dead"] == 0
    books.own(Kind.CLOSED)
    books.own(Kind.OPENED)
    books.checkpoints(books.payloads[: cut + 6])
    books.say(*books.payloads[cut + 6 :])
    assert books.batch(start).rows.height > 0


@pytest.mark.parametrize("exchange", HIDING)
def test_R4_an_unreadable_frame_that_names_one_pair_of_its_connection_costs_that_pair_alone(exchange: str) -> None:
    books = Books(exchange)
    adapter, cut = books.source.exchange, books.middle
    other = Pair("ZRX", adapter.quote)
    books.names.append(str(other))
    books.own(Kind.PAIRS)
    books.say(*books.payloads[:cut], b'{"half":"%s"' % adapter.symbol(other).encode())
    again = len(books.records)
    books.say(*books.payloads[cut:])
    assert [offset for offset in books.batch().rows["offset"] if offset >= again]
    books.say(b'{"half":"%s"' % adapter.symbol(Pair.parse(books.names[0])).encode())
    found = books.batch()
    assert [str(fault.pair) for offset, fault in found.transform.faults if offset == len(books.records) - 1] == [
        books.names[0]
    ]


@pytest.mark.parametrize("exchange", HIDING)
def test_R4_a_connection_whose_pairs_no_record_tells_loses_all_its_books(exchange: str) -> None:
    books = Books(exchange)
    del books.records[0]
    books.say(*books.payloads[: books.middle], b"{half")
    faults = [fault for _, fault in books.batch().transform.faults if fault.cause is Cause.UNREADABLE]
    assert [str(fault.pair) for fault in faults] == books.names


@pytest.mark.parametrize("exchange", PROVING)
def test_R4_where_numbers_prove_the_books_an_unreadable_frame_costs_none_of_them(exchange: str) -> None:
    books = Books(exchange)
    cut = books.middle
    plain = Books(exchange)
    plain.say(*books.payloads)
    books.say(*books.payloads[:cut], b"{half", *books.payloads[cut:])
    found = books.batch()
    assert Cause.UNREADABLE not in {fault.cause for _, fault in found.transform.faults}
    assert found.rows.height == plain.batch().rows.height


@pytest.mark.parametrize("exchange", [*HIDING, "okx", "bybit"])
def test_R1_R4_a_change_that_our_code_fails_on_costs_the_book_until_a_checkpoint(
    exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(exchange)
    adapter, cut = books.source.exchange, books.middle
    apply, broken = adapter.apply, list[Any]()

    def failing(book: Any, update: BookUpdate) -> Any:
        if update in broken:
            raise ZeroDivisionError("what nobody thought of")
        return apply(book, update)

    place = next(at for at in range(cut, len(books.payloads)) if books.of(books.payloads[at]))
    books.say(*books.payloads[: place + 1])
    dead = len(books.records) - 1
    books.checkpoints(books.payloads[: place + 1])
    broken += books.of(books.payloads[place])
    books.say(*books.payloads[place + 1 :])
    monkeypatch.setattr(adapter, "apply", failing)
    transform = Transform(books.source)
    rows = [row for record in books.records for row in transform.feed(record)]
    assert [letter.record.offset for letter in transform.dead] == [dead]
    assert transform.frames[FrameOutcome.DEAD] == 1
    assert {fault.cause for offset, fault in transform.faults if offset == dead} == {Cause.UNREADABLE}
    offsets = [row.offset for row in rows]
    assert dead not in offsets and len(books.records) - 1 in offsets
