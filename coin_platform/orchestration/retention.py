"""What Dagster remembers of runs, bounded: an hourly job forgets old runs, their events and their output.

The lake forgets nothing: only Dagster's pages no longer show how an old window was made.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG

from coin_platform.model import Region
from coin_platform.orchestration.failed_windows import failed_windows
from coin_platform.orchestration.lease import ALIVE
from coin_platform.orchestration.run_process import note_process
from coin_platform.runtime.logs import rotate
from coin_platform.settings import load

KEEP_SECONDS = 14 * 86_400.0
KEEP_RUNS = 600  # of a job, at most: a window of four exchanges takes 2 MB of Dagster's database
OUTPUT_BYTES = 10_000_000  # of a run that goes on; then it is begun anew, and the former part is kept once
_PAGE = 200  # runs that are looked at in one question
_JOBS = (
    *(f"{kind}_{region}" for kind in ("collect", "preprocess", "tables") for region in Region),
    *("redrive_dead_letters", "forget_old_runs", "lake_backfill"),
)
_BY_HAND = {".dagster/repository": "__repository__@coin_platform"}  # tag of runs that the UI makes of chosen assets
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def forget(instance: dg.DagsterInstance, kept: set[str], now: float | None = None) -> int:
    """Forget the finished runs of our jobs that are too old or too many, oldest first; return how many.

    Those `kept` stay, and those of other people's jobs on the same Dagster. `now` is in seconds since 1970, by default
    what the wall clock says.
    """
    moment = time.time() if now is None else now
    jobs = [dg.RunsFilter(job_name=name, statuses=_FINISHED) for name in _JOBS]
    jobs.append(dg.RunsFilter(job_name="__ASSET_JOB", tags=_BY_HAND, statuses=_FINISHED))
    return sum(_forget_runs(instance, finished, kept, moment) for finished in jobs)


def rotate_output(instance: dg.DagsterInstance) -> None:
    """Begin the captured output of running runs anew where it has become large: that of a long run never ends."""
    for run in instance.get_runs(dg.RunsFilter(statuses=ALIVE)):
        folder = Path(instance.storage_directory()) / run.run_id / "compute_logs"
        for path in (*folder.glob("*.out"), *folder.glob("*.err")):
            rotate(path, OUTPUT_BYTES, old_logs=1)


def _forget_runs(instance: dg.DagsterInstance, finished: dg.RunsFilter, kept: set[str], now: float) -> int:
    forgotten = 0
    while True:
        oldest = _old(instance, finished, _PAGE + len(kept), now)
        old = [each for each in oldest if each.dagster_run.run_id not in kept]
        for record in old:
            _forget(instance, record.dagster_run.run_id)
        forgotten += len(old)
        if not old:
            return forgotten


def _old(instance: dg.DagsterInstance, finished: dg.RunsFilter, limit: int, now: float) -> Iterator[dg.RunRecord]:
    """Yield the oldest finished runs, as far as they are too old or too many, at most `limit` of them."""
    too_many = instance.get_runs_count(finished) - KEEP_RUNS
    for number, record in enumerate(instance.get_run_records(finished, limit=limit, ascending=True)):
        ended = record.end_time or record.update_timestamp.timestamp()
        if number < too_many or now - ended > KEEP_SECONDS:
            yield record


def _scheduled_time(run: dg.DagsterRun) -> float | None:
    """Return the time for which the schedule asked for a run; `None` for one by hand.

    The daemon's clock holds jumps (see `dagster_clocks`), the clock of a run that has just begun cannot.
    """
    text = run.tags.get(SCHEDULED_EXECUTION_TIME_TAG)
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _forget(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    storage = instance.event_log_storage
    if isinstance(storage, SqlEventLogStorage):  # `delete_run` leaves these
        with storage.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.delete().where(AssetCheckExecutionsTable.c.run_id == run_id))
    if isinstance(storage, SqliteEventLogStorage):  # and of SQLite the run's file, whose rows it has deleted
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{storage.path_for_shard(run_id)}{ending}").unlink()


@dg.op
def forget_runs(context: dg.OpExecutionContext) -> None:
    """Forget old runs, but not those of windows that failed and are still to be made; they stay in a list."""
    note_process(context.instance, context.run)
    kept = {window.run_id for window in failed_windows(context.instance, load())}
    forgotten = forget(context.instance, kept, _scheduled_time(context.run))
    rotate_output(context.instance)
    context.log.info(f"{forgotten} runs forgotten, {len(kept)} kept for windows that are still to be made")


@dg.job(name="forget_old_runs", executor_def=dg.in_process_executor, tags={"dagster/max_runtime": "3600"})
def forget_job() -> None:
    """Keep Dagster's home small."""
    forget_runs()


forget_hourly = dg.ScheduleDefinition(
    name="forget_old_runs_hourly",
    job=forget_job,
    cron_schedule="17 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
