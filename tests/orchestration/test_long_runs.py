"""A long run obeys Dagster, and outlives whatever ails Dagster's database."""

import asyncio
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus as Status

from coin_platform.model import Region
from coin_platform.orchestration.lease import Lease, beat
from coin_platform.orchestration.long_runs import collect_job, with_own_metrics_port
from coin_platform.runtime.stop import StopFlag
from coin_platform.settings import Settings

JOB = collect_job(Region.KOREA)


def test_a_beat_renews_the_lease_and_obeys_terminate(tmp_path: Path) -> None:
    async def scenario(instance: dg.DagsterInstance) -> str:
        run, stop = instance.create_run_for_job(JOB, status=Status.STARTED), StopFlag()
        lease = Lease(instance, JOB.name)
        beating = asyncio.create_task(beat(instance, run.run_id, JOB.name, stop, every=0.01))
        async with asyncio.timeout(20):
            while not (first := lease.seen(run.run_id)):
                await asyncio.sleep(0.01)
            while lease.seen(run.run_id) == first:
                await asyncio.sleep(0.01)
        instance.report_run_canceling(run)
        await asyncio.wait_for(beating, 10)
        return stop.reason

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert asyncio.run(scenario(instance)) == "fenced: CANCELING"


def test_S1_A16_a_full_disk_of_dagsters_home_stops_no_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(instance: dg.DagsterInstance) -> None:
        run, stop = instance.create_run_for_job(JOB, status=Status.STARTED), StopFlag()
        tries = 0

        def full(*_: Any) -> None:
            nonlocal tries
            tries += 1
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(Lease, "renew", full)
        beating = asyncio.create_task(beat(instance, run.run_id, JOB.name, stop, every=0.01))
        async with asyncio.timeout(20):
            while tries < 3:
                await asyncio.sleep(0.01)
        assert not stop.event.is_set() and not beating.done()
        stop.set("enough")
        await asyncio.wait_for(beating, 10)

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        asyncio.run(scenario(instance))
    assert "collect_korea: heartbeat failed; collecting goes on" in caplog.text


def test_D12_each_workers_metrics_have_a_port_of_their_own() -> None:
    def ports(settings: Settings, *regions: Region) -> list[int]:
        return [with_own_metrics_port(settings, region).metrics_port for region in regions]

    assert ports(Settings(metrics_port=9100), *Region) == [9100, 9101, 9102]
    assert ports(Settings(metrics_port=9100, exchanges=("okx", "kraken")), Region.ASIA, Region.NE) == [9100, 9101]
    assert ports(Settings(metrics_port=0), *Region) == [0, 0, 0]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_D11_a_long_run_ends_in_order_also_when_its_terminal_closes(number: signal.Signals) -> None:
    async def scenario() -> str:
        stop = StopFlag()
        with stop.installed():
            os.kill(os.getpid(), number)
            await asyncio.wait_for(stop.event.wait(), 10)
        return stop.reason

    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert asyncio.run(scenario()) == number.name
        assert signal.getsignal(number) is signal.SIG_DFL, "as it was"
    finally:
        signal.signal(number, before)
