"""Frames that are sent again, however much later: known by their number, live and in windows alike."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import SECOND, BookUpdate, Channel, Kind, Pair, Window
from coin_platform.orchestration.materialise import materialise_raw, materialise_rows
from coin_platform.records import Checkpoint, Facts, Header, Record
from coin_platform.settings import Settings
from coin_platform.tables.dataframes import last_numbers, raw_table
from coin_platform.tables.frame_numbers import ANY_COLLECTOR_MEMORY, OWN_COLLECTOR_MEMORY, LastNumbers
from tests.kit.log import TIME
from tests.kit.raw_log import RawLog
from tests.kit.recordings import frames

MINUTE = 60 * SECOND
START = TIME // MINUTE * MINUTE
SETTINGS = Settings(window="1m")
C = (1, "c")


class NumberedLog(RawLog):
    """A raw partition whose frames have the numbers that a test gives, and its windows in a lake."""

    def __init__(self, exchange: str, channel: Channel) -> None:
        super().__init__(exchange, channel, SETTINGS, START)
        self.lake = Lake(MemoryStore(), MINUTE)

    def append(self, *numbers: int, payload: bytes | None = None, epoch: int = 1, name: str = "c") -> None:
        """Log frames of these numbers, each with a message of its own."""
        for number in numbers:
            self.time += 1000
            text = payload or trade(epoch * 1000 + number)
            self.store(Header(Kind.SOCKET, epoch, name, number, START), text)

    def wait(self, seconds: float) -> None:
        self.time += int(seconds * SECOND)

    def own(self, kind: Kind, number: int, facts: Facts) -> None:
        self.time += 1000
        self.store(Header(kind, 1, "c", number, START), facts.pack())

    @property
    def live(self) -> list[int]:
        """The raw offsets of the processed records."""
        return [record["offset"] for record in self.processed]

    def windows(self, *left_out: int) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Yield the raw offsets of the rows of each window, and what its footer says."""
        stop = self.time
        self.time += MINUTE + 10 * SECOND
        for index in range((stop - START) // MINUTE + 1):
            window = Window(START + index * MINUTE, START + (index + 1) * MINUTE)
            if index in left_out:
                continue
            materialise_raw(self.source, window, self.broker, self.lake, SETTINGS)
            materialise_rows(self.source, window, self.broker, self.lake)
            name, channel = self.source.exchange.name, self.source.channel.value
            rows = self.lake.read(channel, name, window)
            assert rows is not None
            yield sorted(rows["offset"]), self.lake.provenance(channel, name, window) or {}

    def tabled(self) -> list[int]:
        return [offset for offsets, _ in self.windows() for offset in offsets]


def trade(id: int) -> bytes:
    """Make one of Binance's trades; every id is another trade."""
    row = {"e": "trade", "E": START // 1000, "s": "BTCUSDT", "t": id, "p": "100.5", "q": "0.25", "T": START // 1000}
    return json.dumps(row | {"m": True}).encode()


@pytest.mark.parametrize("seconds", [31, 400, pytest.param(7200, marks=pytest.mark.long)])
def test_D4_frames_that_are_sent_again_after_an_outage_are_stored_once_live_and_in_windows(seconds: int) -> None:
    log = NumberedLog("binance", Channel.TRADE)
    log.wait(40)
    log.append(*range(1, 11))
    log.run()
    log.wait(seconds)
    log.append(*range(5, 11), 11)
    log.run()
    expected = [*range(10), 16]
    assert log.live == expected
    windows = list(log.windows())
    assert [offset for offsets, _ in windows for offset in offsets] == expected
    assert sum(facts["frames_duplicate"] for _, facts in windows) == 6
    assert sum(facts["missing"] for _, facts in windows) == 0


def test_D4_tickers_that_are_sent_again_after_an_empty_window_are_stored_once_in_windows() -> None:
    """Only the numbers that the window before hands on tell that they are sent again: no record before it is read."""
    [ticker, *_] = [frame.payload for frame in frames("binance", "ticker") if frame.kind is Kind.SOCKET]
    log = NumberedLog("binance", Channel.TICKER)
    log.append(1, 2, 3, payload=ticker)
    log.wait(130)
    log.append(2, 3, 4, payload=ticker)
    assert [offsets for offsets, _ in log.windows()] == [[0, 1, 2], [], [5]]


def test_D4_frames_sent_again_while_other_connections_of_their_collector_went_on_are_stored_once() -> None:
    log = NumberedLog("binance", Channel.TRADE)
    log.append(1, 2, 3)
    for minute in range(2):
        log.wait(59)
        for number in range(300 * minute + 1, 300 * minute + 301):
            log.append(number, name="d", payload=trade(10_000 + number))
    log.run()
    log.append(2, 3, 4)
    log.run()
    expected = [*range(603), 605]
    assert log.live == expected == log.tabled()


def test_D4_frames_of_a_collector_that_comes_back_after_hours_are_stored_once_while_another_one_collects() -> None:
    log = NumberedLog("binance", Channel.TRADE)
    partition = log.partition()
    log.append(1, 2, 3)
    for number in range(1, 15):
        log.wait(59)
        log.append(number, epoch=2, name="d")
    log.append(1, 2, 3, 4)
    while partition.work(log.broker.end_offset(*partition.place)):
        partition.settle()
    expected = [*range(17), 20]
    assert log.live == expected == log.tabled()


@pytest.mark.parametrize("hours", [22, pytest.param(1, marks=pytest.mark.long)])
def test_D4_a_worker_that_begins_knows_what_the_collectors_before_sent_last(hours: int) -> None:
    log = NumberedLog("binance", Channel.TRADE)
    first, second, third = (START // 1000 + seconds * 1000 for seconds in (0, 1800, 3000))
    log.append(1, 2, epoch=first, payload=trade(1))
    log.time = second * 1000 - 300 * SECOND
    log.append(3, epoch=first, payload=trade(2))
    log.time = second * 1000
    log.append(*range(1, 300), epoch=second, name="d", payload=trade(3))
    log.time = third * 1000
    log.broker.append(log.source.topic, log.source.partition, "foreign", b"?")
    log.append(*range(1, 300), epoch=third, name="e", payload=trade(4))
    log.wait(hours * 3600)
    log.append(*range(300, 1000), epoch=third, name="e", payload=trade(5))
    log.run()
    log.append(3, epoch=first, payload=trade(6))
    log.append(299, epoch=second, name="d", payload=trade(7))
    log.append(999, 1000, epoch=third, name="e", payload=trade(8))
    end = log.broker.end_offset(log.source.topic, log.source.partition)
    log.run()
    assert [offset for offset in log.live if offset >= end - 4] == [end - 1]
    log.broker.append(log.source.topic, log.source.partition, "foreign", b"?")
    log.run()
    log.append(1000, epoch=third, name="e", payload=trade(9))
    log.run()  # begins behind a foreign record
    assert log.live[-1] == end - 1


def test_D4_without_the_window_before_or_its_numbers_the_records_just_before_tell_them() -> None:
    log = NumberedLog("binance", Channel.TRADE)
    log.wait(50)
    log.append(1, 2, 3)
    log.wait(12)
    log.append(2, 3, 4)
    assert [offsets for offsets, _ in log.windows(0)] == [[5]]
    log = NumberedLog("binance", Channel.TRADE)
    log.wait(50)
    log.append(1, 2, 3)
    first = Window(START, START + MINUTE)
    log.wait(12)
    log.append(2, 3, 4)
    list(log.windows())
    raw = log.lake.read("raw_trade", "binance", first)
    facts = log.lake.provenance("raw_trade", "binance", first)
    assert raw is not None and facts is not None
    old = {name: facts[name] for name in ("topic", "partition", "start_offset", "stop_offset", "frames")}
    log.lake.commit("raw_trade", "binance", first, raw, old)  # as earlier versions did
    materialise_rows(log.source, Window(first.stop, first.stop + MINUTE), log.broker, log.lake)
    rows = log.lake.read("trade", "binance", Window(first.stop, first.stop + MINUTE))
    assert rows is not None and rows["offset"].to_list() == [5]


def test_D4_a_hole_in_the_numbers_is_seen_across_the_end_of_a_window() -> None:
    log = NumberedLog("binance", Channel.TRADE)
    log.append(1, 2)
    log.wait(100)
    log.append(5)
    assert [facts["missing"] for _, facts in log.windows()] == [0, 2]


def test_D4_books_whose_changes_have_no_number_are_not_changed_by_frames_that_are_sent_again() -> None:
    exchange = EXCHANGES["coinbase"]
    log = NumberedLog("coinbase", Channel.ORDERBOOK)
    said = [frame for frame in frames("coinbase", "book_sequence_1") if frame.kind is Kind.SOCKET][:60]
    book, pair = exchange.book(), Pair("", "")
    for event in (event for frame in said[:50] for event in exchange.decode(frame)):
        if isinstance(event, BookUpdate):
            pair = event.pair
            exchange.apply(book, event)
    facts = Facts(pairs=[str(pair)], book=Checkpoint.of(book.snapshot(pair)))

    def append(*numbers: int) -> None:
        for number in numbers:
            log.append(number, payload=said[number - 1].payload)

    append(*range(1, 51))
    log.wait(20)
    log.own(Kind.CHECKPOINT, 50, facts)  # all that the next window reads of the time before it
    log.wait(45)
    log.run()
    append(*range(41, 61))
    log.run()
    windows = list(log.windows())
    assert [facts["faults"] for _, facts in windows] == [0, 0]
    offsets = [offset for found, _ in windows for offset in found]
    assert offsets == log.live and not set(range(51, 61)) & set(offsets) and set(offsets) & set(range(61, 71))


def test_D4_what_a_window_hands_on_is_bounded() -> None:
    numbers = LastNumbers()
    for minute in range(26 * 60):  # a connection that ends every minute, and a collector that ends every hour
        numbers.take((1 + minute // 60, f"c{minute}"), 1, START + minute * MINUTE)
    known = numbers.pack()
    assert len(known) <= 25 * 11
    assert {epoch for epoch, *_ in known} == set(range(2, 27))


def test_D4_a_connection_is_forgotten_by_what_the_log_says_and_not_by_silence() -> None:
    numbers = LastNumbers()
    assert numbers.take(C, 5, START) == 0
    assert numbers.take(C, 5, START + 10 * ANY_COLLECTOR_MEMORY) is None, "nothing else was logged meanwhile"
    assert numbers.take((1, "d"), 1, START + OWN_COLLECTOR_MEMORY) == 0
    assert numbers.take(C, 4, START + OWN_COLLECTOR_MEMORY + 1) is None
    assert numbers.take((1, "d"), 2, START + OWN_COLLECTOR_MEMORY + 1) == 0
    assert numbers.take(C, 4, START + 2 * OWN_COLLECTOR_MEMORY) == 0, "forgotten: its collector has long gone on"
    assert numbers.take((2, "e"), 1, START + ANY_COLLECTOR_MEMORY) == 0
    assert numbers.take(C, 4, START + ANY_COLLECTOR_MEMORY + SECOND) is None
    assert numbers.take((2, "e"), 9, START + 3 * ANY_COLLECTOR_MEMORY) == 7
    assert numbers.take(C, 4, START + 3 * ANY_COLLECTOR_MEMORY + 1) == 0


def test_D4_records_of_our_own_tell_a_number_but_no_hole() -> None:
    numbers = LastNumbers()
    assert numbers.reach(C, 7, START)
    assert numbers.pack() == []
    assert numbers.take(C, 7, START) is None
    assert numbers.take(C, 9, START) == 0
    assert numbers.take(C, 11, START) == 1
    assert not numbers.reach(C, 10, START)
    assert numbers.reach(C, 11, START)
    known = LastNumbers()
    known.reach(C, 7, START)
    known.learn([(1, "c", 7, START - 1)])
    assert known.take(C, 9, START) == 1


SENT = st.lists(
    st.tuples(st.integers(1, 2), st.sampled_from("ab"), st.integers(1, 9), st.sampled_from([0, 1, 599, 601, 90_000])),
    max_size=30,
)


@given(SENT, st.lists(st.integers(0, 30), max_size=3))
def test_D4_the_numbers_do_not_depend_on_how_the_log_was_cut(sent: Sequence[Any], cuts: list[int]) -> None:
    whole, time = LastNumbers(), START
    records, answers = list[Record](), list[bool]()
    for offset, (epoch, name, number, seconds) in enumerate(sent):
        time += seconds * SECOND
        records.append(Record(offset, time, Header(Kind.SOCKET, epoch, name, number, START).pack(), b""))
        answers.append(whole.take((epoch, name), number, time) is None)
    known: list[Any] = []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(records)], strict=True):
        part = LastNumbers(known)
        for record, (epoch, name, number, _), answer in zip(
            records[start:stop], sent[start:stop], answers[start:stop], strict=True
        ):
            assert (part.take((epoch, name), number, record.time) is None) == answer
        known = last_numbers(raw_table(records[start:stop]), known)
        assert known == part.pack()
    assert known == whole.pack()
