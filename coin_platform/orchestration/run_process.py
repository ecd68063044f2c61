"""The process that does a run, written down in the run's tags, so that a run without one can be declared dead.

Dagster itself notices that a process has vanished only while the code server that started it lives.
"""

from collections.abc import Sequence

import dagster as dg
import psutil

from coin_platform.orchestration.stopwatch import Stopwatch
from coin_platform.runtime.processes import identity, is_alive

PROCESS = "coin/process"  # tag: the identity of the process that does a run
BOOT_SECONDS = 180.0  # until a launched run must have a process; loading the code takes seconds, a minute when busy
LEFT_SECONDS = 20.0  # the same of a run that a killed process was about to launch; its daemon may still go on with it


def note_process(instance: dg.DagsterInstance | None, run: dg.DagsterRun | None) -> None:
    """Write into a run's tags that this process does it; without a run, as in a sensor, do nothing."""
    if instance is not None and run is not None and run.tags.get(PROCESS) != identity():
        instance.add_run_tags(run.run_id, {PROCESS: identity()})


def bury_dead(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord], name: str) -> list[dg.RunRecord]:
    """Fail the runs among `records` whose process is gone, or that never got one; return the others.

    A queued run has no process and needs none. `name` tells the stopwatch of who looks from those of others.
    """
    alive = bury_vanished(instance, records)
    starting = [record for record in alive if _has_no_process(record.dagster_run)]
    mark = " ".join(sorted(record.dagster_run.run_id for record in starting))
    seconds = Stopwatch(instance, f"start/{name}").seconds(mark)
    dead = [record for record in starting if seconds > (LEFT_SECONDS if _is_left(record) else BOOT_SECONDS)]
    for record in dead:
        _fail(instance, record, f"no process took it within {seconds:.0f} s")
    return [record for record in alive if record not in dead]


def bury_vanished(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
    """Fail the runs among `records` whose process is gone; return the others.

    A process of another host cannot be seen from here: such a run ends by its lease, or by the time limit of its job.
    """
    gone = [record for record in records if is_alive(record.dagster_run.tags.get(PROCESS, "")) is False]
    for record in gone:
        _fail(instance, record, f"its process is gone: {record.dagster_run.tags[PROCESS]}")
    return [record for record in records if record not in gone]


def _has_no_process(run: dg.DagsterRun) -> bool:
    return run.status is not dg.DagsterRunStatus.QUEUED and PROCESS not in run.tags


def _is_left(record: dg.RunRecord) -> bool:
    """Whether a run has not moved since before this process, which starts the processes of runs, was there."""
    return record.update_timestamp.timestamp() < psutil.Process().create_time()


def _fail(instance: dg.DagsterInstance, record: dg.RunRecord, cause: str) -> None:
    run = instance.get_run_by_id(record.dagster_run.run_id)
    if run is not None and not run.is_finished:  # or it ended while we looked
        instance.report_run_failed(run, f"{run.job_name}: {cause}")
