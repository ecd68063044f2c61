"""The watchdog buries a run that shows no heartbeat, and no other, whatever the wall clocks do."""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus as Status

from coin_platform.model import Region
from coin_platform.orchestration import long_runs, stopwatch
from coin_platform.orchestration.lease import BEAT, BOOT, LONG_RUN, STALE, TAKES_OVER, Lease
from coin_platform.orchestration.long_runs import HANDOVER, LONGEST, collect_job, watchdog

HOUR = 3600.0
JOB = collect_job(Region.KOREA)


class Clocks:
    """Both clocks of the watchdog and of the run, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic = 1000.0
        self.wall = time.time()
        monkeypatch.setattr("coin_platform.orchestration.lease.time.time", lambda: self.wall)
        monkeypatch.setattr(
            Lease, "kill", lambda lease, run_id: None
        )  # the process that beats here is that of the tests
        monkeypatch.setattr(stopwatch.Stopwatch.__init__, "__defaults__", (lambda: self.monotonic,))
        monkeypatch.setattr(long_runs._bury, "__defaults__", (lambda: self.monotonic,))

    def step(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def started(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    return instance.create_run_for_job(JOB, status=Status.STARTED, tags={**JOB.tags, **tags})


def tick(instance: dg.DagsterInstance) -> list[str]:
    result: Any = watchdog(JOB)(dg.build_sensor_context(instance=instance))
    return [request.run_key for request in getattr(result, "run_requests", None) or []]


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Status:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


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
        clocks.step(BEAT)
        assert tick(instance) == []
    assert status(instance, run) is Status.STARTED


def test_D3_a_run_that_freezes_is_buried_within_its_bounds(instance: dg.DagsterInstance, clocks: Clocks) -> None:
    run = started(instance)
    Lease(instance, JOB.name).renew(run.run_id)
    tick(instance)
    begun = clocks.monotonic
    clocks.wall -= HOUR
    while status(instance, run) is Status.STARTED:
        clocks.step(BEAT)
        tick(instance)
    assert STALE < clocks.monotonic - begun <= STALE + 2 * BEAT


def test_D3_a_run_that_never_beats_is_buried_after_its_start(instance: dg.DagsterInstance, clocks: Clocks) -> None:
    run = started(instance)
    tick(instance)
    begun = clocks.monotonic
    while status(instance, run) is Status.STARTED:
        clocks.step(BEAT)
        clocks.wall += 60
        tick(instance)
    assert BOOT < clocks.monotonic - begun <= BOOT + 2 * BEAT


def test_D3_a_frozen_run_is_buried_also_when_the_watchdog_restarts_now_and_then(
    instance: dg.DagsterInstance, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(instance)
    Lease(instance, JOB.name).renew(run.run_id)
    begun, restarts = clocks.monotonic, 0
    while status(instance, run) is Status.STARTED:
        for _ in range(4):
            clocks.step(BEAT)
            tick(instance)
        restarts += 1
        monkeypatch.setattr(stopwatch, "_PROCESS", f"process {restarts}")
        clocks.monotonic = 5.0 if restarts == 1 else clocks.monotonic  # the machine was started anew
        begun = begun if restarts != 1 else 5.0 - 4 * BEAT
    assert restarts >= 2
    assert clocks.monotonic - begun <= STALE + (restarts + 4) * BEAT


def test_D3_a_watchdog_that_stood_still_itself_ends_no_run(instance: dg.DagsterInstance, clocks: Clocks) -> None:
    run = started(instance)
    Lease(instance, JOB.name).renew(run.run_id)
    tick(instance)
    clocks.step(HOUR)  # both were frozen, and the watchdog comes first
    tick(instance)
    assert status(instance, run) is Status.STARTED


def test_D3_of_two_runs_that_beat_neither_is_taken_for_dead(instance: dg.DagsterInstance, clocks: Clocks) -> None:
    old = started(instance)
    leases = [(Lease(instance, JOB.name, JOB.name), old)]
    for _ in range(30):  # longer than a run may take until its first beat
        leases[0][0].renew(old.run_id)
        clocks.step(BEAT)
        tick(instance)
    name = f"{JOB.name}@other"
    new = started(instance, **{LONG_RUN: name, TAKES_OVER: old.run_id})
    leases.append((Lease(instance, JOB.name, name), new))
    for _ in range(30):
        for lease, run in leases:
            lease.renew(run.run_id)
        clocks.step(BEAT)
        clocks.wall += 60
        assert tick(instance) == []
    assert [status(instance, run) for run in (old, new)] == [Status.STARTED, Status.STARTED]


def test_D3_a_take_over_may_last_as_long_as_it_may_and_no_longer(
    instance: dg.DagsterInstance, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(instance.run_coordinator, "cancel_run", ended.append)
    name = f"{JOB.name}@other"
    old = started(instance)
    new = started(instance, **{LONG_RUN: name, TAKES_OVER: old.run_id})
    leases = [(Lease(instance, JOB.name, JOB.name), old), (Lease(instance, JOB.name, name), new)]
    begun = clocks.monotonic
    clocks.wall += HOUR
    while not ended:
        for lease, run in leases:
            lease.renew(run.run_id)
        tick(instance)
        clocks.step(BEAT)
    assert ended == [new.run_id]
    assert HANDOVER <= clocks.monotonic - begun <= HANDOVER + 2 * BEAT


@pytest.mark.parametrize("jump", [0.0, HOUR, -HOUR])
def test_D3_a_back_off_is_as_long_as_ever_when_the_clock_jumps(
    instance: dg.DagsterInstance, clocks: Clocks, jump: float
) -> None:
    instance.report_run_failed(started(instance), "bad setting")
    assert tick(instance) == []
    begun = clocks.monotonic
    clocks.wall += jump
    while not tick(instance):
        clocks.step(BEAT)
    assert 10 <= clocks.monotonic - begun <= 10 + BEAT < LONGEST


def test_a_frozen_process_is_known_again_after_a_step_of_the_wall_clock(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(instance)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        frozen = psutil.Process(child.pid)
        with monkeypatch.context() as patch:
            patch.setattr("coin_platform.orchestration.lease.psutil.Process", lambda *_: frozen)
            Lease(instance, JOB.name).renew(run.run_id)
        real, boot = psutil.Process.create_time, psutil.boot_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + HOUR)
        monkeypatch.setattr(psutil, "boot_time", lambda: boot() + HOUR)
        Lease(instance, JOB.name).kill("another run")
        assert child.poll() is None
        Lease(instance, JOB.name).kill(run.run_id)
        assert child.wait(20) == -9
