"""The process that does a run, written down in the run's tags, so that a run without one can be declared dead.

Dagster itself notices that a process has vanished only while the code server that started it lives.
"""

import time
from collections.abc import Sequence

import dagster as dg

from coin_platform.processes import identity, is_alive

PROCESS = "coin/process"  # tag: the identity of the process that does a run
BOOT_SECONDS = 180.0  # until a launched run must have a process; loading the code takes seconds, a minute when busy


def note_process(instance: dg.DagsterInstance | None, run: dg.DagsterRun | None) -> None:
    """Write into a run's tags that this process does it; without a run, as in a sensor, do nothing."""
    if instance is not None and run is not None and run.tags.get(PROCESS) != identity():
        instance.add_run_tags(run.run_id, {PROCESS: identity()})


def bury_dead(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
    """Fail the runs among `records` whose process is gone, or that never got one; return the others.

    A queued run has no process and needs none. A process of another host cannot be seen from here: such a run ends by
    its lease, or by the time limit of its job.
    """
    return [record for record in records if not _bury(instance, record)]


def _bury(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    cause = _cause_of_death(record)
    if cause is None:
        return False
    run = instance.get_run_by_id(record.dagster_run.run_id)
    if run is not None and not run.is_finished:  # or it ended while we looked
        instance.report_run_failed(run, f"{run.job_name}: {cause}")
    return True


def _cause_of_death(record: dg.RunRecord) -> str | None:
    run = record.dagster_run
    if run.status is dg.DagsterRunStatus.QUEUED:
        return None
    if (process := run.tags.get(PROCESS)) is not None:
        return f"its process is gone: {process}" if is_alive(process) is False else None
    if time.time() - record.update_timestamp.timestamp() > BOOT_SECONDS:
        return f"no process took it within {BOOT_SECONDS:.0f} s"
    return None
