"""Writes into a run's tags which process executes it, and fails runs whose process is gone.

Dagster itself notices that a process has vanished only while the code server that started it lives.
"""

import time
from collections.abc import Callable, Sequence

import dagster as dg
from dagster._time import get_current_timestamp

from coin_platform.clock import elapsed
from coin_platform.orchestration.stopwatch import Stopwatch
from coin_platform.runtime.processes import identity, is_alive

PROCESS_TAG = "coin/process"  # the identity of the process that executes a run
BOOT_SECONDS = 180.0  # in which a launched run must get a process; loading the code takes a minute on a busy machine
LEFT_SECONDS = 20.0  # the same for a run that a killed process was about to launch; its daemon may still launch it

_BEGAN = elapsed()  # when this process began, by a clock that nobody sets


def note_process(instance: dg.DagsterInstance | None, run: dg.DagsterRun | None) -> None:
    """Write into a run's tags that this process executes it. Do nothing without a run, as in a sensor."""
    if instance is not None and run is not None and run.tags.get(PROCESS_TAG) != identity():
        instance.add_run_tags(run.run_id, {PROCESS_TAG: identity()})


def fail_dead(
    instance: dg.DagsterInstance,
    records: Sequence[dg.RunRecord],
    name: str,
    clock: Callable[[], float] = time.monotonic,
) -> list[dg.RunRecord]:
    """Fail the runs whose process is gone, and those that never got a process; return the others.

    A queued run has no process and needs none. `name` is the name of the caller's stopwatch.
    """
    alive = fail_vanished(instance, records)
    starting = [record for record in alive if _has_no_process(record.dagster_run)]
    mark = " ".join(sorted(record.dagster_run.run_id for record in starting))
    seconds = Stopwatch(instance, f"start/{name}", clock).seconds(mark)
    dead = [record for record in starting if seconds > (LEFT_SECONDS if _is_left(record) else BOOT_SECONDS)]
    for record in dead:
        _fail(instance, record, f"no process began it within {seconds:.0f} s")
    return [record for record in alive if record not in dead]


def fail_vanished(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
    """Fail the runs whose process is gone; return the others.

    Processes of other hosts cannot be seen from here. Such a run ends by its lease, or by the time limit of its job.
    """
    gone = [record for record in records if is_alive(record.dagster_run.tags.get(PROCESS_TAG, "")) is False]
    for record in gone:
        _fail(instance, record, f"its process is gone: {record.dagster_run.tags[PROCESS_TAG]}")
    return [record for record in records if record not in gone]


def _has_no_process(run: dg.DagsterRun) -> bool:
    return run.status is not dg.DagsterRunStatus.QUEUED and PROCESS_TAG not in run.tags


def _is_left(record: dg.RunRecord) -> bool:
    """Return whether a run has not changed since this process began, which starts the processes of runs.

    Ages are compared. The time at which a process began, as the system tells it, moves with a clock that is set.
    """
    age = get_current_timestamp() - record.update_timestamp.timestamp()
    return age > elapsed() - _BEGAN


def _fail(instance: dg.DagsterInstance, record: dg.RunRecord, cause: str) -> None:
    run = instance.get_run_by_id(record.dagster_run.run_id)
    if run is not None and not run.is_finished:  # the run may have ended since it was listed
        instance.report_run_failed(run, f"{run.job_name}: {cause}")
