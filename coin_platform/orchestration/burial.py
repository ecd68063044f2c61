"""The sensor that declares dead what no other sensor watches."""

import dagster as dg

from coin_platform.orchestration.close_windows import WINDOW_REGION
from coin_platform.orchestration.lease import ALIVE, LONG_RUN
from coin_platform.orchestration.run_process import bury_dead, bury_vanished

_OURS = ("tables_", "redrive_dead_letters", "forget_old_runs")  # jobs whose runs always name their process


@dg.sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def bury_dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Free the places that dead runs hold; long runs and those of windows are watched by their own sensors.

    Runs of other people's jobs on the same Dagster name no process, and are left alone.
    """
    alive = context.instance.get_run_records(dg.RunsFilter(statuses=ALIVE))
    others = [record for record in alive if not {WINDOW_REGION, LONG_RUN} & record.dagster_run.tags.keys()]
    others = bury_vanished(context.instance, others)
    ours = [record for record in others if record.dagster_run.job_name.startswith(_OURS)]
    bury_dead(context.instance, ours, "others")
    return dg.SkipReason(f"{len(others)} other runs")
