"""However two connections interleave, and wherever a log is cut, the rows are those of one connection."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Channel
from coin_platform.tables import schema
from coin_platform.tables.dataframes import batch
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.rows import Row
from coin_platform.tables.transform import Transform
from tests.kit.connections import (
    BINANCE_CANDLES,
    BINANCE_TRADES,
    BYBIT,
    UPBIT,
    UPBIT_BOOKS,
    PartitionRecords,
    book,
    candle,
    snapshot,
    ticker,
    trade,
    whole,
)


class Case(NamedTuple):
    """A channel of an exchange, and how its stream sounds."""

    source: Source
    pair: str
    event: Callable[[int], bytes]
    first: Callable[[int], bytes] | None = None  # what a connection hears first, of the event before


CASES = {
    "ticker": Case(UPBIT, "BTC-KRW", ticker),
    "trade": Case(BINANCE_TRADES, "BTC-USDT", trade),
    "candle": Case(BINANCE_CANDLES, "BTC-USDT", candle),
    "whole books": Case(UPBIT_BOOKS, "BTC-KRW", whole),
    "books of changes": Case(BYBIT, "BTC-USDT", lambda number: book(number + 10), lambda n: snapshot(n + 9)),
}


class Rotation(NamedTuple):
    """A connection brings events `[0, end)`, its successor `[start, total)`, in some interleaving."""

    total: int
    start: int
    end: int
    before: int  # events that came before the successor was opened
    order: list[bool]  # whose turn it is: the successor's?
    pauses: list[int]  # ms

    def log(self, case: Case) -> PartitionRecords:
        """Write it down."""
        log = PartitionRecords(case.pair)
        pauses = iter([*self.pauses, *[1] * 100])
        log.open("a")
        if case.first:
            log.say("a", case.first(0))
        log.say("a", *(case.event(number) for number in range(self.before)))
        log.open("b")
        if case.first:
            log.say("b", case.first(self.start))
        lines = {"a": iter(range(self.before, self.end)), "b": iter(range(self.start, self.total))}
        turns = ["b" if is_new else "a" for is_new in self.order] + ["a"] * self.total + ["b"] * self.total
        is_closed = False
        for name in turns:
            log.wait(next(pauses) / 1000)
            number = next(lines[name], None)
            if number is not None:
                log.say(name, case.event(number))
            elif name == "a" and not is_closed:
                is_closed = True
                log.close("a")
        return log


@st.composite
def rotations(draw: st.DrawFn) -> Rotation:
    """Draw one in which nothing is lost: the old connection ends after the successor's first event."""
    total = draw(st.integers(1, 12))
    start = draw(st.integers(0, total))
    end = draw(st.integers(start, total))
    before = draw(st.integers(0, min(start + 1, end)))  # it may be greeted with the last of them
    order = draw(st.lists(st.booleans(), max_size=2 * total))
    pauses = draw(st.lists(st.integers(0, 900), max_size=24))
    return Rotation(total, start, end, before, order, pauses)


def events(source: Source, rows: Iterable[Row]) -> list[object]:
    """Return what tells the events of rows apart: price, id, size or sequence."""
    names = {Channel.TICKER: "last", Channel.TRADE: "id", Channel.CANDLE: "close", Channel.ORDERBOOK: "sequence"}
    name = "best_bid_size" if source is UPBIT_BOOKS else names[source.channel]
    position = schema.CURATED[source.channel].names().index(name)
    return sorted((row.columns[position] for row in rows), key=lambda value: float(str(value)))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@settings(deadline=None, max_examples=150)
@given(rotations())
def test_F5_any_interleaving_of_two_connections_gives_the_rows_of_one(case: Case, rotation: Rotation) -> None:
    records = rotation.log(case).records
    one = Rotation(rotation.total, rotation.total, rotation.total, rotation.total, [], []).log(case).records
    wanted_pairs, transform = Transform(case.source), Transform(case.source)
    told = events(case.source, [row for record in records for row in transform.feed(record)])
    single = events(case.source, [row for record in one for row in wanted_pairs.feed(record)])
    assert len(single) == rotation.total + (case.first is not None)
    assert told == single


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@settings(deadline=None, max_examples=60)
@given(rotations(), st.data())
def test_a_log_that_is_fed_again_or_cut_anywhere_gives_the_same_rows(
    case: Case, rotation: Rotation, data: st.DataObject
) -> None:
    records = rotation.log(case).records
    transform = Transform(case.source)
    told = [row for record in records for row in transform.feed(record)]
    again = [record._replace(offset=record.offset + len(records), time=records[-1].time) for record in records]
    assert [row for record in again for row in transform.feed(record)] == []
    start = data.draw(st.integers(0, len(records)), label="start")
    cut = Transform(case.source, start)
    assert [row for record in records for row in cut.feed(record)] == [row for row in told if row.offset >= start]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@settings(deadline=None, max_examples=60)
@given(rotations(), st.integers(0, 3600), st.integers(5, 40))
def test_S6_live_and_windows_agree_wherever_the_boundary_lies_in_an_overlap(
    case: Case, rotation: Rotation, shift: int, length: int
) -> None:
    log = rotation.log(case)
    window = length * SECOND
    records = [record._replace(time=record.time + shift * SECOND // 100) for record in log.records]
    live, stored = Transform(case.source, window=window), []
    told = [row for record in records for row in live.feed(record)]
    for number in range(records[0].time // window, records[-1].time // window + 1):
        begin = number * window
        fed = [record for record in records if begin - LEAD <= record.time < begin + window]
        start = next((record.offset for record in records if record.time >= begin), len(records))
        own = Transform(case.source, start)
        stored += [row for record in fed for row in own.feed(record)]
    assert told == stored


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from("ab"), max_size=16), st.lists(st.integers(0, 2), min_size=8, max_size=8))
def test_repeated_bytes_are_as_many_rows_as_the_connection_that_brought_most(order: list[str], said: list[int]) -> None:
    log = PartitionRecords("BTC-KRW", opened="ab")
    lines = {name: iter(said) for name in "ab"}
    brought: dict[str, list[int]] = {"a": [], "b": []}
    for name in order:
        number = next(lines[name], None)
        if number is not None:
            brought[name].append(number)
            log.say(name, ticker(number))
    rows = batch(UPBIT, log.records).rows["last"].to_list()
    wanted_pairs = [
        100.0 + number for number in range(3) for _ in range(max(said.count(number) for said in brought.values()))
    ]
    assert sorted(rows) == wanted_pairs
