"""What Dagster is given: a snapshot of the names, and the watchdog's decisions."""

import time
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus as Status

from coin_platform.model import Region
from coin_platform.orchestration.definitions import definitions
from coin_platform.orchestration.ingest import BRIEF, Lease, collect_job, watchdog
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
    assert jobs == {*by_region, "redrive_dead_letters"}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    assert sensors == {
        *(f"{kind}_{region}_watchdog" for kind in ("collect", "preprocess") for region in Region),
        *(f"close_windows_{region}" for region in Region),
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
    assert upstream["korea/upbit/dead"] == upstream["korea/upbit/gap"] == raw


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


def test_a_run_that_ended_gets_one_successor_named_after_it(job: dg.JobDefinition) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=Status.CANCELED)
        assert tick(job, instance) == tick(job, instance) == [f"collect_korea:after:{run.run_id}"]


def test_a_run_without_a_heartbeat_is_declared_dead(job: dg.JobDefinition, monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=Status.STARTED)
        assert tick(job, instance) == []
        future = time.time() + 1000
        monkeypatch.setattr("coin_platform.orchestration.ingest.time.time", lambda: future)
        tick(job, instance)
        found = instance.get_run_by_id(run.run_id)
        assert found is not None and found.status is Status.FAILURE


def test_runs_that_fail_at_once_are_backed_off_from(job: dg.JobDefinition) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=Status.STARTED)
        instance.report_run_failed(run, "bad setting")
        assert BRIEF > 0
        assert tick(job, instance) == []
