"""The sensor that materialises each window once it has closed, also those that were missed."""

import json
import time

import dagster as dg

from coin_platform.model import Region, Window
from coin_platform.orchestration.assets import key
from coin_platform.orchestration.ingest import ALIVE
from coin_platform.orchestration.partitions import key_of, windows
from coin_platform.orchestration.reading import has_records, is_closed
from coin_platform.orchestration.resources import Topics
from coin_platform.preprocess.transform import Source
from coin_platform.settings import Settings

LOOKBACK = 48  # windows that are caught up
PER_TICK = 4
ATTEMPTS = 3


def close_windows(region: Region, job_name: str, found: list[Source], settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that launches one run for each closed window of a region that is not materialised yet."""
    made = {(source.exchange, table): None for source in found for table in (source.channel.value, "dead", "gap")}
    assets = [dg.AssetKey(key(kind, table)) for kind, table in made]
    partitions = windows(settings)
    grace = int(settings.grace.total_seconds() * 1e6)

    @dg.sensor(
        job_name=job_name,
        name=f"close_windows_{region}",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def closing(context: dg.SensorEvaluationContext, topics: Topics) -> dg.SensorResult | dg.SkipReason:
        broker = topics.open()
        try:
            closed = [
                window
                for window in _recent(settings)
                if any(has_records(broker, source, window) for source in found)
                and all(is_closed(broker, source, window, grace) for source in found)
            ]
        finally:
            broker.close()
        names = [key_of(window) for window in closed]
        known = {name for name in json.loads(context.cursor or "[]") if name in names}  # to look again costs seconds
        fresh = [name for name in names if name not in known]
        done = set(fresh)
        for asset in assets if fresh else []:
            status = context.instance.get_status_by_partition(asset, fresh, partitions) or {}
            done &= {name for name in fresh if str(status.get(name)).endswith("MATERIALIZED")}
        done |= known
        context.update_cursor(json.dumps(sorted(done)))
        requests = [_request(context.instance, region, name) for name in names if name not in done]
        due = [request for request in requests if request is not None][:PER_TICK]
        if not due:
            return dg.SkipReason(f"{len(closed)} closed windows, {len(done)} materialised")
        return dg.SensorResult(run_requests=due)

    return closing


def _recent(settings: Settings) -> list[Window]:
    """Return the windows that have ended, oldest first, at most `LOOKBACK`."""
    length = settings.window_length
    last = time.time_ns() // 1000 // length * length
    first = max(int(settings.start.timestamp() * 1e6), last - LOOKBACK * length)
    return [Window(start, start + length) for start in range(first // length * length, last, length)]


def _request(instance: dg.DagsterInstance, region: Region, name: str) -> dg.RunRequest | None:
    """Return the next attempt at a window; None while one is under way, or when it has failed too often."""
    tags = {"coin/window_region": region.value, "coin/window": name}
    runs = instance.get_runs(dg.RunsFilter(tags=tags), limit=ATTEMPTS)
    if len(runs) >= ATTEMPTS or any(run.status in ALIVE for run in runs):
        return None
    return dg.RunRequest(run_key=f"{region}:{name}:{len(runs)}", partition_key=name, tags=tags)
