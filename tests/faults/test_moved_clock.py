"""Real processes whose wall clock is moved while they run: libfaketime moves it, the exchanges keep the true time."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coin_platform.model import Cause
from tests.kit.asia import events
from tests.kit.history import check, once
from tests.kit.moved_processes import PATIENCE, MovedProcesses, moved_processes

HOUR = 3600.0
YEAR_2036 = 2_082_758_400  # seconds since 1970
JUMPS = {
    "an hour ahead": HOUR,
    "an hour behind": -HOUR,
    "25 hours ahead": 25 * HOUR,  # more than a journal keeps
    "to the year 2036": YEAR_2036 - time.time(),
}
RETAIN_SECONDS = 7.0  # longer than the pause between two looks of a journal for records that are too old


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MovedProcesses]:
    """Give the exchanges, and the clock on which all else is to run."""
    url = "local:" if request.param == "local" else f"kafka://{request.getfixturevalue('kafka').address}"
    with moved_processes(tmp_path, url) as made:
        yield made


@pytest.mark.timeout(300)
def test_D3_a_day_ahead_and_back_loses_misplaces_deletes_and_ends_nothing(tmp_path: Path) -> None:
    with moved_processes(tmp_path, "local:") as moved:
        moved.start()
        moved.clock.set(JUMPS["25 hours ahead"])
        moved.pass_(RETAIN_SECONDS)
        moved.clock.set(0)
        moved.pass_(0)
        moved.end()
        moved.assert_right()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("jump", JUMPS)
def test_D3_F6_S1_a_machine_whose_clock_jumps_loses_misplaces_deletes_and_ends_nothing(
    moved: MovedProcesses, jump: str
) -> None:
    moved.start()
    moved.pass_(RETAIN_SECONDS)
    moved.clock.set(JUMPS[jump])
    moved.pass_(RETAIN_SECONDS)
    assert moved.make_windows(is_moved=True) == []
    moved.pass_(1)
    moved.clock.set(0)
    moved.pass_(RETAIN_SECONDS)
    moved.end()
    moved.assert_right()
    assert [moved.labels(source) for source in moved.platform.sources] == [[False, True, False]] * 6
    time.sleep(60 - time.time() % 60 + moved.platform.settings.grace.total_seconds())
    assert moved.make_windows(is_moved=False) == []
    moved.assert_in_windows()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_D3_a_clock_that_runs_fast_misplaces_no_record_by_more_than_it_is_ahead_and_is_labelled(
    moved: MovedProcesses,
) -> None:
    moved.start()
    with moved.clock.running(1.25):
        moved.pass_(40)
    ahead = moved.clock.ahead
    moved.clock.set(0)
    moved.pass_(1)
    moved.end()
    moved.assert_right(jumps=0, ahead=ahead)
    assert all(True in moved.labels(source) for source in moved.platform.sources)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", [2, -2])
def test_D3_a_clock_that_is_set_by_small_steps_misplaces_no_record_by_more_than_those(
    moved: MovedProcesses, step: int
) -> None:
    moved.start()
    for number in range(1, 8):
        moved.clock.set(step * number)
        moved.pass_(3)
    moved.clock.set(0)
    moved.pass_(1)
    moved.end()
    moved.assert_right(jumps=0, ahead=step * 7)
    assert all(True in moved.labels(source) for source in moved.platform.sources)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_D3_S8_a_collector_killed_on_a_clock_that_was_ahead_leaves_gaps_after_that_was_set_right(
    moved: MovedProcesses,
) -> None:
    platform = moved.platform
    moved.clock.set(HOUR)
    moved.start()
    moved.pass_(1)
    platform.kill("collect")
    moved.clock.set(0)
    platform.start("collect", "--region", "asia")
    moved.pass_(1)
    moved.end()
    found = check(platform.sent(), once(platform.stored()))
    assert (found.phantom, found.double, found.reordered) == ([], [], [])
    killed = [gap for gap in platform.gaps() if gap.cause == Cause.KILLED]
    assert {(gap.exchange, gap.channel) for gap in killed} == {
        (source.exchange.name, source.channel) for source in platform.sources
    }
    assert all(gap.stop is not None for gap in killed), "the next collector ends them"


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("before", "after"),
    [(HOUR, 0.0), (0.0, -HOUR), (0.0, JUMPS["to the year 2036"])],
    ids=["set right", "set back", "to the year 2036"],
)
def test_D3_F5_a_collector_takes_over_without_a_gap_across_a_jump_of_the_clock(
    moved: MovedProcesses, before: float, after: float
) -> None:
    platform = moved.platform
    moved.clock.set(before)
    moved.start()
    moved.clock.set(after)
    former = platform.processes.pop("collect")
    platform.start("collect", "--region", "asia", "--take-over")
    assert former.wait(PATIENCE) == 0, (platform.home / "collect.log").read_text()[-2000:]
    moved.pass_(1)
    moved.clock.set(0)
    moved.pass_(1)
    sound = [gap for gap in platform.gaps() if gap.cause != Cause.STOPPED]
    moved.end()
    assert sound == []
    assert check(platform.sent(), platform.stored()).lost == []
    for source in platform.sources:
        found, rows = events(platform, source)
        assert set(rows) == found, f"{source}: events without a row"
