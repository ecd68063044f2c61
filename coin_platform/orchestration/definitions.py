"""Everything that Dagster is given: an index."""

import dagster as dg

from coin_platform.orchestration.alerts import check_alerts, failure_alerts
from coin_platform.orchestration.assets import external, tables, tables_job
from coin_platform.orchestration.close_windows import close_windows
from coin_platform.orchestration.dead_runs import bury_dead_runs
from coin_platform.orchestration.long_runs import collect_job, preprocess_job
from coin_platform.orchestration.observe import observe
from coin_platform.orchestration.redrive import redrive_dead_letters
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.retention import forget_hourly, forget_job
from coin_platform.orchestration.watchdog import watchdog
from coin_platform.selection import collected_regions, exchanges_of
from coin_platform.settings import Settings, load


def definitions(settings: Settings) -> dg.Definitions:
    """Return the definitions for these settings."""
    exchanges, regions = exchanges_of(None, settings), collected_regions(settings)
    long_jobs = [make(region) for make in (collect_job, preprocess_job) for region in regions]
    return dg.Definitions(
        assets=[
            *(spec for exchange in exchanges for spec in external(exchange, settings)),
            *(table for exchange in exchanges for table in tables(exchange, settings)),
        ],
        jobs=[*long_jobs, *(tables_job(region, settings) for region in regions), redrive_dead_letters, forget_job],
        schedules=[forget_hourly],
        sensors=[
            *map(watchdog, long_jobs),
            *(close_windows(region, settings) for region in regions),
            observe(exchanges, settings),
            bury_dead_runs,
            check_alerts,
            failure_alerts,
        ],
        resources={"topics": Topics(), "lake": LakeFolder.configure_at_launch()},
        executor=dg.in_process_executor,
    )


defs = definitions(load())
