"""Dagster's home stays small: old runs are deleted with their events, files and output."""

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG

from coin_platform.model import Region
from coin_platform.orchestration import retention
from coin_platform.orchestration.definitions import definitions
from coin_platform.orchestration.long_runs import collect_job
from coin_platform.orchestration.retention import forget, forget_job, rotate_output
from coin_platform.orchestration.window_runs import WINDOW_REGION_TAG, WINDOW_TAG
from coin_platform.settings import Settings
from tests.kit.figures import ROOT

YEAR_2036 = 2_082_758_400.0  # seconds since 1970


@dg.asset(check_specs=[dg.AssetCheckSpec("rule", asset="table")])
def table() -> dg.MaterializeResult:  # type: ignore[type-arg]
    """A table that prints a line while it is made."""
    print("a line")
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="rule")])


TABLES = dg.Definitions(
    assets=[table],
    jobs=[dg.define_asset_job("tables_korea", selection=dg.AssetSelection.assets(table))],
    executor=dg.in_process_executor,
).resolve_job_def("tables_korea")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Give a Dagster that keeps all in files."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def make(instance: dg.DagsterInstance) -> str:
    """Return a run that has made the table."""
    return TABLES.execute_in_process(instance=instance).run_id


def traces(home: Path, run_id: str) -> list[Path]:
    """Return the files of a run."""
    return [path for path in home.rglob("*") if run_id in str(path)]


def checks(instance: dg.DagsterInstance) -> int:
    """Return how many evaluations of checks are remembered."""
    key = dg.AssetCheckKey(dg.AssetKey("table"), "rule")
    return len(instance.event_log_storage.get_asset_check_execution_history(key, limit=100))


def test_D14_runs_beyond_the_newest_are_forgotten_whole(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "KEEP_RUNS", 1)
    monkeypatch.setattr(retention, "_PAGE_RUNS", 1)
    runs = [make(instance) for _ in range(3)]
    alive = instance.create_run_for_job(collect_job(Region.KOREA), status=DagsterRunStatus.STARTED)
    assert all(traces(tmp_path, run) for run in runs) and checks(instance) == 3
    assert forget(instance, {runs[1]}) == 1
    assert [bool(traces(tmp_path, run)) for run in runs] == [False, True, True]
    left = {run.run_id for run in instance.get_runs()}
    assert left == {runs[1], *runs[2:], alive.run_id}
    assert checks(instance) == 2
    assert instance.get_latest_materialization_event(dg.AssetKey("table")) is not None
    assert forget(instance, {runs[1]}) == 0


def test_D14_runs_of_other_peoples_jobs_are_kept(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "KEEP_RUNS", 0)
    ours = {".dagster/repository": "__repository__@coin_platform"}
    theirs = {".dagster/repository": "__repository__@theirs"}
    for job, tags in (("__ASSET_JOB", ours), ("collect_asia", {}), ("__ASSET_JOB", theirs), ("theirs", {})):
        instance.add_run(DagsterRun(job, tags=tags, status=DagsterRunStatus.SUCCESS))
    assert forget(instance, set()) == 2
    assert {(run.job_name, *run.tags.values()) for run in instance.get_runs()} == {
        ("__ASSET_JOB", "__repository__@theirs"),
        ("theirs",),
    }


def test_D14_runs_are_forgotten_after_two_weeks(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    make(instance)
    assert forget(instance, set()) == 0
    later = time.time() + retention.KEEP_SECONDS + 60
    monkeypatch.setattr("coin_platform.orchestration.retention.time.time", lambda: later)
    assert forget(instance, set()) == 1


def test_D3_D14_no_run_is_forgotten_because_the_clock_has_jumped(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = make(instance), datetime.now(UTC)
    monkeypatch.setattr("coin_platform.orchestration.retention.time.time", lambda: YEAR_2036)
    tags = {SCHEDULED_EXECUTION_TIME_TAG: asked.isoformat()}  # by the daemon, whose clock holds jumps
    assert forget_job.execute_in_process(instance=instance, tags=tags).success
    assert instance.has_run(run)


def test_D14_output_of_a_run_that_goes_on_is_begun_anew(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "OUTPUT_BYTES", 5)
    runs = [
        instance.create_run_for_job(collect_job(Region.KOREA), status=status)
        for status in (DagsterRunStatus.STARTED, DagsterRunStatus.SUCCESS)
    ]
    files = [tmp_path / "storage" / run.run_id / "compute_logs" / "step.err" for run in runs]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("a line\n")
    rotate_output(instance)
    assert [file.read_text() for file in files] == ["", "a line\n"]
    assert files[0].with_name("step.err.1").read_text() == "a line\n"


def test_D14_the_job_keeps_windows_that_are_still_to_be_made(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "KEEP_RUNS", 0)
    tags = {WINDOW_REGION_TAG: "korea", WINDOW_TAG: "2026-11-24-03:00"}
    first, second = (
        instance.add_run(DagsterRun("tables_korea", tags=tags, status=DagsterRunStatus.STARTED)) for _ in range(2)
    )
    for run in (first, second):
        instance.report_run_failed(run, "the lake is away")
    make(instance)
    done = forget_job.execute_in_process(instance=instance)
    assert done.success
    assert {run.run_id for run in instance.get_runs()} == {second.run_id, done.run_id}


def test_D14_dagster_is_given_the_job_and_its_hour() -> None:
    repository: Any = definitions(Settings(exchanges=("upbit",))).get_repository_def()
    [schedule] = repository.schedule_defs
    assert schedule.job_name == "forget_old_runs"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_D14_our_settings_of_dagster_are_accepted_and_purge_ticks(tmp_path: Path) -> None:
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        settings = instance.get_settings("retention")
    assert {kind: days["purge_after_days"]["skipped"] for kind, days in settings.items()} == {
        "sensor": 1,
        "schedule": 1,
    }
