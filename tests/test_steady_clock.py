"""Jumps of the wall clock are held until they have lasted; small steps are followed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.model import SECOND
from coin_platform.steady_clock import JUMP_CONFIRM_SECONDS, MAX_STEP, SteadyClock
from tests.kit.wrong_clock import BEGIN, DAY, HOUR, JUMPS, Clocks


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


def test_D3_a_process_that_had_to_wait_between_the_two_clocks_holds_the_right_time(clocks: Clocks) -> None:
    waits = [8, 0, 0, 0]

    def wall() -> int:
        time = clocks.wall()
        clocks.true += waits.pop(0) * SECOND if waits else 0
        return time

    clock = SteadyClock(wall, clocks.monotonic, is_quiet=True)
    clock()
    clocks.error = HOUR
    clocks.true += SECOND
    assert clock() == clocks.true and clock.is_held


def test_D3_a_machine_on_which_every_reading_takes_long_goes_on(clocks: Clocks) -> None:
    def wall() -> int:
        clocks.true += SECOND
        return clocks.wall()

    clock = SteadyClock(wall, clocks.monotonic, is_quiet=True)
    assert clock() == clocks.true


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
