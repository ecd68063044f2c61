"""Alerts: failed runs, windows that fail again and again, and failed checks. They go into the log of the sensors."""

import logging
from collections.abc import Iterator

import dagster as dg

from coin_platform.orchestration.window_runs import attempts

logger = logging.getLogger(__name__)

FAILURES_BEFORE_ALERT = 3  # of one window


def alert(line: str) -> None:
    """Tell people about something that they should look at."""
    logger.error("%s", line)


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """Yield a line for each failed check of a run. Some failed checks let their run succeed."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        event = entry.dagster_event
        check = event.asset_check_evaluation_data if event is not None else None
        if check is not None and not check.passed:
            yield f"{check.asset_key.to_user_string()} {check.partition}: {check.check_name}: {check.description}"


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def check_alerts(context: dg.RunStatusSensorContext) -> None:
    """Report the failed checks of runs that succeeded."""
    for line in failed_checks(context.instance, context.dagster_run.run_id):
        alert(f"check failed: {line}")


@dg.run_failure_sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def failure_alerts(context: dg.RunFailureSensorContext) -> None:
    """Report failed runs with their failed checks, and windows that failed three times or more."""
    run = context.dagster_run
    alert(f"run of {run.job_name} failed: {context.failure_event.message}")
    if attempts(run) >= FAILURES_BEFORE_ALERT:
        alert(
            f"window {run.tags.get('dagster/partition')} of {run.job_name} failed {attempts(run)} times; it is tried "
            "again as long as the log has its records; `coin lake retry` lists such windows and tries them now"
        )
    for line in failed_checks(context.instance, context.dagster_run.run_id):
        alert(f"check failed: {line}")
