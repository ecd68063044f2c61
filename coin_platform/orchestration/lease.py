"""The heartbeat of a long run, and how the run is told to end."""

import asyncio
import contextlib
import json
import logging
import socket
import time
from typing import Any

import dagster as dg
import psutil
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType

from coin_platform.orchestration.stopwatch import row_of
from coin_platform.runtime.stop import StopFlag

logger = logging.getLogger(__name__)

Status = dg.DagsterRunStatus
ALIVE = [Status.QUEUED, Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING]
BEAT, STALE, BOOT = 5.0, 45.0, 120.0  # seconds: between heartbeats, without one until dead, until the first one
LONG_RUN, VERSION, TAKES_OVER = "coin/long_run", "coin/version", "coin/takes_over"  # tags


class Lease:
    """The heartbeat of a long run, in Dagster's own key-value table: an upsert, so that the event log does not grow.

    It is a count of beats, which the watchdog compares over its own ticks: whose wall clock jumps does not matter.
    """

    def __init__(self, instance: dg.DagsterInstance, job: str, name: str | None = None) -> None:
        """`name` tells the run apart from another one of the job that is alive: its tag `LONG_RUN`."""
        self._storage = instance.daemon_cursor_storage
        # The second row is that of the run that beat last, which may be the other one. Former versions wrote only this.
        self._keys = (f"coin/lease/{job}/{name or job}", f"coin/lease/{job}")
        self._beats = 0

    def renew(self, run_id: str) -> None:
        """Say that this run is alive."""
        self._beats += 1
        process = psutil.Process()
        where = {"host": socket.gethostname(), "pid": process.pid, "started": _age_of_machine(process)}
        row = json.dumps({"run_id": run_id, "beats": self._beats, "time": time.time(), **where})
        self._storage.set_cursor_values(dict.fromkeys(self._keys, row))

    def seen(self, run_id: str) -> str:
        """Return a text that changes with each beat of a run; empty before the first one."""
        row = self._row(run_id)
        return json.dumps([row.get("beats"), row["time"]]) if row else ""

    def kill(self, run_id: str) -> None:
        """End a run's process if it is on this machine: one that is only frozen still holds the journals' locks."""
        row = self._row(run_id)
        if row.get("host") != socket.gethostname():
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(row["pid"])
            if abs(_age_of_machine(process) - row["started"]) < 1:  # or another process has that id by now
                process.kill()

    def _row(self, run_id: str) -> dict[str, Any]:
        values = self._storage.get_cursor_values(set(self._keys))
        rows = [row_of(values, key) for key in self._keys]
        return next((row for row in rows if row.get("run_id") == run_id), {})


def _age_of_machine(process: psutil.Process) -> float:
    """Return the seconds from the machine's start to the process's, which no step of the wall clock changes."""
    return process.create_time() - psutil.boot_time()


def sensor_name(job: str) -> str:
    """Return the name of the sensor whose switch says whether a long run should run."""
    return f"{job}_watchdog"


def is_switched_off(instance: dg.DagsterInstance, job: str) -> bool:
    """Whether the user has switched the job's sensor off in the UI."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    return any(s.status is InstigatorStatus.STOPPED for s in states if s.instigator_name == sensor_name(job))


async def beat(instance: dg.DagsterInstance, run_id: str, job: str, stop: StopFlag, every: float = BEAT) -> None:
    """Renew the lease, and obey: a run that was declared dead, cancelled or switched off ends itself."""
    lease: Lease | None = None
    while not stop.event.is_set():
        try:
            run = await asyncio.to_thread(instance.get_run_by_id, run_id)
            if run is None or run.status in (Status.CANCELING, Status.CANCELED, Status.FAILURE):
                return stop.set(f"fenced: {run.status.value if run else 'deleted'}")
            if await asyncio.to_thread(is_switched_off, instance, job):
                return stop.set("its sensor is switched off")
            lease = lease or Lease(instance, job, run.tags.get(LONG_RUN))
            await asyncio.to_thread(lease.renew, run_id)
        except Exception:  # whatever ails Dagster's database, frames must go on being stored
            logger.exception("%s: heartbeat failed; collecting goes on", job)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.event.wait(), every)
    return None
