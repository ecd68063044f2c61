"""Two connections that carry the same: each event is one row, whichever brings it first, and none is lost."""

import json
from datetime import timedelta

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import SECOND, Kind, Pair, Window
from coin_platform.orchestration.materialise import materialise_raw, materialise_rows
from coin_platform.records import Checkpoint, Facts
from coin_platform.settings import Settings
from coin_platform.tables.dataframes import batch
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.transform import Transform
from tests.kit.connections import (
    BINANCE_BOOKS,
    BINANCE_CANDLES,
    BINANCE_TRADES,
    BYBIT,
    FIRST,
    GATEIO,
    KRAKEN,
    MINUTE,
    UPBIT,
    UPBIT_BOOKS,
    UPBIT_TRADES,
    PartitionRecords,
    book,
    candle,
    nameless,
    offsets,
    snapshot,
    ticker,
    trade,
    whole,
)
from tests.kit.log import TIME, conserves
from tests.kit.recordings import frames


def test_a_ticker_that_two_connections_bring_is_one_row() -> None:
    log = PartitionRecords("BTC-KRW", opened="a")
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
    log = PartitionRecords("BTC-KRW", opened="ab")
    log.say("a", ticker(1), ticker(1))  # 2, 3
    log.say("b", ticker(1), ticker(1), ticker(1))  # two copies, and 6
    log.say("a", ticker(1), ticker(1))  # a copy, and 8
    assert log.rows(UPBIT) == [2, 3, 6, 8]


def test_without_an_overlap_the_same_bytes_are_another_event() -> None:
    log = PartitionRecords("BTC-KRW", opened="a")
    log.say("a", ticker(1))
    log.close("a")
    log.open("b")
    log.say("b", ticker(1))
    assert log.rows(UPBIT) == [1, 4]
    log = PartitionRecords()
    log.open("a", "BTC-KRW")
    log.open("b", "ETH-KRW")  # another shard
    log.say("a", ticker(1))
    log.say("b", ticker(1))
    assert log.rows(UPBIT) == [2, 3]


def test_of_what_came_before_a_connection_was_opened_it_can_repeat_the_newest_only() -> None:
    log = PartitionRecords("BTC-KRW", opened="ab")
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
    log = PartitionRecords("BTC-KRW", opened="a")
    log.say("a", ticker(1))
    log.wait(LEAD / SECOND)
    log.open("b")
    log.say("b", ticker(1))
    assert log.rows(UPBIT) == [1, 3]


def test_three_connections_bring_one_row() -> None:
    log = PartitionRecords("BTC-KRW")
    for name in "abc":
        log.open(name)
    for name in "abc":
        log.say(name, ticker(1))
    log.say("c", ticker(2))
    log.say("a", ticker(2))
    log.say("b", ticker(2))
    assert log.rows(UPBIT) == [3, 6]


def test_pairs_that_change_begin_and_end_an_overlap() -> None:
    log = PartitionRecords()
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
    log = PartitionRecords("BTC-KRW", opened="ab")
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
    log = PartitionRecords("BTC-KRW")
    log.say("a", ticker(1))
    log.say("b", ticker(7), ticker(2))
    log.say("a", ticker(2))
    assert log.rows(UPBIT) == [0, 1, 2]
    result = batch(UPBIT, log.records, 1)  # of a window whose lead holds the first record: all of it is remembered
    assert offsets(result) == [1, 2]
    log = PartitionRecords("BTC-KRW")
    log.say("a", ticker(1))
    log.say("b", ticker(1))
    assert offsets(batch(UPBIT, log.records, 1)) == []


def test_a_trade_goes_by_its_id_and_without_one_by_its_bytes() -> None:
    log = PartitionRecords("BTC-USDT", opened="ab")
    log.say("a", trade(1))
    log.say("b", trade(1), trade(2))
    log.say("a", trade(2), trade(2))
    assert log.rows(BINANCE_TRADES) == [2, 4]
    log = PartitionRecords("BTC-KRW", transport="rest")
    krw = Pair("BTC", "KRW")
    log.open("a")
    log.open("b")
    log.answer("a", nameless(1.5, 1.5), krw)  # 2: two trades
    log.answer("b", nameless(1.5, 1.5), krw)
    log.answer("b", nameless(1.5, 1.5), krw)  # 4
    log.answer("b", nameless(1.5, 1.5), Pair("ETH", "KRW"))  # 5: the answer to another question
    assert log.rows(UPBIT_TRADES) == [2, 2, 4, 4, 5, 5]


def test_a_candle_goes_by_its_bytes_and_what_replaces_it_is_counted_by_window() -> None:
    log = PartitionRecords("BTC-USDT", opened="ab")
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
    log = PartitionRecords("BTC-KRW", opened="ab")
    log.say("a", whole(1))
    log.say("b", whole(1), whole(2))
    log.say("a", whole(2), whole(2))
    assert log.rows(UPBIT_BOOKS) == [2, 4, 6]


def test_a_change_that_another_connection_has_told_gives_no_row_and_still_goes_into_the_book() -> None:
    log = PartitionRecords("BTC-USDT", opened="a")
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
    log = PartitionRecords("BTC-USDT", opened="a")
    log.say("a", snapshot(10))
    log.open("b")
    log.say("b", snapshot(13), book(14))  # 3, 4
    log.say("a", book(11), book(12), book(13), book(14), book(15))  # 5, 6, two copies, 9
    log.say("b", book(15))
    result = batch(BYBIT, log.records)
    assert offsets(result) == [1, 3, 4, 5, 6, 9]
    assert result.rows["sequence"].to_list() == [10, 13, 14, 11, 12, 15]


def test_what_one_connection_lost_the_other_tells() -> None:
    log = PartitionRecords("BTC-USDT", opened="ab")
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
    log = PartitionRecords("BTC-USDT", opened="ab")
    log.say("a", snapshot(900), book(901))
    log.say("b", snapshot(900), book(901))
    log.say("a", snapshot(1), book(2), book(3))  # 6, 7, 8
    log.say("b", book(902))  # 9: has not heard of it yet
    log.say("b", snapshot(1), book(2), book(3), book(4))  # 13
    log.say("a", book(4))
    assert log.rows(BYBIT) == [2, 3, 6, 7, 8, 9, 13]


def test_a_snapshot_that_is_asked_for_again_is_a_row_also_when_nothing_has_changed() -> None:
    log = PartitionRecords("BTC-USDT", opened="a")
    log.say("a", snapshot(10), snapshot(10))
    log.close("a")
    log.open("b")
    log.say("b", snapshot(10))
    assert log.rows(BYBIT) == [1, 2, 5]


def test_a_book_that_starts_from_a_checkpoint_counts_as_told() -> None:
    log = PartitionRecords("BTC-USDT")
    checkpoint = Checkpoint(pair="BTC-USDT", sequence=10, bids=[], asks=[])
    log.own(Kind.CHECKPOINT, "a", Facts(pairs=["BTC-USDT"], book=checkpoint))
    log.open("b")
    log.say("b", snapshot(10), book(11))  # a copy; 3
    log.say("a", book(11), book(12))  # a copy; 5
    assert log.rows(BYBIT) == [3, 5]


def test_a_book_over_REST_has_other_numbers_than_the_socket_s_unless_it_bridges_them() -> None:
    levels: dict[str, list[list[str]]] = {"bids": [["100", "1"]], "asks": [["101", "1"]]}
    change = {"e": "depthUpdate", "E": FIRST, "s": "BTCUSDT", "b": [["100", "2"]], "a": []}
    log = PartitionRecords("BTC-USDT")
    for name, last in (("a", 10), ("b", 11)):
        log.open(name)
        log.answer(name, json.dumps({"lastUpdateId": last, **levels}).encode(), Pair("BTC", "USDT"))
        log.say(name, json.dumps(change | {"U": 11, "u": 11}).encode())
    log.say("b", json.dumps(change | {"U": 12, "u": 12}).encode())
    assert log.rows(BINANCE_BOOKS) == [1, 2, 6]  # b's whole book is of the sequence that a has told, its change older
    answer = next(frame for frame in frames("gateio", "rest_orderbook") if b'"id"' in frame.payload)
    assert answer.pair is not None
    log = PartitionRecords(str(answer.pair))
    log.open("p")
    log.open("q")
    log.answer("p", answer.payload, answer.pair)
    log.answer("q", answer.payload + b" ", answer.pair)  # the same number, but other bytes
    log.answer("q", answer.payload, answer.pair)
    assert log.rows(GATEIO) == [2, 3]


def test_changes_without_a_number_go_by_their_bytes_where_the_book_of_the_other_is_right() -> None:
    said = [frame.payload for frame in frames("kraken", "book_sequence_1")[1:18]]
    head, changes = said[:2], [payload for payload in said if b'"type":"update"' in payload]
    log = PartitionRecords("BTC-USD")
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


def test_frames_of_an_older_epoch_are_rows_only_where_their_event_is_not_there_yet() -> None:
    log = PartitionRecords("BTC-KRW")
    log.open("a", epoch=1)
    log.say("a", ticker(1), epoch=1)  # 1
    log.open("b", epoch=2)
    log.say("b", ticker(2), ticker(3), epoch=2)  # 3, 4
    log.wait(4)  # so long both count
    log.say("a", ticker(2), ticker(3), ticker(4), epoch=1)  # two copies, 7
    log.say("b", ticker(4), epoch=2)
    assert log.rows(UPBIT) == [1, 3, 4, 7]


def test_L4_two_leaders_at_once_give_the_rows_of_one() -> None:
    log = PartitionRecords("BTC-KRW")
    log.open("a", epoch=1)
    log.open("b", epoch=2)
    for number in range(60):
        log.wait(1)
        for name, epoch in (("a", 1), ("b", 2)) if number % 3 else (("b", 2), ("a", 1)):
            log.say(name, ticker(number), epoch=epoch)
    result = batch(UPBIT, log.records)
    assert result.rows["last"].to_list() == [100.0 + number for number in range(60)]
    assert result.counts["frames_duplicate"] == 60


@pytest.mark.parametrize("is_beside", [False, True])
def test_L4_what_two_machines_were_sent_at_once_is_one_row_though_the_opening_of_one_came_later(
    is_beside: bool,
) -> None:
    log = PartitionRecords("BTC-KRW")
    log.open("a", epoch=1)
    log.say("a", ticker(1), epoch=1)
    log.wait(2)
    log.say("a", ticker(2), ticker(3), ticker(4), epoch=1)
    log.own(Kind.OPENED, "b", Facts(pairs=["BTC-KRW"], beside=is_beside), epoch=2)
    log.say("b", ticker(2), ticker(3), ticker(4), ticker(1), epoch=2)  # 6 to 9; the last one happened again
    assert log.rows(UPBIT) == ([1, 2, 3, 4, 6, 7, 9] if is_beside else [1, 2, 3, 4, 9])


def test_a_connection_of_an_older_epoch_that_is_silent_is_over() -> None:
    log = PartitionRecords("BTC-KRW")
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
    assert log.rows(UPBIT) == [1, 4, 5, 7], "but it leads no more"


def test_a_frame_behind_the_end_of_its_connection_opens_it_again() -> None:
    log = PartitionRecords("BTC-KRW", opened="a")
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
        log = PartitionRecords("BTC-USDT", "BTC-KRW")
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
