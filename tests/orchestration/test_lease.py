"""A long run beats and obeys Dagster, and goes on whatever is wrong with Dagster's database."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster import DagsterRunStatus

from coin_platform.model import Region
from coin_platform.orchestration.lease import Lease, beat
from coin_platform.orchestration.long_runs import collect_job
from coin_platform.orchestration.stopwatch import Stopwatch
from coin_platform.orchestration.watchdog import watchdog
from coin_platform.runtime.stop import StopFlag

HOUR = 3600.0
JOB = collect_job(Region.KOREA)


def test_a_beat_renews_the_lease_and_obeys_terminate(tmp_path: Path) -> None:
    async def scenario(instance: dg.DagsterInstance) -> str:
        run, stop = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED), StopFlag()
        lease = Lease(instance, JOB.name)
        beating = asyncio.create_task(beat(instance, run.run_id, JOB.name, stop, beat_seconds=0.01))
        async with asyncio.timeout(20):
            while not (first := lease.last_beat(run.run_id)):
                await asyncio.sleep(0.01)
            while lease.last_beat(run.run_id) == first:
                await asyncio.sleep(0.01)
        instance.report_run_canceling(run)
        await asyncio.wait_for(beating, 10)
        return stop.reason

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert asyncio.run(scenario(instance)) == "the run is CANCELING in Dagster"


def test_S1_A16_a_full_disk_of_dagsters_home_stops_no_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(instance: dg.DagsterInstance) -> None:
        run, stop = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED), StopFlag()
        tries = 0

        def full(*_: Any) -> None:
            nonlocal tries
            tries += 1
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(Lease, "renew", full)
        beating = asyncio.create_task(beat(instance, run.run_id, JOB.name, stop, beat_seconds=0.01))
        async with asyncio.timeout(20):
            while tries < 3:
                await asyncio.sleep(0.01)
        assert not stop.event.is_set() and not beating.done()
        stop.set("enough")
        await asyncio.wait_for(beating, 10)

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        asyncio.run(scenario(instance))
    assert "collect_korea: the heartbeat failed; the work goes on" in caplog.text


@pytest.mark.parametrize("text", ["no JSON", "{", "[1]", "null", "7", ""])
def test_D28_a_lease_and_a_stopwatch_that_cannot_be_read_begin_anew(
    text: str, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    run = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED)
    lease, stopwatch = Lease(instance, JOB.name), Stopwatch(instance, "of a test")
    keys = (f"coin/lease/{JOB.name}/{JOB.name}", f"coin/lease/{JOB.name}", "coin/stopwatch/of a test")
    instance.daemon_cursor_storage.set_cursor_values(dict.fromkeys(keys, text))
    skipped = watchdog(JOB)(dg.build_sensor_context(instance=instance))
    assert isinstance(skipped, dg.SkipReason)
    assert stopwatch.seconds("mark") == 0
    assert {f"{key} in Dagster's database is not a JSON object" in caplog.text for key in keys} == {True}
    lease.renew(run.run_id)
    assert lease.last_beat(run.run_id)


def test_a_frozen_process_is_known_again_after_a_step_of_the_wall_clock(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED)
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
