"""The sensor fails dead runs that no other sensor watches, and no others."""

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from coin_platform.orchestration.dead_runs import bury_dead_runs
from coin_platform.orchestration.lease import LONG_RUN_TAG
from coin_platform.orchestration.redrive import redrive_dead_letters
from coin_platform.orchestration.run_process import PROCESS_TAG
from coin_platform.orchestration.stopwatch import Stopwatch
from coin_platform.orchestration.window_runs import WINDOW_REGION_TAG
from coin_platform.runtime.processes import identity
from tests.kit.dagster import ended_process, status_of


def test_D9_runs_that_no_sensor_watches_are_buried_too(instance: dg.DagsterInstance) -> None:
    def status(tags: dict[str, str]) -> DagsterRunStatus:
        run = instance.create_run_for_job(redrive_dead_letters, status=DagsterRunStatus.STARTED, tags=tags)
        bury_dead_runs(dg.build_sensor_context(instance=instance))
        return status_of(instance, run)

    gone = ended_process()
    assert status({PROCESS_TAG: gone}) is DagsterRunStatus.FAILURE
    assert status({PROCESS_TAG: identity()}) is DagsterRunStatus.STARTED
    assert status({}) is DagsterRunStatus.STARTED, "it may be about to begin"
    assert status({LONG_RUN_TAG: "collect_korea", PROCESS_TAG: gone}) is DagsterRunStatus.STARTED, "its watchdog's"
    assert status({WINDOW_REGION_TAG: "korea", PROCESS_TAG: gone}) is DagsterRunStatus.STARTED, "the closing sensor's"


def test_D9_runs_of_other_peoples_jobs_are_left_alone(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stopwatch, "seconds", lambda stopwatch, mark: 1e9)

    @dg.op
    def work() -> None:
        pass

    @dg.job
    def theirs() -> None:
        work()

    jobs = (theirs, redrive_dead_letters)
    runs = [instance.create_run_for_job(job, status=DagsterRunStatus.STARTED) for job in jobs]
    bury_dead_runs(dg.build_sensor_context(instance=instance))
    assert [status_of(instance, run) for run in runs] == [DagsterRunStatus.STARTED, DagsterRunStatus.FAILURE]
