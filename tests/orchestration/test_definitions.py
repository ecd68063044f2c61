"""What Dagster is given: a snapshot of the names, and the watchdog's decisions."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus as Status

import coin_platform
from coin_platform.model import Region
from coin_platform.orchestration.burial import bury_dead_runs
from coin_platform.orchestration.close_windows import WINDOW_REGION
from coin_platform.orchestration.definitions import definitions
from coin_platform.orchestration.lease import LONG_RUN, TAKES_OVER, VERSION, Lease
from coin_platform.orchestration.long_runs import BRIEF, collect_job, preprocess_job, watchdog
from coin_platform.orchestration.redrive import redrive_dead_letters
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.run_process import PROCESS
from coin_platform.orchestration.stopwatch import Stopwatch
from coin_platform.orchestration.version import version
from coin_platform.runtime.processes import identity
from coin_platform.settings import Settings

REGIONS = {"upbit": "korea", "okx": "asia", "kraken": "ne"}
CHANNELS = ("ticker", "orderbook", "trade", "candle")
TABLES = (*(f"raw_{channel}" for channel in CHANNELS), *CHANNELS, "dead", "gap")


def test_the_names_that_users_see() -> None:
    defs = definitions(Settings(exchanges=tuple(REGIONS)))
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    keys = {asset.to_user_string() for asset in graph.get_all_asset_keys()}
    assert keys == {
        *(f"{region}/{name}/{table}" for name, region in REGIONS.items() for table in TABLES),
        *(f"exchange/{name}" for name in REGIONS),
        *(
            f"topic/{region}SocketDataIn-{t}/{name}"
            for name, region in REGIONS.items()
            for t in ("ticker", "Orderbook", "trade", "candle")
        ),
    }
    repository = defs.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"}
    by_region = {f"{kind}_{region}" for kind in ("collect", "preprocess", "tables") for region in Region}
    assert jobs == {*by_region, "redrive_dead_letters", "forget_old_runs"}
    assert {schedule.name for schedule in repository.schedule_defs} == {"forget_old_runs_hourly"}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    assert sensors == {
        *(f"{kind}_{region}_watchdog" for kind in ("collect", "preprocess") for region in Region),
        *(f"close_windows_{region}" for region in Region),
        "bury_dead_runs",
        "check_alerts",
        "failure_alerts",
    }


def test_the_lineage_is_whole() -> None:
    graph = definitions(Settings(exchanges=("upbit",))).resolve_asset_graph()
    upstream = {
        asset.to_user_string(): {parent.to_user_string() for parent in graph.get(asset).parent_keys}
        for asset in graph.get_all_asset_keys()
    }
    assert upstream["topic/koreaSocketDataIn-ticker/upbit"] == {"exchange/upbit"}
    assert upstream["korea/upbit/raw_ticker"] == {"topic/koreaSocketDataIn-ticker/upbit"}
    assert upstream["korea/upbit/ticker"] == {"korea/upbit/raw_ticker"}
    assert upstream["korea/upbit/candle"] == {"korea/upbit/raw_candle"}
    raw = {f"korea/upbit/raw_{channel}" for channel in CHANNELS}
    assert upstream["korea/upbit/gap"] == raw
    assert upstream["korea/upbit/dead"] == raw | {f"korea/upbit/{channel}" for channel in CHANNELS}


@pytest.fixture
def job() -> dg.JobDefinition:
    """Return the job that the watchdog watches."""
    return collect_job(Region.KOREA)


def tick(job: dg.JobDefinition, instance: dg.DagsterInstance) -> list[str]:
    """Let the watchdog look once; return the keys of the runs it asks for."""
    result: Any = watchdog(job)(dg.build_sensor_context(instance=instance))
    return [request.run_key for request in getattr(result, "run_requests", None) or []]


def test_a_watchdog_starts_one_run_and_then_rests(job: dg.JobDefinition) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(job, instance) == ["collect_korea:after:first"]
        run = instance.create_run_for_job(job, status=Status.STARTED)
        Lease(instance, job.name).renew(run.run_id)
        assert tick(job, instance) == []


def of_another_version(job: dg.JobDefinition, instance: dg.DagsterInstance) -> dg.DagsterRun:
    run = instance.create_run_for_job(job, status=Status.STARTED, tags={VERSION: "other"})
    Lease(instance, job.name).renew(run.run_id)
    return run


def test_F5_a_collector_of_another_version_is_taken_over_from_once(job: dg.JobDefinition) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        old, ours = of_another_version(job, instance), job.tags[VERSION]
        result: Any = watchdog(job)(dg.build_sensor_context(instance=instance))
        [request] = result.run_requests
        assert request.run_key == f"collect_korea:{ours}:after:{old.run_id}"
        assert request.tags[LONG_RUN] == f"collect_korea@{ours}" and request.tags[TAKES_OVER] == old.run_id
        instance.create_run_for_job(job, status=Status.STARTED, tags={**job.tags, **request.tags})
        assert tick(job, instance) == []
        assert {run.status for run in instance.get_runs()} == {Status.STARTED}, "both go on for now"


def test_a_worker_of_another_version_is_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    job = preprocess_job(Region.KOREA)
    with dg.DagsterInstance.ephemeral() as instance:
        old = of_another_version(job, instance)
        ended: list[str] = []
        monkeypatch.setattr(instance.run_coordinator, "cancel_run", ended.append)
        assert tick(job, instance) == []
        assert ended == [old.run_id]


def test_a_version_is_that_of_code_and_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = version()
    assert version() == before
    monkeypatch.setattr("coin_platform.orchestration.version.load", lambda: Settings(log_level="WARNING"))
    changed = version()
    (tmp_path / "more.py").write_text("more")
    monkeypatch.setattr("coin_platform.__path__", [*coin_platform.__path__, str(tmp_path)])
    assert len({before, changed, version()}) == 3


def test_a_run_that_ended_gets_one_successor_named_after_it(job: dg.JobDefinition) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=Status.CANCELED)
        assert tick(job, instance) == tick(job, instance) == [f"collect_korea:after:{run.run_id}"]


def test_D9_a_long_run_whose_process_vanished_is_replaced_at_once(job: dg.JobDefinition) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        gone = identity(process.pid)
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=Status.STARTED, tags={PROCESS: gone})
        Lease(instance, job.name).renew(run.run_id)
        instance.report_run_failed(instance.create_run_for_job(job, status=Status.STARTED), "not the newest")
        tick(job, instance)
        found = instance.get_run_by_id(run.run_id)
        assert found is not None and found.status is Status.FAILURE


@pytest.mark.parametrize("status", [Status.STARTING, Status.NOT_STARTED])
def test_D9_a_long_run_that_was_about_to_be_launched_is_replaced_soon(
    status: Status, job: dg.JobDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stopwatch, "seconds", lambda stopwatch, mark: 21.0)
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=status)
        assert tick(job, instance) == []
        monkeypatch.setattr("psutil.Process.create_time", lambda process: time.time() + 1)
        tick(job, instance)
        found = instance.get_run_by_id(run.run_id)
        assert found is not None and found.status is Status.FAILURE


def test_D9_runs_that_no_sensor_watches_are_buried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        gone = identity(process.pid)
    with dg.DagsterInstance.ephemeral() as instance:
        job = redrive_dead_letters

        def status(tags: dict[str, str]) -> Status:
            run = instance.create_run_for_job(job, status=Status.STARTED, tags=tags)
            bury_dead_runs(dg.build_sensor_context(instance=instance))
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            return found.status

        assert status({PROCESS: gone}) is Status.FAILURE
        assert status({PROCESS: identity()}) is Status.STARTED
        assert status({}) is Status.STARTED, "it may be about to begin"
        assert status({LONG_RUN: "collect_korea", PROCESS: gone}) is Status.STARTED, "its watchdog's"
        assert status({WINDOW_REGION: "korea", PROCESS: gone}) is Status.STARTED, "the closing sensor's"


def test_D9_runs_of_other_peoples_jobs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stopwatch, "seconds", lambda stopwatch, mark: 1e9)

    @dg.op
    def work() -> None:
        pass

    @dg.job
    def theirs() -> None:
        work()

    with dg.DagsterInstance.ephemeral() as instance:
        runs = [instance.create_run_for_job(job, status=Status.STARTED) for job in (theirs, redrive_dead_letters)]
        bury_dead_runs(dg.build_sensor_context(instance=instance))
        found = [instance.get_run_by_id(run.run_id) for run in runs]
        assert [run.status for run in found if run] == [Status.STARTED, Status.FAILURE]


def test_D9_a_run_notes_its_process() -> None:
    @dg.op
    def work(context: dg.OpExecutionContext, topics: Topics, lake: LakeFolder) -> None:
        pass

    @dg.job(resource_defs={"topics": Topics(), "lake": LakeFolder()})
    def short() -> None:
        work()

    with dg.DagsterInstance.ephemeral() as instance:
        run = short.execute_in_process(instance=instance).run_id
        found = instance.get_run_by_id(run)
        assert found is not None and found.tags[PROCESS] == identity()


@pytest.mark.parametrize("text", ["no JSON", "{", "[1]", "null", "7", ""])
def test_D28_a_lease_and_a_stopwatch_that_cannot_be_read_begin_anew(
    text: str, job: dg.JobDefinition, caplog: pytest.LogCaptureFixture
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=Status.STARTED)
        lease, stopwatch = Lease(instance, job.name), Stopwatch(instance, "of a test")
        keys = (f"coin/lease/{job.name}/{job.name}", f"coin/lease/{job.name}", "coin/stopwatch/of a test")
        instance.daemon_cursor_storage.set_cursor_values(dict.fromkeys(keys, text))
        assert tick(job, instance) == []
        assert stopwatch.seconds("mark") == 0
        assert {f"{key} in Dagster's database is no JSON object" in caplog.text for key in keys} == {True}
        lease.renew(run.run_id)
        assert lease.seen(run.run_id)


def test_runs_that_fail_at_once_are_backed_off_from(job: dg.JobDefinition) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=Status.STARTED)
        instance.report_run_failed(run, "bad setting")
        assert BRIEF > 0
        assert tick(job, instance) == []
