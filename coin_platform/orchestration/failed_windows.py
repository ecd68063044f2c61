"""Windows that failed and were not made since."""

from collections.abc import Sequence
from typing import NamedTuple

import dagster as dg

from coin_platform.model import SECOND, Microseconds, Region, Window
from coin_platform.orchestration.alerts import attempts
from coin_platform.orchestration.close_windows import WINDOW, WINDOW_REGION, is_whole, materialised
from coin_platform.orchestration.partitions import window_of
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import Settings

_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


class FailedWindow(NamedTuple):
    """A window of a region that is not in the lake although it was tried."""

    window: Window
    region: Region
    attempts: int
    ended: Microseconds  # of the last attempt
    reason: str  # why that one failed, one line
    run_id: str


def failed_windows(instance: dg.DagsterInstance, settings: Settings) -> list[FailedWindow]:
    """Return the windows whose runs failed and that nobody has made since, oldest first, for each region."""
    return [each for region in Region for each in _of_region(instance, region, settings)]


def _of_region(instance: dg.DagsterInstance, region: Region, settings: Settings) -> list[FailedWindow]:
    found = [source for kind in exchanges_of(region, settings) for source in sources(kind, settings)]
    failed = _last_runs(instance, dg.RunsFilter(tags={WINDOW_REGION: region.value}, statuses=_ENDED_BADLY))
    tags: dict[str, str | list[str]] = {WINDOW_REGION: region.value, WINDOW: list(failed)}
    succeeded = instance.get_runs(dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.SUCCESS])) if failed else []
    made = {run.tags[WINDOW] for run in succeeded if is_whole(run)}
    made |= materialised(instance, found, settings, [name for name in failed if name not in made])
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
        if name not in made
    ]


def _last_runs(instance: dg.DagsterInstance, wanted: dg.RunsFilter) -> dict[str, dg.RunRecord]:
    records: Sequence[dg.RunRecord] = instance.get_run_records(wanted)
    return {record.dagster_run.tags[WINDOW]: record for record in reversed(records)}  # they come newest first


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the first line of the error of the first step that failed, or of the run."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for entry in instance.all_logs(run_id, of_type=kinds):
        event = entry.dagster_event
        if event is not None and event.is_step_failure and event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            while error.cause is not None:
                error = error.cause
            return " ".join(error.message.split())[:200]
        if event is not None:
            return " ".join((event.message or "").split())[:200]
    return "canceled"
