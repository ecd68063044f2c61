"""The watchdog keeps one run alive. It fails a run that shows no heartbeat, and no other, whatever the clocks do."""

import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster import DagsterRunStatus

from coin_platform.clock import elapsed
from coin_platform.model import Region
from coin_platform.orchestration import stopwatch
from coin_platform.orchestration.lease import (
    BEAT_SECONDS,
    FIRST_BEAT_SECONDS,
    LONG_RUN_TAG,
    STALE_SECONDS,
    TAKES_OVER_TAG,
    VERSION_TAG,
    Lease,
)
from coin_platform.orchestration.long_runs import collect_job, preprocess_job
from coin_platform.orchestration.run_process import PROCESS_TAG
from coin_platform.orchestration.stopwatch import Stopwatch
from coin_platform.orchestration.watchdog import HANDOVER_SECONDS, LONGEST_BACK_OFF_SECONDS, SHORT_RUN_SECONDS, watchdog
from tests.kit.dagster import ended_process, status_of

HOUR = 3600.0
JOB = collect_job(Region.KOREA)


class Clocks:
    """Both clocks of the watchdog and of the run, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic = 1000.0
        self.wall = time.time()
        monkeypatch.setattr("time.time", lambda: self.wall)
        # The process that beats here is the process of the tests.
        monkeypatch.setattr(Lease, "kill", lambda lease, run_id: None)

    def step(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds

    def tick(self, instance: dg.DagsterInstance) -> list[str]:
        """Let the watchdog look once; return the keys of the runs that it asks for."""
        return tick(JOB, instance, lambda: self.monotonic)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def tick(job: dg.JobDefinition, instance: dg.DagsterInstance, clock: Callable[[], float] = time.monotonic) -> list[str]:
    """Let the watchdog look once; return the keys of the runs that it asks for."""
    result: Any = watchdog(job, clock)(dg.build_sensor_context(instance=instance))
    return [request.run_key for request in getattr(result, "run_requests", None) or []]


def started(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    return instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED, tags={**JOB.tags, **tags})


def test_a_watchdog_starts_one_run_and_then_rests(instance: dg.DagsterInstance) -> None:
    assert tick(JOB, instance) == ["collect_korea:after:first"]
    run = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED)
    Lease(instance, JOB.name).renew(run.run_id)
    assert tick(JOB, instance) == []


def of_another_version(job: dg.JobDefinition, instance: dg.DagsterInstance) -> dg.DagsterRun:
    run = instance.create_run_for_job(job, status=DagsterRunStatus.STARTED, tags={VERSION_TAG: "other"})
    Lease(instance, job.name).renew(run.run_id)
    return run


def test_F5_a_collector_of_another_version_is_taken_over_from_once(instance: dg.DagsterInstance) -> None:
    old, version = of_another_version(JOB, instance), JOB.tags[VERSION_TAG]
    result: Any = watchdog(JOB)(dg.build_sensor_context(instance=instance))
    [request] = result.run_requests
    assert request.run_key == f"collect_korea:{version}:after:{old.run_id}"
    assert request.tags[LONG_RUN_TAG] == f"collect_korea@{version}" and request.tags[TAKES_OVER_TAG] == old.run_id
    instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED, tags={**JOB.tags, **request.tags})
    assert tick(JOB, instance) == []
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.STARTED}, "both go on for now"


def test_a_worker_of_another_version_is_asked_to_end(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = preprocess_job(Region.KOREA)
    old = of_another_version(job, instance)
    ended: list[str] = []
    monkeypatch.setattr(instance.run_coordinator, "cancel_run", ended.append)
    assert tick(job, instance) == []
    assert ended == [old.run_id]


def test_a_run_that_ended_gets_one_successor_named_after_it(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(JOB, status=DagsterRunStatus.CANCELED)
    assert tick(JOB, instance) == tick(JOB, instance) == [f"collect_korea:after:{run.run_id}"]


def test_D9_a_long_run_whose_process_vanished_is_replaced_at_once(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED, tags={PROCESS_TAG: ended_process()})
    Lease(instance, JOB.name).renew(run.run_id)
    other = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED)
    instance.report_run_failed(other, "not the newest")
    tick(JOB, instance)
    assert status_of(instance, run) is DagsterRunStatus.FAILURE


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED])
def test_D9_a_long_run_that_was_about_to_be_launched_is_replaced_soon(
    status: DagsterRunStatus, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stopwatch, "seconds", lambda stopwatch, mark: 21.0)
    run = instance.create_run_for_job(JOB, status=status)
    assert tick(JOB, instance) == []
    monkeypatch.setattr("coin_platform.orchestration.run_process._BEGAN", elapsed() + 1)
    tick(JOB, instance)
    assert status_of(instance, run) is DagsterRunStatus.FAILURE


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_D3_a_run_that_starts_while_the_clock_jumps_has_its_time(
    ahead: float, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stopwatch, "seconds", lambda stopwatch, mark: 21.0)
    began = psutil.Process().create_time()
    run = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTING)
    monkeypatch.setattr("psutil.Process.create_time", lambda process: began + ahead)  # the system tells it so then
    tick(JOB, instance)
    assert status_of(instance, run) is DagsterRunStatus.STARTING


def test_runs_that_fail_at_once_are_backed_off_from(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "bad setting")
    assert SHORT_RUN_SECONDS > 0
    assert tick(JOB, instance) == []


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 60.0, -60.0, 25 * HOUR, 10 * 365 * 24 * HOUR])
def test_D3_no_jump_of_the_wall_clock_ends_a_run_that_beats(
    instance: dg.DagsterInstance, clocks: Clocks, jump: float
) -> None:
    run = started(instance)
    lease = Lease(instance, JOB.name)
    for number in range(30):
        if number == 10:
            clocks.wall += jump
        lease.renew(run.run_id)
        clocks.step(BEAT_SECONDS)
        assert clocks.tick(instance) == []
    assert status_of(instance, run) is DagsterRunStatus.STARTED


def test_D3_a_run_that_freezes_is_buried_within_its_bounds(instance: dg.DagsterInstance, clocks: Clocks) -> None:
    run = started(instance)
    Lease(instance, JOB.name).renew(run.run_id)
    clocks.tick(instance)
    begun = clocks.monotonic
    clocks.wall -= HOUR
    while status_of(instance, run) is DagsterRunStatus.STARTED:
        clocks.step(BEAT_SECONDS)
        clocks.tick(instance)
    assert STALE_SECONDS < clocks.monotonic - begun <= STALE_SECONDS + 2 * BEAT_SECONDS


def test_D3_a_run_that_never_beats_is_buried_after_its_start(instance: dg.DagsterInstance, clocks: Clocks) -> None:
    run = started(instance)
    clocks.tick(instance)
    begun = clocks.monotonic
    while status_of(instance, run) is DagsterRunStatus.STARTED:
        clocks.step(BEAT_SECONDS)
        clocks.wall += 60
        clocks.tick(instance)
    assert FIRST_BEAT_SECONDS < clocks.monotonic - begun <= FIRST_BEAT_SECONDS + 2 * BEAT_SECONDS


def test_D3_a_frozen_run_is_buried_also_when_the_watchdog_restarts_now_and_then(
    instance: dg.DagsterInstance, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(instance)
    Lease(instance, JOB.name).renew(run.run_id)
    begun, restarts = clocks.monotonic, 0
    while status_of(instance, run) is DagsterRunStatus.STARTED:
        for _ in range(4):
            clocks.step(BEAT_SECONDS)
            clocks.tick(instance)
        restarts += 1
        monkeypatch.setattr(stopwatch, "_PROCESS", f"process {restarts}")
        clocks.monotonic = 5.0 if restarts == 1 else clocks.monotonic  # the machine was started anew
        begun = begun if restarts != 1 else 5.0 - 4 * BEAT_SECONDS
    assert restarts >= 2
    assert clocks.monotonic - begun <= STALE_SECONDS + (restarts + 4) * BEAT_SECONDS


def test_D3_a_watchdog_that_stood_still_itself_ends_no_run(instance: dg.DagsterInstance, clocks: Clocks) -> None:
    run = started(instance)
    Lease(instance, JOB.name).renew(run.run_id)
    clocks.tick(instance)
    clocks.step(HOUR)  # both were frozen, and the watchdog comes first
    clocks.tick(instance)
    assert status_of(instance, run) is DagsterRunStatus.STARTED


def test_D3_of_two_runs_that_beat_neither_is_taken_for_dead(instance: dg.DagsterInstance, clocks: Clocks) -> None:
    old = started(instance)
    leases = [(Lease(instance, JOB.name, JOB.name), old)]
    for _ in range(30):  # longer than a run may take until its first beat
        leases[0][0].renew(old.run_id)
        clocks.step(BEAT_SECONDS)
        clocks.tick(instance)
    name = f"{JOB.name}@other"
    new = started(instance, **{LONG_RUN_TAG: name, TAKES_OVER_TAG: old.run_id})
    leases.append((Lease(instance, JOB.name, name), new))
    for _ in range(30):
        for lease, run in leases:
            lease.renew(run.run_id)
        clocks.step(BEAT_SECONDS)
        clocks.wall += 60
        assert clocks.tick(instance) == []
    assert [status_of(instance, run) for run in (old, new)] == [DagsterRunStatus.STARTED, DagsterRunStatus.STARTED]


def test_D3_a_take_over_may_last_as_long_as_it_may_and_no_longer(
    instance: dg.DagsterInstance, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(instance.run_coordinator, "cancel_run", ended.append)
    name = f"{JOB.name}@other"
    old = started(instance)
    new = started(instance, **{LONG_RUN_TAG: name, TAKES_OVER_TAG: old.run_id})
    leases = [(Lease(instance, JOB.name, JOB.name), old), (Lease(instance, JOB.name, name), new)]
    begun = clocks.monotonic
    clocks.wall += HOUR
    while not ended:
        for lease, run in leases:
            lease.renew(run.run_id)
        clocks.tick(instance)
        clocks.step(BEAT_SECONDS)
    assert ended == [new.run_id]
    assert HANDOVER_SECONDS <= clocks.monotonic - begun <= HANDOVER_SECONDS + 2 * BEAT_SECONDS


@pytest.mark.parametrize("jump", [0.0, HOUR, -HOUR])
def test_D3_a_back_off_is_as_long_as_ever_when_the_clock_jumps(
    instance: dg.DagsterInstance, clocks: Clocks, jump: float
) -> None:
    instance.report_run_failed(started(instance), "bad setting")
    assert clocks.tick(instance) == []
    begun = clocks.monotonic
    clocks.wall += jump
    while not clocks.tick(instance):
        clocks.step(BEAT_SECONDS)
    assert 10 <= clocks.monotonic - begun <= 10 + BEAT_SECONDS < LONGEST_BACK_OFF_SECONDS
