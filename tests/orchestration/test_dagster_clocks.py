"""Dagster's daemon and code servers go on whatever the wall clock does."""

import logging
import threading
import time
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster import _time as dagster_time
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._daemon import daemon, sensor
from dagster._daemon.monitoring import run_monitoring
from dagster._daemon.run_coordinator import queued_run_coordinator_daemon as queue
from dagster._grpc import proxy_server, server

from coin_platform.model import SECOND
from coin_platform.orchestration.assets import TIME_LIMIT_SECONDS
from coin_platform.orchestration.dagster_clocks import LONGEST_WAIT_SECONDS, MODULE, mend, mended
from coin_platform.steady_clock import JUMP_CONFIRM_SECONDS

HOUR = 3600.0
DECADE = 10 * 365 * 24 * HOUR
JUMPS = [HOUR, -HOUR, 25 * HOUR, DECADE]


class Clocks:
    """Both clocks, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.true, self.ahead = 1_795_000_000.0, 0.0
        monkeypatch.setattr(time, "time", self.wall)

    def wall(self) -> float:
        return self.true + self.ahead

    def microseconds(self) -> int:
        return int(self.wall() * SECOND)

    def monotonic(self) -> float:
        return self.true

    def pass_(self, seconds: float) -> None:
        """Let time pass, in which somebody reads the clock now and then."""
        for _ in range(int(seconds)):
            self.true += 1
            dagster_time.get_current_timestamp()


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Give the clocks that Dagster reads, mended."""
    made = Clocks(monkeypatch)
    mend(made.microseconds, made.monotonic, monkeypatch.setattr)
    return made


class Over(threading.Event):
    """An event that never comes: time passes while somebody waits for it."""

    def __init__(self, clocks: Clocks) -> None:
        super().__init__()
        self.clocks = clocks
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.clocks.true += timeout
        return False


class Queue(daemon.IntervalDaemon[Any]):
    """A daemon that works every 5 s, as that of the queue."""

    def __init__(self) -> None:
        super().__init__(5)
        self.rounds = 0

    @classmethod
    def daemon_type(cls) -> str:
        return "QUEUE"

    def run_iteration(self, workspace_process_context: Any) -> Generator[None, None, None]:
        self.rounds += 1
        yield


@pytest.mark.parametrize("jump", JUMPS)
def test_D3_the_queue_works_on_while_the_clock_jumps_and_is_set_right(clocks: Clocks, jump: float) -> None:
    work, over, begun = Queue(), Over(clocks), clocks.true
    loop = work.core_loop(None, over)
    for ahead in (0.0, jump, 0.0):
        clocks.ahead = ahead
        until = clocks.true + 100
        while clocks.true < until:
            next(loop)
    assert work.rounds == pytest.approx((clocks.true - begun) / 5, abs=2)


def tick_state(last: float) -> Any:
    """Return what Dagster keeps of a sensor that ticked last at a time."""
    data = SensorInstigatorData(last_tick_timestamp=last, last_tick_start_timestamp=last)
    return SimpleNamespace(instigator_data=data)


@pytest.mark.parametrize("jump", JUMPS)
def test_D3_a_sensor_ticks_on_while_the_clock_jumps_and_is_set_right_also_when_that_was_believed(
    clocks: Clocks, jump: float
) -> None:
    ticks, last = 0, dagster_time.get_current_timestamp()
    timer: Any = SimpleNamespace(min_interval_seconds=5)
    for ahead in (0.0, jump, 0.0):
        clocks.ahead = ahead
        for _ in range(int(JUMP_CONFIRM_SECONDS) + 60):
            clocks.pass_(1)
            if not sensor.is_under_min_interval(tick_state(last), timer):
                ticks, last = ticks + 1, dagster_time.get_current_timestamp()
    assert ticks == pytest.approx(3 * (JUMP_CONFIRM_SECONDS + 60) / 5, rel=0.05)


def test_D3_a_sensor_of_an_earlier_daemon_whose_clock_was_ahead_ticks_at_once(clocks: Clocks) -> None:
    timer: Any = SimpleNamespace(min_interval_seconds=5)
    assert not sensor.is_under_min_interval(tick_state(clocks.true + DECADE), timer)
    assert sensor.is_under_min_interval(tick_state(clocks.true - 4), timer)
    assert not sensor.is_under_min_interval(tick_state(clocks.true - 6), timer)


@pytest.mark.parametrize("kind", [daemon.SensorDaemon, daemon.SchedulerDaemon])
def test_D3_the_sensors_never_wait_for_as_long_as_the_clock_was_set_back(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    def one_round(itself: Any, workspace: Any, over: threading.Event) -> Iterator[None]:
        over.wait(HOUR)
        yield

    over = Over(clocks)
    monkeypatch.setattr(kind, "core_loop", one_round)
    mend(clocks.microseconds, clocks.monotonic, monkeypatch.setattr)
    next(kind.core_loop(None, None, over))
    assert over.waits == [LONGEST_WAIT_SECONDS]


def test_D3_the_time_of_a_jump_is_held_and_later_believed(clocks: Clocks, caplog: pytest.LogCaptureFixture) -> None:
    dagster_time.get_current_timestamp()
    clocks.ahead = DECADE
    clocks.pass_(60)
    assert dagster_time.get_current_timestamp() == clocks.true
    assert dagster_time.get_current_datetime().timestamp() == clocks.true
    clocks.pass_(JUMP_CONFIRM_SECONDS)
    assert dagster_time.get_current_timestamp() == clocks.wall()
    assert caplog.text.count("the wall clock jumped") == 1


@pytest.mark.parametrize("jump", JUMPS)
def test_D3_no_jump_ends_a_run_by_its_time_limit(clocks: Clocks, jump: float) -> None:
    @dg.job(tags={"dagster/max_runtime": str(TIME_LIMIT_SECONDS)})
    def window() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(window)
        for event in (dg.DagsterEventType.PIPELINE_STARTING, dg.DagsterEventType.PIPELINE_START):
            instance.report_dagster_event(dg.DagsterEvent(event.value, window.name), run.run_id)
        clocks.ahead = jump
        [record] = instance.get_run_records()
        assert record.start_time is not None
        run_monitoring.check_run_timeout(instance, record, logging.getLogger("test"), 0.0)
        assert [each.status for each in instance.get_runs()] == [dg.DagsterRunStatus.STARTED]


def test_D3_heartbeats_of_code_servers_count_seconds_that_have_passed(clocks: Clocks) -> None:
    for module in (server, proxy_server, queue, daemon):
        before = module.time.time()
        clocks.ahead += DECADE
        clocks.true += 7
        assert module.time.time() - before == 7
        assert module.time.sleep is time.sleep


def test_D3_dagsters_daemon_and_code_servers_are_started_mended() -> None:
    started: list[list[str]] = []
    start = mended(lambda words, **options: started.append(words))
    start(["python", "-m", "dagster._daemon", "run", "--workspace", "dagster"], pass_fds=[3])
    start(["python", "-m", "dagster", "code-server", "start"])
    start(["python", "-m", "dagster_webserver", "--port", "3000"])
    assert started == [
        ["python", "-m", MODULE, "daemon", "run", "--workspace", "dagster"],
        ["python", "-m", MODULE, "dagster", "code-server", "start"],
        ["python", "-m", "dagster_webserver", "--port", "3000"],
    ]
