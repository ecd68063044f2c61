"""What a wall clock does that is set, runs wrong or jumps: records keep their order, their windows and their lives."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.broker import LocalBroker
from coin_platform.clock import elapsed, steady, wall
from coin_platform.journal import JournalReader, JournalWriter
from coin_platform.model import SECOND, Microseconds
from coin_platform.steady_clock import JUMP_CONFIRM_SECONDS, MAX_STEP, SteadyClock
from tests.kit.waiting import until

HOUR: Microseconds = 3600 * SECOND
DAY = 24 * HOUR
BEGIN: Microseconds = 1_795_000_000 * SECOND
YEAR_2036: Microseconds = 2_082_758_400 * SECOND
JUMPS = (HOUR, -HOUR, 25 * HOUR, -25 * HOUR, YEAR_2036 - BEGIN)


class Clocks:
    """A wall clock that may be wrong, and one that nobody sets."""

    def __init__(self) -> None:
        self.true = BEGIN
        self.error = 0

    def wall(self) -> Microseconds:
        return self.true + self.error

    def monotonic(self) -> float:
        return (self.true - BEGIN) / SECOND + 17

    def steady(self) -> SteadyClock:
        return SteadyClock(self.wall, self.monotonic)

    def pass_(self, seconds: float, clock: SteadyClock) -> Microseconds:
        """Let time pass in steps of a second, and the clock be read in each."""
        time = 0
        for _ in range(int(seconds)):
            self.true += SECOND
            time = clock()
        return time


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("jump", JUMPS)
def test_D3_a_jump_is_held_and_said_once(clocks: Clocks, jump: int, caplog: pytest.LogCaptureFixture) -> None:
    clock = clocks.steady()
    clocks.pass_(5, clock)
    clocks.error = jump
    assert clocks.pass_(JUMP_CONFIRM_SECONDS - 10, clock) == clocks.true
    assert clock.is_held and not clock.is_settled
    clocks.error = 0
    assert clocks.pass_(1, clock) == clocks.true
    assert not clock.is_held
    said = [record.message.split(":")[0] for record in caplog.records]
    assert [text[:21] for text in said] == ["the wall clock jumped", "the wall clock is rig"]


@pytest.mark.parametrize("jump", JUMPS)
def test_D3_a_jump_that_lasts_is_followed(clocks: Clocks, jump: int, caplog: pytest.LogCaptureFixture) -> None:
    clock = clocks.steady()
    clocks.pass_(5, clock)
    clocks.error = jump
    assert clocks.pass_(JUMP_CONFIRM_SECONDS + 2, clock) == clocks.wall()
    assert clock.is_settled and not clock.is_held
    assert "is believed after 600 s" in caplog.text


@pytest.mark.parametrize("step", [MAX_STEP, -MAX_STEP, SECOND, -SECOND])
def test_a_small_step_is_followed_without_a_word(clocks: Clocks, step: int, caplog: pytest.LogCaptureFixture) -> None:
    clock = clocks.steady()
    clocks.pass_(5, clock)
    clocks.error = step
    assert clock() == clocks.wall()
    assert not caplog.records


def test_D3_a_clock_that_drifts_is_followed(clocks: Clocks) -> None:
    clock = clocks.steady()
    for _ in range(10_000):
        clocks.error += SECOND // 10  # by far faster than any
        clocks.pass_(1, clock)
    assert clock() == clocks.wall() and clocks.error > 5 * MAX_STEP


def test_D3_a_second_jump_waits_anew(clocks: Clocks) -> None:
    clock = clocks.steady()
    clocks.pass_(5, clock)
    for jump in (HOUR, 2 * HOUR, 3 * HOUR):
        clocks.error = jump
        assert clocks.pass_(JUMP_CONFIRM_SECONDS - 10, clock) == clocks.true


def test_D3_a_clock_that_was_not_read_for_long_has_not_jumped(clocks: Clocks) -> None:
    clock = clocks.steady()
    clock()
    clocks.true += 3 * DAY
    assert clock() == clocks.true and not clock.is_held


def test_a_quiet_clock_says_nothing(clocks: Clocks, caplog: pytest.LogCaptureFixture) -> None:
    clock = SteadyClock(clocks.wall, clocks.monotonic, is_quiet=True)
    clock()
    clocks.error = 10**20  # no calendar has that
    clock()
    assert clock.is_held and not caplog.records
    loud = clocks.steady()
    assert not loud.is_settled
    loud()
    clocks.error = 0
    loud()
    assert f"time goes on from {BEGIN + 10**20} µs" in caplog.text


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(-DAY, DAY)), max_size=30))
def test_D3_time_is_never_more_than_minutes_ahead_of_the_last_reading_unless_that_has_lasted(
    steps: list[tuple[int, int]],
) -> None:
    clocks = Clocks()
    clock = SteadyClock(clocks.wall, clocks.monotonic, is_quiet=True)
    last, errors = clock(), [0]
    for seconds, error in steps:
        clocks.true += seconds * SECOND
        clocks.error = error
        time = clock()
        is_new = abs(error - errors[-1]) > MAX_STEP
        errors.append(error)
        if is_new:
            assert abs(time - last - seconds * SECOND) <= MAX_STEP
        last = time


def test_the_clocks_of_this_machine_go_on() -> None:
    assert steady()() <= wall() and elapsed() <= elapsed()


# The journal


class Log:
    """A journal, written record by record on clocks that are moved by hand."""

    def __init__(self, path: Path, clocks: Clocks, hours: float | None = None) -> None:
        self.clocks, self.reader = clocks, JournalReader(path)
        self._hours = hours
        self.journal = self._open()

    def _open(self) -> JournalWriter:
        wall, monotonic = self.clocks.wall, self.clocks.monotonic
        path, hours = self.reader.path, self._hours
        return JournalWriter(path, clock=wall, monotonic=monotonic, retention_hours=hours, retain_every=0.01)

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
def log(tmp_path: Path, clocks: Clocks) -> Iterator[Log]:
    log = Log(tmp_path / "t" / "0.db", clocks, hours=24)
    with closing(log):
        yield log


@pytest.mark.parametrize("jump", JUMPS)
def test_D3_no_record_is_stamped_by_a_clock_that_has_jumped(log: Log, clocks: Clocks, jump: int) -> None:
    log.append(3)
    begun = clocks.true
    clocks.error = jump
    log.append(9)
    clocks.error = 0
    log.append(3)
    times = log.times()
    assert times == [BEGIN + number * 60 * SECOND for number in range(15)] and begun in times


@pytest.mark.parametrize("jump", [HOUR, 25 * HOUR, YEAR_2036 - BEGIN])
def test_D3_no_record_is_trimmed_because_of_a_jump_also_of_one_that_lasts(log: Log, clocks: Clocks, jump: int) -> None:
    log.append(5)
    clocks.error = jump
    log.append(30)
    assert log.times()[-1] > BEGIN + jump  # it is followed by now
    assert log.reader.begin_offset() == 0
    clocks.true += 24 * HOUR - 20 * 60 * SECOND
    log.append(1)
    until(lambda: log.reader.begin_offset() > 0, 10)  # now they are a day old
    assert 0 < log.reader.begin_offset() < 30


def test_D3_the_time_in_which_nobody_wrote_makes_no_record_older(log: Log, clocks: Clocks) -> None:
    log.append(5)
    log.journal.close()
    clocks.true += 3 * DAY
    log.restart()
    assert log.append(1) == [clocks.true - 60 * SECOND]  # that pause is none of the clock's jumps
    log.append(1)
    assert log.reader.begin_offset() == 0
    clocks.true += DAY - 120 * SECOND
    log.append(1)
    until(lambda: log.reader.begin_offset() == 5, 10)


def test_D3_a_start_with_a_clock_that_is_a_day_ahead_deletes_nothing_and_is_mended(
    log: Log, clocks: Clocks, caplog: pytest.LogCaptureFixture
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
    log = Log(path, clocks)
    first = log.append(1)[0]
    assert first >= YEAR_2036  # it may be ours that is wrong
    clocks.true += int(JUMP_CONFIRM_SECONDS) * SECOND
    until(lambda: log.append(1, every=1)[0] == clocks.true - SECOND, 10)
    times = log.times()
    assert log.is_in_order and BEGIN + JUMP_CONFIRM_SECONDS * SECOND <= times[0] <= clocks.true
    assert log.reader.offset_for_time(BEGIN + 9 * 60 * SECOND) == 0
    assert log.reader.last_time() == times[-1]
    log.journal.close()


def test_D3_a_clock_that_was_behind_for_a_moment_spoils_nothing(log: Log, clocks: Clocks) -> None:
    log.append(3)
    clocks.error = -20 * 365 * DAY  # as after a start without a battery
    log.restart()
    log.append(5)
    clocks.error = 0
    log.append(12)
    assert log.is_in_order
    assert log.times()[:3] == [BEGIN + number * 60 * SECOND for number in range(3)]
    assert log.times()[-1] == clocks.true - 60 * SECOND


def test_D3_after_a_clock_that_was_an_hour_ahead_times_go_on_slowly_and_never_back(log: Log, clocks: Clocks) -> None:
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
