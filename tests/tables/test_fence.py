"""A former leader's frames count while it led and for a moment beside its successor, and never afterwards."""

import pytest

from coin_platform.model import SECOND, Kind
from coin_platform.records import Facts
from coin_platform.tables.dataframes import batch
from coin_platform.tables.fence import ALIVE, OVERLAP
from tests.kit.connections import (
    BINANCE_TRADES,
    BYBIT,
    UPBIT,
    PartitionRecords,
    book,
    offsets,
    snapshot,
    ticker,
    trade,
)


def two_leaders(*pairs: str) -> PartitionRecords:
    """Return the log of a leader and its successor, on another machine, that has brought one ticker."""
    log = PartitionRecords(*(pairs or ("BTC-KRW",)))
    log.open("a", epoch=1)
    log.say("a", ticker(1), epoch=1)  # 1
    log.open("b", epoch=2)
    log.say("b", ticker(2), epoch=2)  # 3
    return log


def test_L3_nothing_that_a_frozen_leader_reads_after_its_successor_began_is_a_row() -> None:
    log = two_leaders()
    log.wait(18)
    log.say("a", ticker(3), ticker(4), epoch=1)
    log.own(Kind.CHECKPOINT, "a", Facts(pairs=["BTC-KRW"]), epoch=1)
    log.say("a", ticker(5), epoch=1)
    log.say("b", ticker(6), epoch=2)  # 8
    result = batch(UPBIT, log.records)
    assert offsets(result) == [1, 3, 8]
    assert (result.counts["frames_duplicate"], result.counts["rows_repeated"]) == (3, 3)


def test_L3_trades_and_books_of_a_frozen_leader_are_no_rows() -> None:
    log = PartitionRecords("BTC-USDT")
    for name, epoch in (("a", 1), ("b", 2)):
        log.open(name, epoch=epoch)
        log.say(name, trade(epoch), epoch=epoch)
    log.wait(18)
    log.say("a", trade(3), epoch=1)
    log.say("b", trade(4), epoch=2)
    assert log.rows(BINANCE_TRADES) == [1, 3, 5]
    log = PartitionRecords("BTC-USDT")
    for name, epoch in (("a", 1), ("b", 2)):
        log.open(name, epoch=epoch)
        log.say(name, snapshot(10 * epoch), epoch=epoch)
    log.wait(18)
    log.say("a", book(11), epoch=1)
    log.say("b", book(21), epoch=2)
    assert log.rows(BYBIT) == [1, 3, 5]


def test_what_waited_on_the_disk_of_a_former_leader_counts_however_late_it_comes() -> None:
    log = PartitionRecords("BTC-KRW")
    log.open("a", epoch=1)
    read_time = log.time
    log.open("b", epoch=2)
    log.say("b", ticker(2), epoch=2)  # 2
    log.wait(50)
    log.say("b", ticker(3), epoch=2)  # 3
    now, log.time = log.time, read_time
    log.say("a", ticker(1), epoch=1)
    late = log.records.pop()._replace(time=now + 1)  # the log took it now
    log.records.append(late)
    assert log.rows(UPBIT) == [2, 3, 4]


def test_a_pair_that_the_successor_has_not_brought_is_the_former_leaders() -> None:
    log = two_leaders("BTC-KRW", "ETH-KRW")
    log.wait(18)
    log.say("a", ticker(3), ticker(4).replace(b"KRW-BTC", b"KRW-ETH"), epoch=1)  # refused, and 5
    assert log.rows(UPBIT) == [1, 3, 5]


def test_two_leaders_at_once_both_count_for_a_moment() -> None:
    log = two_leaders()
    log.wait(OVERLAP / SECOND - 1)
    log.say("a", ticker(3), epoch=1)  # 4
    log.wait(1)
    log.say("a", ticker(4), epoch=1)
    assert log.rows(UPBIT) == [1, 3, 4]


@pytest.mark.parametrize("settles", [False, True])
def test_F5_a_collector_that_takes_over_on_the_same_machine_refuses_nobody_until_it_has(settles: bool) -> None:
    log = PartitionRecords("BTC-KRW")
    log.open("a", epoch=1)
    log.own(Kind.OPENED, "b", Facts(pairs=["BTC-KRW"], beside=True), epoch=2)
    log.say("b", ticker(2), epoch=2)  # 2
    log.wait(18)
    if settles:
        log.own(Kind.PAIRS, "b", Facts(pairs=["BTC-KRW"]), epoch=2)
    log.say("a", ticker(3), epoch=1)
    assert log.rows(UPBIT) == ([2] if settles else [2, 3])


def test_three_leaders_the_latest_that_brought_a_pair_counts() -> None:
    log = two_leaders()
    log.own(Kind.OPENED, "c", Facts(pairs=["BTC-KRW"], beside=True), epoch=3)
    log.wait(18)
    log.say("c", ticker(3), epoch=3)  # 5
    log.say("b", ticker(4), epoch=2)  # 6: the third runs beside it
    log.say("a", ticker(5), epoch=1)
    log.say("d", ticker(6), epoch=4)  # 8: its opening is not in the log
    log.wait(18)
    log.say("b", ticker(7), epoch=2)
    assert log.rows(UPBIT) == [1, 3, 5, 6, 8]


def test_a_collector_with_too_low_an_epoch_counts_once_the_later_one_is_gone() -> None:
    """Its clock was set back, and the broker did not tell it the epochs before."""
    log = two_leaders()
    log.wait(ALIVE / SECOND + 1)
    log.open("c", epoch=1)
    log.say("c", ticker(3), epoch=1)  # 5
    assert log.rows(UPBIT) == [1, 3, 5]
