"""The sensor that fails dead runs that no other sensor watches."""

import dagster as dg

from coin_platform.orchestration.lease import LONG_RUN_TAG, UNFINISHED_STATUSES
from coin_platform.orchestration.run_process import fail_dead, fail_vanished
from coin_platform.orchestration.window_runs import WINDOW_REGION_TAG

_OWN_JOBS = ("tables_", "redrive_dead_letters", "forget_old_runs")  # begin of the names of jobs that note their process


@dg.sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def bury_dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Fail runs whose process is gone, so that others may start in their place.

    Long runs and the runs of windows have sensors of their own. Runs of other people's jobs on the same Dagster note
    no process and are left alone.
    """
    unfinished = context.instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED_STATUSES))
    unwatched = [
        record for record in unfinished if not {WINDOW_REGION_TAG, LONG_RUN_TAG} & record.dagster_run.tags.keys()
    ]
    unwatched = fail_vanished(context.instance, unwatched)
    own = [record for record in unwatched if record.dagster_run.job_name.startswith(_OWN_JOBS)]
    fail_dead(context.instance, own, "others")
    return dg.SkipReason(f"{len(unwatched)} other runs")
