"""The hourly job that deletes old runs from Dagster, with their events and their output, and old observations.

The lake keeps everything. Only Dagster's pages no longer show how an old window was made.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG

from coin_platform.model import Region
from coin_platform.orchestration.assets import external_keys
from coin_platform.orchestration.failed_windows import failed_windows
from coin_platform.orchestration.lease import UNFINISHED_STATUSES
from coin_platform.orchestration.run_process import note_process
from coin_platform.runtime.log_files import rotate
from coin_platform.selection import exchanges_of
from coin_platform.settings import load

KEEP_SECONDS = 14 * 86_400.0  # two weeks, as for ticks in dagster_home/dagster.yaml
KEEP_RUNS = 600  # of one job: a window of four exchanges takes 2 MB of Dagster's database
OUTPUT_BYTES = 10_000_000  # of a running run; a larger file is rotated, and one old file is kept
KEEP_OBSERVATIONS = 96  # of one asset: 8 hours of an exchange that is observed every 5 minutes
_NO_RUN = ""  # the run id of events that a sensor reports
_PAGE_RUNS = 200  # that Dagster's database is asked for at once
_JOBS = (
    *(f"{prefix}_{region}" for prefix in ("collect", "preprocess", "tables") for region in Region),
    *("redrive_dead_letters", "forget_old_runs", "lake_backfill"),
)
_UI_RUN_TAGS = {".dagster/repository": "__repository__@coin_platform"}  # of runs that the UI makes of chosen assets
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def forget(instance: dg.DagsterInstance, kept_ids: set[str], now: float | None = None) -> int:
    """Delete the finished runs of our jobs that are too old or too many, oldest first; return how many.

    The runs `kept_ids` stay. So do the runs of other people's jobs on the same Dagster. `now` is in seconds since 1970.
    The default is the wall clock's time.
    """
    now = time.time() if now is None else now
    filters = [dg.RunsFilter(job_name=name, statuses=_FINISHED) for name in _JOBS]
    filters.append(dg.RunsFilter(job_name="__ASSET_JOB", tags=_UI_RUN_TAGS, statuses=_FINISHED))
    return sum(_forget_runs(instance, finished, kept_ids, now) for finished in filters)


def forget_observations(instance: dg.DagsterInstance, keys: Iterable[Sequence[str]]) -> int:
    """Delete all but the newest observations of these assets that no run has made; return how many.

    Dagster itself keeps every event for ever. A storage that is not SQL is left alone.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return 0
    names = [dg.AssetKey(list(key)).to_string() for key in keys]
    with storage.index_connection() as connection:
        count = sum(_forget_observations(connection, name) for name in names)
    if isinstance(storage, SqliteEventLogStorage):  # it has a second copy of each event, in a file for each run
        with storage.run_connection(_NO_RUN) as connection:
            for name in names:
                _forget_observations(connection, name)
    return count


def _forget_observations(connection: Any, asset_key: str) -> int:
    events = SqlEventLogStorageTable.c
    is_observation = (
        (events.asset_key == asset_key)
        & (events.dagster_event_type == dg.DagsterEventType.ASSET_OBSERVATION.value)
        & (events.run_id == _NO_RUN)
    )
    newest_first = SqlEventLogStorageTable.select().where(is_observation).order_by(events.id.desc())
    surplus = newest_first.with_only_columns(events.id).offset(KEEP_OBSERVATIONS).limit(1)
    newest_surplus = connection.execute(surplus).scalar()
    if newest_surplus is None:
        return 0
    delete = SqlEventLogStorageTable.delete().where(is_observation & (events.id <= newest_surplus))
    return int(connection.execute(delete).rowcount)


def rotate_output(instance: dg.DagsterInstance) -> None:
    """Rotate the captured output of running runs where it has become large. A long run's output never ends."""
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_STATUSES)):
        folder = Path(instance.storage_directory()) / run.run_id / "compute_logs"
        for path in (*folder.glob("*.out"), *folder.glob("*.err")):
            rotate(path, OUTPUT_BYTES, old_logs=1)


def _forget_runs(instance: dg.DagsterInstance, finished: dg.RunsFilter, kept_ids: set[str], now: float) -> int:
    count = 0
    while True:
        page = _surplus(instance, finished, _PAGE_RUNS + len(kept_ids), now)
        run_ids = [record.dagster_run.run_id for record in page if record.dagster_run.run_id not in kept_ids]
        for run_id in run_ids:
            _forget_run(instance, run_id)
        count += len(run_ids)
        if not run_ids:
            return count


def _surplus(instance: dg.DagsterInstance, finished: dg.RunsFilter, limit: int, now: float) -> Iterator[dg.RunRecord]:
    """Yield those of the `limit` oldest finished runs that are too old or too many."""
    too_many = instance.get_runs_count(finished) - KEEP_RUNS
    for number, record in enumerate(instance.get_run_records(finished, limit=limit, ascending=True)):
        ended = record.end_time or record.update_timestamp.timestamp()
        if number < too_many or now - ended > KEEP_SECONDS:
            yield record


def _forget_run(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    storage = instance.event_log_storage
    if isinstance(storage, SqlEventLogStorage):  # `delete_run` leaves these rows
        with storage.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.delete().where(AssetCheckExecutionsTable.c.run_id == run_id))
    if isinstance(storage, SqliteEventLogStorage):  # `delete_run` empties the run's file and leaves it
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{storage.path_for_shard(run_id)}{suffix}").unlink()


def _scheduled_time(run: dg.DagsterRun) -> float | None:
    """Return the time for which the schedule asked for a run, `None` if a person started it.

    The daemon's clock holds jumps back (see `dagster_clocks`). The clock of a run that has just begun cannot.
    """
    text = run.tags.get(SCHEDULED_EXECUTION_TIME_TAG)
    return None if text is None else datetime.fromisoformat(text).timestamp()


@dg.op
def forget_runs(context: dg.OpExecutionContext) -> None:
    """Delete old runs, except those of windows that failed and are not made yet: `coin lake retry` lists them."""
    settings = load()
    note_process(context.instance, context.run)
    kept_ids = {window.run_id for window in failed_windows(context.instance, settings)}
    count = forget(context.instance, kept_ids, _scheduled_time(context.run))
    observed = forget_observations(context.instance, external_keys(exchanges_of(None, settings), settings))
    rotate_output(context.instance)
    context.log.info(f"{observed} observations deleted")
    context.log.info(f"{count} runs deleted, {len(kept_ids)} kept for windows that are not made yet")


@dg.job(name="forget_old_runs", executor_def=dg.in_process_executor, tags={"dagster/max_runtime": "3600"})
def forget_job() -> None:
    """Delete old runs from Dagster's database and files, so that its home stays small."""
    forget_runs()


forget_hourly = dg.ScheduleDefinition(
    name="forget_old_runs_hourly",
    job=forget_job,
    cron_schedule="17 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
