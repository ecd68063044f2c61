"""Everything that Dagster is given: an index."""

import dagster as dg

from coin_platform.model import Region
from coin_platform.orchestration.alerts import check_alerts, failure_alerts
from coin_platform.orchestration.assets import external, tables
from coin_platform.orchestration.burial import bury_dead_runs
from coin_platform.orchestration.close_windows import close_windows
from coin_platform.orchestration.long_runs import collect_job, preprocess_job, watchdog
from coin_platform.orchestration.redrive import redrive_dead_letters
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.retention import forget_hourly, forget_job
from coin_platform.selection import collects, exchanges_of, sources
from coin_platform.settings import Settings, load

TIME_LIMIT = {"dagster/max_runtime": str(6 * 3600)}  # seconds for a window of a region; frozen, it holds up the rest


def definitions(settings: Settings) -> dg.Definitions:
    """Return the definitions for these settings."""
    exchanges = exchanges_of(None, settings)
    busy = [exchange.region for exchange in exchanges if collects(exchange, settings)]
    regions = [region for region in Region if region in busy]  # elsewhere a collector would have nothing to do
    long = [make(region) for make in (collect_job, preprocess_job) for region in regions]
    closing, sensors = [], []
    for region in regions:
        found = [source for kind in exchanges_of(region, settings) for source in sources(kind, settings)]
        made = [table.key for kind in exchanges_of(region, settings) for table in tables(kind, settings)]
        job = dg.define_asset_job(f"tables_{region}", selection=dg.AssetSelection.assets(*made), tags=TIME_LIMIT)
        closing.append(job)
        sensors.append(close_windows(region, job.name, found, settings))
    return dg.Definitions(
        assets=[
            *(spec for kind in exchanges for spec in external(kind, settings)),
            *(table for kind in exchanges for table in tables(kind, settings)),
        ],
        jobs=[*long, *closing, redrive_dead_letters, forget_job],
        schedules=[forget_hourly],
        sensors=[*map(watchdog, long), *sensors, bury_dead_runs, check_alerts, failure_alerts],
        resources={"topics": Topics(), "lake": LakeFolder.configure_at_launch()},
        executor=dg.in_process_executor,
    )


defs = definitions(load())
