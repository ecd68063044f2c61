"""Alerts: failed runs and failed checks, in the log of the process that serves the definitions."""

import logging
from collections.abc import Iterator

import dagster as dg

logger = logging.getLogger(__name__)


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
        logger.error("check failed: %s", line)


@dg.run_failure_sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def failure_alerts(context: dg.RunFailureSensorContext) -> None:
    """Report failed runs, with their failed checks."""
    logger.error("run of %s failed: %s", context.dagster_run.job_name, context.failure_event.message)
    for line in failed_checks(context.instance, context.dagster_run.run_id):
        logger.error("check failed: %s", line)
