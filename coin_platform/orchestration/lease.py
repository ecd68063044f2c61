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
from coin_platform.runtime.threads import in_own_thread

logger = logging.getLogger(__name__)

LONG_RUN_TAG = "coin/long_run"  # the name of a long run: the queue lets only one run of a name start
VERSION_TAG = "coin/version"  # the code and the settings with which the run was started
TAKES_OVER_TAG = "coin/takes_over"  # the id of the run that this run replaces

BEAT_SECONDS = 5.0  # between two heartbeats
STALE_SECONDS = 45.0  # without a heartbeat, after which a run counts as dead: eight beats may be lost
FIRST_BEAT_SECONDS = 120.0  # the same before the first heartbeat: a busy machine takes a minute to load the code

UNFINISHED_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_ENDED_BY_DAGSTER = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)


class Lease:
    """The heartbeats of one long run, as a row of Dagster's key-value table.

    Each heartbeat replaces the row, so that Dagster's event log does not grow. The row holds a count of the heartbeats.
    The watchdog compares the count between its ticks, so that no jump of a wall clock matters.
    """

    def __init__(self, instance: dg.DagsterInstance, job: str, name: str | None = None) -> None:
        """`name` is the run's `LONG_RUN_TAG`. It differs when another run of the job is alive."""
        self._storage = instance.daemon_cursor_storage
        # All runs of the job share the second key. Former versions wrote only that one.
        self._keys = (f"coin/lease/{job}/{name or job}", f"coin/lease/{job}")
        self._beats = 0

    def renew(self, run_id: str) -> None:
        """Store a heartbeat of this process."""
        self._beats += 1
        process = psutil.Process()
        place = {"host": socket.gethostname(), "pid": process.pid, "started": _seconds_since_boot(process)}
        row = json.dumps({"run_id": run_id, "beats": self._beats, "time": time.time(), **place})
        self._storage.set_cursor_values(dict.fromkeys(self._keys, row))

    def last_beat(self, run_id: str) -> str:
        """Return a text that changes with each heartbeat of a run. It is empty before the first one."""
        row = self._row(run_id)
        return json.dumps([row.get("beats"), row["time"]]) if row else ""

    def kill(self, run_id: str) -> None:
        """Kill the process of a run if it is on this machine. A frozen process still holds the locks of journals."""
        row = self._row(run_id)
        if row.get("host") != socket.gethostname():
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(row["pid"])
            # If the times differ, another process has got the same id since.
            if abs(_seconds_since_boot(process) - row["started"]) < 1:
                process.kill()

    def _row(self, run_id: str) -> dict[str, Any]:
        values = self._storage.get_cursor_values(set(self._keys))
        rows = [row_of(values, key) for key in self._keys]
        return next((row for row in rows if row.get("run_id") == run_id), {})


def _seconds_since_boot(process: psutil.Process) -> float:
    """Return the seconds from the machine's start to the process's start. No step of the wall clock changes them."""
    return process.create_time() - psutil.boot_time()


def sensor_name(job: str) -> str:
    """Return the name of the sensor whose switch says whether a long run should run."""
    return f"{job}_watchdog"


def is_switched_off(instance: dg.DagsterInstance, job: str) -> bool:
    """Return whether the user has switched the job's sensor off in the UI."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    own = [state for state in states if state.instigator_name == sensor_name(job)]
    return any(state.status is InstigatorStatus.STOPPED for state in own)


async def beat(
    instance: dg.DagsterInstance, run_id: str, job: str, stop: StopFlag, beat_seconds: float = BEAT_SECONDS
) -> None:
    """Renew the lease until the run stops. Stop the run when it was declared dead, canceled or switched off."""
    lease: Lease | None = None
    while not stop.event.is_set():
        try:
            run = await in_own_thread(lambda: instance.get_run_by_id(run_id), "run")
            if run is None or run.status in _ENDED_BY_DAGSTER:
                return stop.set(f"the run is {run.status.value if run else 'deleted'} in Dagster")
            if await in_own_thread(lambda: is_switched_off(instance, job), "switch"):
                return stop.set("its sensor is switched off")
            lease = own = lease or Lease(instance, job, run.tags.get(LONG_RUN_TAG))
            await in_own_thread(lambda: own.renew(run_id), "heartbeat")  # noqa: B023
        except Exception:  # frames must be stored whatever is wrong with Dagster's database
            logger.exception("%s: the heartbeat failed; the work goes on", job)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.event.wait(), beat_seconds)
    return None
