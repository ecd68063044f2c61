"""The windows whose runs failed and that are not made yet."""

from typing import NamedTuple

import dagster as dg

from coin_platform.model import SECOND, Microseconds, Region, Window
from coin_platform.orchestration.partitions import window_of
from coin_platform.orchestration.window_runs import WINDOW_REGION_TAG, WINDOW_TAG, attempts, is_whole, materialised
from coin_platform.selection import sources_of
from coin_platform.settings import Settings

_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_REASON_CHARACTERS = 200  # of an error, so that the reason stays one line


class FailedWindow(NamedTuple):
    """A window of a region that a run has tried, and that is not in the lake."""

    window: Window
    region: Region
    attempts: int
    ended: Microseconds  # of the last attempt
    reason: str  # for which the last attempt failed, one line
    run_id: str


def failed_windows(instance: dg.DagsterInstance, settings: Settings) -> list[FailedWindow]:
    """Return the windows whose runs failed and that are not made yet, by region, oldest first."""
    return [window for region in Region for window in _of_region(instance, region, settings)]


def _of_region(instance: dg.DagsterInstance, region: Region, settings: Settings) -> list[FailedWindow]:
    failed = _last_failed_runs(instance, region)
    tags: dict[str, str | list[str]] = {WINDOW_REGION_TAG: region.value, WINDOW_TAG: list(failed)}
    succeeded = instance.get_runs(dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.SUCCESS])) if failed else []
    made_keys = {run.tags[WINDOW_TAG] for run in succeeded if is_whole(run)}
    made_keys |= materialised(
        instance, sources_of(region, settings), settings, [name for name in failed if name not in made_keys]
    )
    return [
        FailedWindow(
            window_of(name, settings.window_length),
            region,
            attempts(record.dagster_run),
            int((record.end_time or record.update_timestamp.timestamp()) * SECOND),
            _reason(instance, record.dagster_run.run_id),
            record.dagster_run.run_id,
        )
        for name, record in sorted(failed.items())
        if name not in made_keys
    ]


def _last_failed_runs(instance: dg.DagsterInstance, region: Region) -> dict[str, dg.RunRecord]:
    """Return the last failed run of each window, by partition key."""
    records = instance.get_run_records(dg.RunsFilter(tags={WINDOW_REGION_TAG: region.value}, statuses=_ENDED_BADLY))
    return {record.dagster_run.tags[WINDOW_TAG]: record for record in reversed(records)}  # they come newest first


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the first cause of the first failed step, or else what the run's failure says."""
    types = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for entry in instance.all_logs(run_id, of_type=types):
        event = entry.dagster_event
        if event is not None and event.is_step_failure and event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            while error.cause is not None:
                error = error.cause
            return " ".join(error.message.split())[:_REASON_CHARACTERS]
        if event is not None:
            return " ".join((event.message or "").split())[:_REASON_CHARACTERS]
    return "canceled"
