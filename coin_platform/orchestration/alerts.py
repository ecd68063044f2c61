"""Alerts: failed runs, windows that keep failing, failed checks; in the log of the process of the definitions."""

import logging
from collections.abc import Iterator

import dagster as dg

logger = logging.getLogger(__name__)


ATTEMPT = "coin/attempt"  # tag of a run that makes a window: 1 for the first one, 2 for the next
FAILURES_BEFORE_ALERT = 3  # of one window


def alert(line: str) -> None:
    """Tell people what they should look at."""
    logger.error("%s", line)


def attempts(run: dg.DagsterRun) -> int:
    """Return how often a window was tried, up to this run."""
    text = run.tags.get(ATTEMPT, "")
    return int(text) if text.isdecimal() else 1


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """Yield a line for each check of a run that failed, also those that let the run succeed."""
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
    """Report failed checks of runs that succeeded all the same."""
    for line in failed_checks(context.instance, context.dagster_run.run_id):
        alert(f"check failed: {line}")


@dg.run_failure_sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def failure_alerts(context: dg.RunFailureSensorContext) -> None:
    """Report failed runs, with their failed checks, and windows that have failed again and again."""
    run = context.dagster_run
    alert(f"run of {run.job_name} failed: {context.failure_event.message}")
    if attempts(run) >= FAILURES_BEFORE_ALERT:
        alert(
            f"window {run.tags.get('dagster/partition')} of {run.job_name} failed {attempts(run)} times; it is tried "
            "again as long as the log has its records; `coin lake retry` lists such windows and tries them now"
        )
    for line in failed_checks(context.instance, context.dagster_run.run_id):
        alert(f"check failed: {line}")
