"""What a journal stamps, trims and mends when the wall clock jumps."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from coin_platform.broker import LocalBroker
from coin_platform.journal import JournalReader, JournalWriter
from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import JUMP_CONFIRM_SECONDS
from tests.kit.waiting import until
from tests.kit.wrong_clock import BEGIN, DAY, HOUR, JUMPS, YEAR_2036, Clocks


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


class ClockedJournal:
    """A journal, written record by record on clocks that are moved by hand."""

    def __init__(self, path: Path, clocks: Clocks, hours: float | None = None) -> None:
        self.clocks, self.reader = clocks, JournalReader(path)
        self._hours = hours
        self.journal = self._open()

    def _open(self) -> JournalWriter:
        wall, monotonic = self.clocks.wall, self.clocks.monotonic
        path, hours = self.reader.path, self._hours
        return JournalWriter(path, clock=wall, monotonic=monotonic, retention_hours=hours, retain_seconds=0.01)

    def append(self, count: int = 1, every: float = 60.0) -> list[Microseconds]:
        """Append records, and let time pass after each; return their times."""
        start = self.reader.end_offset()
        for _ in range(count):
            self.journal.append("h", b"value")
            self.journal.flush()
            self.clocks.true += int(every * SECOND)
        return [record.time for record in self.reader.read(start)]

    def restart(self) -> None:
        self.journal.close()
        self.journal = self._open()

    def times(self) -> list[Microseconds]:
        return [record.time for record in self.reader.read(self.reader.begin_offset())]

    def close(self) -> None:
        self.journal.close()

    @property
    def is_in_order(self) -> bool:
        times = self.times()
        return times == sorted(times)


@pytest.fixture
def log(tmp_path: Path, clocks: Clocks) -> Iterator[ClockedJournal]:
    log = ClockedJournal(tmp_path / "t" / "0.db", clocks, hours=24)
    with closing(log):
        yield log


@pytest.mark.parametrize("jump", JUMPS)
def test_D3_no_record_is_stamped_by_a_clock_that_has_jumped(log: ClockedJournal, clocks: Clocks, jump: int) -> None:
    log.append(3)
    begun = clocks.true
    clocks.error = jump
    log.append(9)
    clocks.error = 0
    log.append(3)
    times = log.times()
    assert times == [BEGIN + number * 60 * SECOND for number in range(15)] and begun in times


@pytest.mark.parametrize("jump", [HOUR, 25 * HOUR, YEAR_2036 - BEGIN])
def test_D3_no_record_is_trimmed_because_of_a_jump_also_of_one_that_lasts(
    log: ClockedJournal, clocks: Clocks, jump: int
) -> None:
    log.append(5)
    clocks.error = jump
    log.append(30)
    assert log.times()[-1] > BEGIN + jump  # it is followed by now
    assert log.reader.begin_offset() == 0
    clocks.true += 24 * HOUR - 20 * 60 * SECOND
    log.append(1)
    until(lambda: log.reader.begin_offset() > 0, 10)  # now they are a day old
    assert 0 < log.reader.begin_offset() < 30


def test_D3_the_time_in_which_nobody_wrote_makes_no_record_older(log: ClockedJournal, clocks: Clocks) -> None:
    log.append(5)
    log.journal.close()
    clocks.true += 3 * DAY
    log.restart()
    assert log.append(1) == [clocks.true - 60 * SECOND]  # that pause is none of the clock's jumps
    log.append(1)
    assert log.reader.begin_offset() == 0
    clocks.true += DAY - 120 * SECOND
    log.append(1, every=0)  # the clock stands now: the first record of the second writer is as old as is kept
    until(lambda: log.reader.begin_offset() == 5, 10)


def test_D3_a_start_with_a_clock_that_is_a_day_ahead_deletes_nothing_and_is_mended(
    log: ClockedJournal, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    log.append(5)
    clocks.error = 25 * HOUR
    log.restart()
    [wrong] = log.append(1, every=11)
    assert wrong == clocks.wall() - 11 * SECOND
    clocks.error = 0
    log.append(30)
    until(lambda: log.append(1, every=1)[0] == clocks.true - SECOND, 10)
    assert log.reader.begin_offset() == 0 and log.is_in_order
    assert max(log.times()) <= clocks.true
    assert caplog.text.count("are stamped anew: that clock was wrong") == 1


@pytest.mark.parametrize("count", [3, 12_000])
def test_D3_a_journal_that_a_clock_of_2036_has_spoilt_holds_no_later_record_there(
    tmp_path: Path, clocks: Clocks, count: int
) -> None:
    path = tmp_path / "t" / "0.db"
    clocks.error = YEAR_2036 - BEGIN
    with closing(JournalWriter(path, clock=clocks.wall, monotonic=clocks.monotonic)) as journal:
        for _ in range(count):
            journal.append("h", b"value")
    clocks.error = 0
    log = ClockedJournal(path, clocks)
    first = log.append(1)[0]
    assert first >= YEAR_2036  # it may be ours that is wrong
    clocks.true += int(JUMP_CONFIRM_SECONDS) * SECOND
    until(lambda: log.append(1, every=1)[0] == clocks.true - SECOND, 10)
    times = log.times()
    assert log.is_in_order and BEGIN + JUMP_CONFIRM_SECONDS * SECOND <= times[0] <= clocks.true
    assert log.reader.offset_for_time(BEGIN + 9 * 60 * SECOND) == 0
    assert log.reader.last_time() == times[-1]
    log.journal.close()


def test_D3_a_clock_that_was_behind_for_a_moment_spoils_nothing(log: ClockedJournal, clocks: Clocks) -> None:
    log.append(3)
    clocks.error = -20 * 365 * DAY  # as after a start without a battery
    log.restart()
    log.append(5)
    clocks.error = 0
    log.append(12)
    assert log.is_in_order
    assert log.times()[:3] == [BEGIN + number * 60 * SECOND for number in range(3)]
    assert log.times()[-1] == clocks.true - 60 * SECOND


def test_D3_after_a_clock_that_was_an_hour_ahead_times_go_on_slowly_and_never_back(
    log: ClockedJournal, clocks: Clocks
) -> None:
    clocks.error = HOUR
    log.append(5)
    clocks.error = 0
    log.restart()
    times = log.append(30)
    assert log.is_in_order and len(set(times)) == 30, "no window is left empty meanwhile"
    log.append(100)
    assert log.times()[-1] == clocks.true - 60 * SECOND


def test_D3_journals_of_a_process_share_the_clock_and_its_jump_is_said_once(
    tmp_path: Path, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(LocalBroker(tmp_path, clock=clocks.wall, monotonic=clocks.monotonic)) as broker:
        for error in (0, HOUR):
            clocks.error = error
            clocks.true += SECOND
            for partition in range(5):
                broker.append("t", partition, "h", b"value")
            broker.flush()
        times = {record.time for partition in range(5) for record in broker.read("t", partition, 1, 2)}
    assert times == {clocks.true}
    with caplog.at_level(logging.WARNING):
        assert caplog.text.count("the wall clock jumped") == 1
