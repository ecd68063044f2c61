"""Two connections that carry the same: each event is one row, whichever brings it first, and none is lost."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.broker import MemoryBroker
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.feed import Feed
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.demo.processes import free_port
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import SECOND, BookUpdate, Channel, Data, Kind, Microseconds, Pair, Trade, Window
from coin_platform.orchestration.materialise import materialise_raw, materialise_rows
from coin_platform.records import Checkpoint, Facts, Header, Record, frame, unpack, unpack_facts
from coin_platform.selection import sources, wanted_pairs
from coin_platform.settings import Settings
from coin_platform.simulator.sent_log import open_log
from coin_platform.simulator.server import Simulator
from coin_platform.tables import schema
from coin_platform.tables.dataframes import Batch, batch
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.rows import Row
from coin_platform.tables.transform import Transform
from tests.kit.log import TIME, conserves
from tests.kit.recordings import frames
from tests.kit.waiting import eventually

UPBIT = Source(EXCHANGES["upbit"], Channel.TICKER, "t", 0)
UPBIT_TRADES = Source(EXCHANGES["upbit"], Channel.TRADE, "t", 0)
UPBIT_BOOKS = Source(EXCHANGES["upbit"], Channel.ORDERBOOK, "t", 0)
BINANCE_TRADES = Source(EXCHANGES["binance"], Channel.TRADE, "t", 0)
BINANCE_CANDLES = Source(EXCHANGES["binance"], Channel.CANDLE, "t", 0)
BINANCE_BOOKS = Source(EXCHANGES["binance"], Channel.ORDERBOOK, "t", 0)
BYBIT = Source(EXCHANGES["bybit"], Channel.ORDERBOOK, "t", 1)
GATEIO = Source(EXCHANGES["gateio"], Channel.ORDERBOOK, "t", 2)
KRAKEN = Source(EXCHANGES["kraken"], Channel.ORDERBOOK, "t", 1)
FIRST = 1_777_000_020_000  # ms; a whole minute
MINUTE = 60 * SECOND


class Log:
    """A partition that connections write to, a millisecond apart unless told otherwise."""

    def __init__(self, *pairs: str, transport: str = "ws") -> None:
        self.records: list[Record] = []
        self.time: Microseconds = TIME
        self._numbers: dict[tuple[int, str], int] = {}
        self._pairs, self._transport = list(pairs), transport

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.time += int(seconds * SECOND)

    def open(self, connection: str, *pairs: str, epoch: int = 1) -> None:
        """Log that a connection was opened."""
        facts = Facts(transport=self._transport, pairs=list(pairs or self._pairs))
        self.own(Kind.OPENED, connection, facts, epoch=epoch)

    def close(self, connection: str, epoch: int = 1) -> None:
        """Log that it was closed."""
        self.own(Kind.CLOSED, connection, Facts(reason="replaced"), epoch=epoch)

    def own(self, kind: Kind, connection: str, facts: Facts, epoch: int = 1) -> None:
        """Log a record of our own."""
        self._append(
            Header(kind, epoch, connection, self._numbers.get((epoch, connection), 0), self.time), facts.pack()
        )

    def say(self, connection: str, *payloads: bytes, epoch: int = 1) -> None:
        """Log what a socket brought."""
        for payload in payloads:
            self._append(Header(Kind.SOCKET, epoch, connection, self._next(epoch, connection), self.time), payload)

    def answer(self, connection: str, payload: bytes, pair: Pair) -> None:
        """Log what REST answered."""
        self._append(Header(Kind.REST, 1, connection, self._next(1, connection), self.time, pair), payload)

    def rows(self, source: Source) -> list[int]:
        """Return the offsets of the frames that gave rows; nothing goes unaccounted."""
        return offsets(batch(source, self.records))

    def _next(self, epoch: int, connection: str) -> int:
        self._numbers[epoch, connection] = self._numbers.get((epoch, connection), 0) + 1
        return self._numbers[epoch, connection]

    def _append(self, header: Header, value: bytes) -> None:
        self.time += 1000
        self.records.append(Record(len(self.records), self.time, header.pack(), value))


def offsets(result: Batch) -> list[int]:
    """Return where the rows are from, in order; all frames are accounted for, and no fault was found."""
    assert conserves(result) and not result.counts["frames_dead"] and not result.counts["missing"]
    return [int(offset) for offset in result.rows["offset"].sort()]


def ticker(number: int) -> bytes:
    """Make an Upbit ticker; another number, another price."""
    return json.dumps(json.loads(frames("upbit", "ticker")[0].payload) | {"trade_price": 100.0 + number}).encode()


def trade(number: int) -> bytes:
    """Make a Binance trade with an id."""
    row = {"e": "trade", "E": FIRST, "s": "BTCUSDT", "t": number, "p": "100.5", "q": "0.25", "T": FIRST, "m": True}
    return json.dumps(row).encode()


def nameless(*prices: float) -> bytes:
    """Make an Upbit answer with trades that have no id."""
    head = {"market": "KRW-BTC", "timestamp": 1_777_000_000_000, "trade_volume": 2, "ask_bid": "ASK"}
    return json.dumps([head | {"trade_price": price} for price in prices]).encode()


def candle(number: int) -> bytes:
    """Make a Binance candle of one minute; another number, another close."""
    values = {"t": FIRST, "s": "BTCUSDT", "i": "1m", "o": "100", "c": str(100 + number), "h": "200", "l": "50"}
    return json.dumps(
        {"e": "kline", "E": FIRST + 1, "s": "BTCUSDT", "k": values | {"v": "3", "q": "300", "x": False}}
    ).encode()


def whole(number: int) -> bytes:
    """Make an Upbit book; another number, another size."""
    unit = {"ask_price": 2.0, "bid_price": 1.0, "ask_size": 1.0, "bid_size": 1.0 + number}
    row = {"type": "orderbook", "code": "KRW-BTC", "timestamp": 1_777_000_000_000, "orderbook_units": [unit]}
    return json.dumps(row).encode()


def book(sequence: int, kind: str = "delta") -> bytes:
    """Make a Bybit change, or a whole book, with the sequence as the size of its best bid."""
    data = {"s": "BTCUSDT", "b": [["100", str(sequence)]], "a": [["101", "1"]], "u": sequence, "seq": sequence}
    head = {"topic": "orderbook.200.BTCUSDT", "type": kind, "ts": 1_777_000_000_000, "cts": 1_777_000_000_000}
    return json.dumps(head | {"data": data}).encode()


def snapshot(sequence: int) -> bytes:
    """Make a whole Bybit book."""
    return book(sequence, "snapshot")


def test_a_ticker_that_two_connections_bring_is_one_row() -> None:
    log = Log("BTC-KRW")
    log.open("a")
    log.say("a", ticker(1))  # 1: before there is another
    log.open("b")
    log.say("a", ticker(2))  # 3
    log.say("b", ticker(2), ticker(3))  # 5: b is ahead now
    log.say("a", ticker(3), ticker(4))  # 7
    log.close("a")
    log.say("b", ticker(4), ticker(5))  # 9 is a copy of what a brought before it was closed; 10
    result = batch(UPBIT, log.records)
    assert offsets(result) == [1, 3, 5, 7, 10]
    assert (result.counts["frames_duplicate"], result.counts["rows_repeated"]) == (3, 3)
    assert result.rows["last"].to_list() == [101, 102, 103, 104, 105]


def test_the_same_bytes_twice_on_one_connection_are_two_events() -> None:
    log = Log("BTC-KRW")
    log.open("a")
    log.open("b")
    log.say("a", ticker(1), ticker(1))  # 2, 3
    log.say("b", ticker(1), ticker(1), ticker(1))  # two copies, and 6
    log.say("a", ticker(1), ticker(1))  # a copy, and 8
    assert log.rows(UPBIT) == [2, 3, 6, 8]


def test_without_an_overlap_the_same_bytes_are_another_event() -> None:
    log = Log("BTC-KRW")
    log.open("a")
    log.say("a", ticker(1))
    log.close("a")
    log.open("b")
    log.say("b", ticker(1))
    assert log.rows(UPBIT) == [1, 4]
    log = Log()
    log.open("a", "BTC-KRW")
    log.open("b", "ETH-KRW")  # another shard
    log.say("a", ticker(1))
    log.say("b", ticker(1))
    assert log.rows(UPBIT) == [2, 3]


def test_of_what_came_before_a_connection_was_opened_it_can_repeat_the_newest_only() -> None:
    log = Log("BTC-KRW")
    log.open("a")
    log.open("b")
    log.say("a", ticker(1), ticker(2))  # 2, 3
    log.open("c")
    log.say("c", ticker(2), ticker(1), ticker(2))  # what it is greeted with, and two events that happened again: 6, 7
    log.say("b", ticker(1), ticker(2))  # copies of a's
    log.open("d")
    log.say("b", ticker(2))  # a copy of c's
    log.own(Kind.OPENED, "e", Facts(pairs=["ETH-KRW"]))
    log.say("e", ticker(2))  # 13: it has nothing in common with the others
    log.own(Kind.OPENED, "f", Facts(pairs=["ETH-KRW"]))
    log.say("f", ticker(2))  # 15: what was told last is not of its pair
    assert log.rows(UPBIT) == [2, 3, 6, 7, 13, 15]
    log = Log("BTC-KRW")
    log.open("a")
    log.say("a", ticker(1))
    log.wait(LEAD / SECOND)
    log.open("b")
    log.say("b", ticker(1))
    assert log.rows(UPBIT) == [1, 3]


def test_three_connections_bring_one_row() -> None:
    log = Log("BTC-KRW")
    for name in "abc":
        log.open(name)
    for name in "abc":
        log.say(name, ticker(1))
    log.say("c", ticker(2))
    log.say("a", ticker(2))
    log.say("b", ticker(2))
    assert log.rows(UPBIT) == [3, 6]


def test_pairs_that_change_begin_and_end_an_overlap() -> None:
    log = Log()
    log.open("a", "BTC-KRW")
    log.open("b", "ETH-KRW")
    log.own(Kind.PAIRS, "b", Facts(pairs=["ETH-KRW", "BTC-KRW"]))
    log.say("a", ticker(1))
    log.say("b", ticker(1))  # a copy
    log.own(Kind.PAIRS, "b", Facts(pairs=["ETH-KRW"]))
    log.wait(LEAD / SECOND + 1)
    log.say("a", ticker(2))
    log.say("b", ticker(2))
    assert log.rows(UPBIT) == [3, 6, 7]


def test_bytes_are_remembered_for_as_long_as_a_window_reads_back_and_no_longer_than_connections_overlap() -> None:
    log = Log("BTC-KRW")
    log.open("a")
    log.open("b")
    log.say("a", ticker(1), ticker(2))
    log.wait(20)
    log.say("a", ticker(2))  # 4
    log.time = log.records[2].time + LEAD - 1000
    log.say("b", ticker(1))  # just in time
    log.wait(1)
    log.say("b", ticker(2), ticker(2))  # a copy of the later one, and 7: too late for the earlier one
    log.close("a")
    log.say("b", ticker(3))
    log.wait(LEAD / SECOND + 1)
    log.say("b", ticker(4))
    assert log.rows(UPBIT) == [2, 3, 4, 7, 9, 10]
    transform = Transform(UPBIT)
    for record in log.records:
        transform.feed(record)
    overlap = transform._duplicates
    assert (overlap.is_open, list(overlap.connections), overlap._events, len(overlap._oldest_first)) == (
        False,
        [(1, "b")],
        {},
        0,
    )


def test_a_connection_whose_begin_lies_before_what_is_fed_overlaps_from_its_first_frame() -> None:
    log = Log("BTC-KRW")
    log.say("a", ticker(1))
    log.say("b", ticker(7), ticker(2))
    log.say("a", ticker(2))
    assert log.rows(UPBIT) == [0, 1, 2]
    result = batch(UPBIT, log.records, 1)  # of a window whose lead holds the first record: all of it is remembered
    assert offsets(result) == [1, 2]
    log = Log("BTC-KRW")
    log.say("a", ticker(1))
    log.say("b", ticker(1))
    assert offsets(batch(UPBIT, log.records, 1)) == []


def test_a_trade_goes_by_its_id_and_without_one_by_its_bytes() -> None:
    log = Log("BTC-USDT")
    log.open("a")
    log.open("b")
    log.say("a", trade(1))
    log.say("b", trade(1), trade(2))
    log.say("a", trade(2), trade(2))
    assert log.rows(BINANCE_TRADES) == [2, 4]
    log = Log("BTC-KRW", transport="rest")
    krw = Pair("BTC", "KRW")
    log.open("a")
    log.open("b")
    log.answer("a", nameless(1.5, 1.5), krw)  # 2: two trades
    log.answer("b", nameless(1.5, 1.5), krw)
    log.answer("b", nameless(1.5, 1.5), krw)  # 4
    log.answer("b", nameless(1.5, 1.5), Pair("ETH", "KRW"))  # 5: the answer to another question
    assert log.rows(UPBIT_TRADES) == [2, 2, 4, 4, 5, 5]


def test_a_candle_goes_by_its_bytes_and_what_replaces_it_is_counted_by_window() -> None:
    log = Log("BTC-USDT")
    log.open("a")
    log.open("b")
    log.say("a", candle(1), candle(2))
    log.say("b", candle(1), candle(2), candle(3))
    log.say("a", candle(3))
    result = batch(BINANCE_CANDLES, log.records)
    assert (offsets(result), result.rows["close"].to_list()) == ([6], [103])
    counts = result.counts
    assert (counts["rows_emitted"], counts["rows_replaced"], counts["rows_repeated"]) == (3, 2, 3)
    lead = batch(BINANCE_CANDLES, log.records, 5)  # what the lead told is no row of the window
    assert (lead.rows["close"].to_list(), lead.counts["rows_replaced"], lead.counts["rows_repeated"]) == ([103], 0, 2)
    assert conserves(lead)


def test_a_whole_book_goes_by_its_bytes() -> None:
    log = Log("BTC-KRW")
    log.open("a")
    log.open("b")
    log.say("a", whole(1))
    log.say("b", whole(1), whole(2))
    log.say("a", whole(2), whole(2))
    assert log.rows(UPBIT_BOOKS) == [2, 4, 6]


def test_a_change_that_another_connection_has_told_gives_no_row_and_still_goes_into_the_book() -> None:
    log = Log("BTC-USDT")
    log.open("a")
    log.say("a", snapshot(10), book(11))  # 1, 2
    log.open("b")
    log.say("b", snapshot(11))  # told as the change of the same sequence
    log.say("a", book(12))  # 5
    log.say("b", book(12), book(13))  # 7
    log.say("a", book(13), book(14))  # 9
    log.close("a")
    log.say("b", book(14), book(15))  # 12
    result = batch(BYBIT, log.records)
    assert offsets(result) == [1, 2, 5, 7, 9, 12]
    assert result.rows["sequence"].to_list() == [10, 11, 12, 13, 14, 15]
    assert result.rows["best_bid_size"].to_list() == [10, 11, 12, 13, 14, 15]
    assert result.counts["faults"] == 0


def test_a_successor_that_is_ahead_takes_no_row_from_what_lies_between() -> None:
    log = Log("BTC-USDT")
    log.open("a")
    log.say("a", snapshot(10))
    log.open("b")
    log.say("b", snapshot(13), book(14))  # 3, 4
    log.say("a", book(11), book(12), book(13), book(14), book(15))  # 5, 6, two copies, 9
    log.say("b", book(15))
    result = batch(BYBIT, log.records)
    assert offsets(result) == [1, 3, 4, 5, 6, 9]
    assert result.rows["sequence"].to_list() == [10, 13, 14, 11, 12, 15]


def test_what_one_connection_lost_the_other_tells() -> None:
    log = Log("BTC-USDT")
    log.open("a")
    log.open("b")
    log.say("a", snapshot(10), book(11))  # 2, 3
    log.say("b", snapshot(10))
    log.say("a", book(13))  # a gap: no row
    log.say("b", book(11), book(12), book(13))  # a copy, 7, 8
    log.say("a", snapshot(14), book(15))  # 9, 10
    log.say("b", book(14), book(15), book(16))  # two copies, 13
    result = batch(BYBIT, log.records)
    assert offsets(result) == [2, 3, 7, 8, 9, 10, 13]
    assert result.counts["faults"] == 1


def test_B8_numbers_that_begin_anew_on_both_connections_are_told_once() -> None:
    log = Log("BTC-USDT")
    log.open("a")
    log.open("b")
    log.say("a", snapshot(900), book(901))
    log.say("b", snapshot(900), book(901))
    log.say("a", snapshot(1), book(2), book(3))  # 6, 7, 8
    log.say("b", book(902))  # 9: has not heard of it yet
    log.say("b", snapshot(1), book(2), book(3), book(4))  # 13
    log.say("a", book(4))
    assert log.rows(BYBIT) == [2, 3, 6, 7, 8, 9, 13]


def test_a_snapshot_that_is_asked_for_again_is_a_row_also_when_nothing_has_changed() -> None:
    log = Log("BTC-USDT")
    log.open("a")
    log.say("a", snapshot(10), snapshot(10))
    log.close("a")
    log.open("b")
    log.say("b", snapshot(10))
    assert log.rows(BYBIT) == [1, 2, 5]


def test_a_book_that_starts_from_a_checkpoint_counts_as_told() -> None:
    log = Log("BTC-USDT")
    checkpoint = Checkpoint(pair="BTC-USDT", sequence=10, bids=[], asks=[])
    log.own(Kind.CHECKPOINT, "a", Facts(pairs=["BTC-USDT"], book=checkpoint))
    log.open("b")
    log.say("b", snapshot(10), book(11))  # a copy; 3
    log.say("a", book(11), book(12))  # a copy; 5
    assert log.rows(BYBIT) == [3, 5]


def test_a_book_over_REST_has_other_numbers_than_the_socket_s_unless_it_bridges_them() -> None:
    levels: dict[str, list[list[str]]] = {"bids": [["100", "1"]], "asks": [["101", "1"]]}
    change = {"e": "depthUpdate", "E": FIRST, "s": "BTCUSDT", "b": [["100", "2"]], "a": []}
    log = Log("BTC-USDT")
    for name, last in (("a", 10), ("b", 11)):
        log.open(name)
        log.answer(name, json.dumps({"lastUpdateId": last, **levels}).encode(), Pair("BTC", "USDT"))
        log.say(name, json.dumps(change | {"U": 11, "u": 11}).encode())
    log.say("b", json.dumps(change | {"U": 12, "u": 12}).encode())
    assert log.rows(BINANCE_BOOKS) == [1, 2, 6]  # b's whole book is of the sequence that a has told, its change older
    answer = next(frame for frame in frames("gateio", "rest_orderbook") if b'"id"' in frame.payload)
    assert answer.pair is not None
    log = Log(str(answer.pair))
    log.open("p")
    log.open("q")
    log.answer("p", answer.payload, answer.pair)
    log.answer("q", answer.payload + b" ", answer.pair)  # the same number, but other bytes
    log.answer("q", answer.payload, answer.pair)
    assert log.rows(GATEIO) == [2, 3]


def test_changes_without_a_number_go_by_their_bytes_where_the_book_of_the_other_is_right() -> None:
    said = [frame.payload for frame in frames("kraken", "book_sequence_1")[1:18]]
    head, changes = said[:2], [payload for payload in said if b'"type":"update"' in payload]
    log = Log("BTC-USD")
    for name in "ab":
        log.open(name)
        log.say(name, *head)
    start = len(log.records)
    log.say("a", changes[0])  # a loses the second: its book is wrong from the third on
    log.say("b", *changes[:2])
    log.say("a", *changes[2:5])
    log.say("b", *changes[2:5])
    result = batch(KRAKEN, log.records)
    told = [offset - start for offset in offsets(result) if offset >= start]
    assert told == [0, 2, 6, 7, 8]
    assert result.counts["faults"] == 1


def test_L3_frames_of_an_older_epoch_are_rows_only_where_their_event_is_not_there_yet() -> None:
    log = Log("BTC-KRW")
    log.open("a", epoch=1)
    log.say("a", ticker(1), epoch=1)  # 1
    log.open("b", epoch=2)
    log.say("b", ticker(2), ticker(3), epoch=2)  # 3, 4
    log.wait(20)  # the old leader was frozen
    log.say("a", ticker(2), ticker(3), ticker(4), epoch=1)  # two copies, 7
    log.say("b", ticker(4), epoch=2)
    assert log.rows(UPBIT) == [1, 3, 4, 7]


def test_L4_two_leaders_at_once_give_the_rows_of_one() -> None:
    log = Log("BTC-KRW")
    log.open("a", epoch=1)
    log.open("b", epoch=2)
    for number in range(60):
        log.wait(1)
        for name, epoch in (("a", 1), ("b", 2)) if number % 3 else (("b", 2), ("a", 1)):
            log.say(name, ticker(number), epoch=epoch)
    result = batch(UPBIT, log.records)
    assert result.rows["last"].to_list() == [100.0 + number for number in range(60)]
    assert result.counts["frames_duplicate"] == 60


def test_a_connection_of_an_older_epoch_that_is_silent_is_over() -> None:
    log = Log("BTC-KRW")
    log.open("a", epoch=1)  # its end was never logged: the collector was killed
    log.say("a", ticker(1), epoch=1)
    log.open("b", epoch=2)
    log.say("b", ticker(1), ticker(2), epoch=2)
    log.wait(LEAD / SECOND + 1)
    log.say("b", ticker(2), epoch=2)
    transform = Transform(UPBIT)
    assert [len(transform.feed(record)) for record in log.records] == [0, 1, 0, 0, 1, 1]
    assert (transform._duplicates.is_open, list(transform._duplicates.connections)) == (False, [(2, "b")])
    log.say("a", ticker(3), epoch=1)  # it was not dead
    log.say("b", ticker(3), epoch=2)
    log.own(Kind.CHECKPOINT, "a", Facts(pairs=["BTC-KRW"]), epoch=1)
    assert log.rows(UPBIT) == [1, 4, 5, 6]


def test_a_frame_behind_the_end_of_its_connection_opens_it_again() -> None:
    log = Log("BTC-KRW")
    log.open("a")
    log.close("a")
    log.wait(LEAD / SECOND + 1)
    log.say("a", ticker(1))
    log.open("b")
    log.say("a", ticker(2))
    log.say("b", ticker(2))
    assert log.rows(UPBIT) == [2, 4]


@pytest.mark.parametrize("is_trimmed", [False, True])
def test_F5_a_rotation_across_a_boundary_gives_no_row_twice_in_the_tables(*, is_trimmed: bool) -> None:
    begin = TIME // MINUTE * MINUTE
    windows = [Window(begin + n * MINUTE, begin + (n + 1) * MINUTE) for n in range(2)]
    for source, event in ((UPBIT, ticker), (BINANCE_TRADES, trade), (UPBIT_BOOKS, whole), (BYBIT, book)):
        log = Log("BTC-USDT", "BTC-KRW")
        log.time = begin + MINUTE - 2 * SECOND
        for name in "ab":
            log.open(name)
            log.say(name, *[snapshot(0)] * (source is BYBIT))
        log.say("a", event(1), event(2))
        log.say("b", event(1))
        log.wait(3)
        log.say("b", event(2), event(3))
        log.say("a", event(3))
        moments = iter([record.time for record in log.records])
        broker, lake = MemoryBroker(clock=lambda: next(moments)), Lake(MemoryStore(), MINUTE)  # noqa: B023
        for record in log.records:
            broker.append(source.topic, source.partition, record.header, record.value)
        stored = []
        for window in windows:
            materialise_raw(source, window, broker, lake, Settings(grace=timedelta()))
            if is_trimmed and window is windows[1]:
                broker.trim(source.topic, source.partition, len(log.records) - 3)
            materialise_rows(source, window, broker, lake)
            rows = lake.read(source.channel.value, source.exchange.name, window)
            assert rows is not None
            stored.append([int(offset) for offset in rows["offset"].sort()])
        assert stored == ([[1, 4, 5], [8]] if source is BYBIT else [[2, 3], [6]]), source.channel


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

    def log(self, case: Case) -> Log:
        """Write it down."""
        log = Log(case.pair)
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
    log = Log("BTC-KRW")
    log.open("a")
    log.open("b")
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


# With the exchanges' own protocols: real feeds against the simulator.


def collected(
    folder: Path, names: tuple[str, ...], epochs: tuple[int, ...], seconds: float
) -> dict[Source, list[Record]]:
    """Collect all channels of some exchanges, in all epochs at once; return what is stored.

    Connections are replaced after `seconds`, until each has been; with several epochs none is, and they run that long.
    """
    settings, broker = Settings(simulator_port=free_port(0)), MemoryBroker()
    found = [place for name in names for place in sources(EXCHANGES[name], settings)]
    found = [place for place in found if place.channel in place.exchange.channels]
    rests = {name: Rest(EXCHANGES[name]) for name in names}
    lifetime = seconds if len(epochs) == 1 else 3600.0

    def stored(place: Source) -> list[Record]:
        return list(broker.read(place.topic, place.partition, 0, broker.end_offset(place.topic, place.partition)))

    def rotations(place: Source) -> int:
        closed = [record.value for record in stored(place) if unpack(record.header).kind is Kind.CLOSED]
        return sum(unpack_facts(value).reason == "replaced" for value in closed)

    def feed(place: Source, epoch: int) -> Feed:
        host = f"127.0.0.1:{settings.simulator_port}"
        route = Route(
            *(place.exchange, place.channel, 0, place.topic, epoch, 3600 * SECOND, host),
            lifetime=(lifetime, lifetime),
        )
        access = ExchangeAccess(place.exchange, broker, rests[place.exchange.name], TokenBucket(1000.0))
        return Feed(route, wanted_pairs(place.exchange, settings), access)

    async def scenario() -> None:
        end, ready, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        with open_log(folder) as log:
            simulator = Simulator(settings, 7, log, names, rate=40)
            async with asyncio.TaskGroup() as outer:
                outer.create_task(simulator.run(end, ready))
                await ready.wait()
                async with asyncio.TaskGroup() as inner:
                    for place in found:
                        for epoch in epochs:
                            inner.create_task(feed(place, epoch).run(stop))
                    if len(epochs) > 1:
                        await asyncio.sleep(seconds)
                    else:
                        await eventually(lambda: all(rotations(place) for place in found), 30)
                    stop.set()
                end.set()
        for rest in rests.values():
            await rest.close()

    asyncio.run(scenario())
    return {place: stored(place) for place in found}


Alike: TypeAlias = defaultdict[tuple[object, ...], dict[str, int]]  # ids of trades that are alike, in their order


def said(place: Source, record: Record, alike: Alike) -> Iterator[tuple[object, ...]]:
    """Yield the events of a frame: a trade is its id, a numbered book its sequence, anything else its bytes.

    Where both transports have ids of their own, a trade is what was traded, and how often that was told before.
    """
    header = unpack(record.header)
    if not header.kind.is_frame:
        return
    found = place.exchange.decode(frame(place.exchange.name, place.channel, header, record.value))
    for index, event in enumerate(found):
        if isinstance(event, Trade) and event.id is not None and place.exchange.has_ids_by_transport:
            likeness = (event.exchange_time, event.price, event.size, event.side)
            ids = alike[header.kind, event.pair, likeness]
            yield event.pair, (likeness, ids.setdefault(event.id, len(ids)))
        elif isinstance(event, Trade) and event.id is not None:
            yield event.pair, event.id
        elif isinstance(event, BookUpdate) and event.last_sequence is not None:
            yield event.pair, event.last_sequence
        else:
            yield getattr(event, "pair", None), index, record.value if isinstance(event, Data) else None


def assert_each_event_is_one_row(stored: dict[Source, list[Record]]) -> Counter[Channel]:
    """Compare the rows with what the exchanges said; return how many copies each channel had."""
    copies: Counter[Channel] = Counter()
    for place, records in stored.items():
        result, transform = batch(place, records), Transform(place)
        assert conserves(result) and result.counts["faults"] == 0, place
        rows = [(record.offset, entry.row.index) for record in records for entry in transform.entries(record)]
        alike: Alike = defaultdict(dict)
        events = {record.offset: list(said(place, record, alike)) for record in records}
        told = Counter(events[offset][index] for offset, index in rows)
        begins = {events[offset][index][0]: offset for offset, index in reversed(rows)}  # of each pair
        brought: defaultdict[str, Counter[tuple[object, ...]]] = defaultdict(Counter)
        fetched: set[tuple[object, ...]] = set()  # a book that bridges may begin in the middle of a change
        for offset, found in events.items():
            header = unpack(records[offset].header)
            if header.kind is Kind.REST and place.exchange.is_bridged:
                fetched |= {*found}
                continue
            brought[header.connection].update(
                event for event in found if event[-1] is not None and offset >= begins.get(event[0], len(records))
            )
        wanted_pairs = Counter(dict.fromkeys(fetched & told.keys(), 1))
        for connection in brought.values():  # what one connection says twice, and has no number, has happened twice
            wanted_pairs |= Counter({event: count if len(event) > 2 else 1 for event, count in connection.items()})
        assert told == wanted_pairs, (place.exchange.name, place.channel)
        assert told
        copies[place.channel] += result.counts["rows_repeated"]
    return copies


NAMES = [("upbit", "bithumb", "coinone", "korbit", "coinbase"), ("okx", "bybit", "gateio", "binance", "kraken")]


@pytest.mark.no_cover  # much work, all of it covered by small tests
@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_F5_a_rotation_gives_no_row_twice(tmp_path: Path, names: tuple[str, ...]) -> None:
    copies = assert_each_event_is_one_row(collected(tmp_path, names, (1,), 0.5))
    assert copies.total() > 0


@pytest.mark.no_cover  # much work, all of it covered by small tests
@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_L4_two_collectors_at_once_give_the_rows_of_one(tmp_path: Path, names: tuple[str, ...]) -> None:
    copies = assert_each_event_is_one_row(collected(tmp_path, names, (1, 2), 2.0))
    assert min(copies[channel] for channel in (Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE)) > 0
