"""The sensor that materialises each window once it has closed, also those that were missed."""

import json
import time
from collections.abc import Sequence

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
    tables = {(source.exchange, table): None for source in found for table in (source.channel.value, "dead", "gap")}
    assets = [dg.AssetKey(key(kind, table)) for kind, table in tables]
    partitions = windows(settings)
    grace = int(settings.grace.total_seconds() * 1e6)

    @dg.sensor(
        job_name=job_name,
        name=f"close_windows_{region}",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def closing(context: dg.SensorEvaluationContext, topics: Topics) -> dg.SensorResult | dg.SkipReason:
        recent = {key_of(window): window for window in _recent(settings)}
        done = {name for name in json.loads(context.cursor or "[]") if name in recent}  # to look again costs seconds
        broker = topics.open()
        try:
            closed = [
                name
                for name, window in recent.items()
                if name not in done
                and any(has_records(broker, source, window) for source in found)
                and all(is_closed(broker, source, window, grace) for source in found)
            ]
        finally:
            broker.close()
        runs = {name: _runs(context.instance, region, name) for name in closed}
        idle = [name for name in closed if not any(run.status in ALIVE for run in runs[name])]
        made = {name for name in idle if any(map(_is_whole, runs[name]))}
        others = [name for name in idle if name not in made]
        by_hand = set(others)  # by a backfill of somebody's, or by what is left of a run that failed
        for asset in assets if others else []:
            status = context.instance.get_status_by_partition(asset, others, partitions) or {}
            by_hand &= {name for name in others if str(status.get(name)).endswith("MATERIALIZED")}
        made |= by_hand
        context.update_cursor(json.dumps(sorted(done | made)))
        due = [name for name in idle if name not in made and len(runs[name]) < ATTEMPTS][:PER_TICK]
        if not due:
            return dg.SkipReason(
                f"{len(done | made)} windows materialised, {len(closed) - len(made)} under way or failed"
            )
        return dg.SensorResult(run_requests=[_request(region, name, len(runs[name])) for name in due])

    return closing


def _recent(settings: Settings) -> list[Window]:
    """Return the windows that have ended, oldest first, at most `LOOKBACK`."""
    length = settings.window_length
    last = time.time_ns() // 1000 // length * length
    first = max(int(settings.start.timestamp() * 1e6), last - LOOKBACK * length)
    return [Window(start, start + length) for start in range(first // length * length, last, length)]


def _runs(instance: dg.DagsterInstance, region: Region, name: str) -> Sequence[dg.DagsterRun]:
    """Return the attempts at a window, at most `ATTEMPTS` of them."""
    return instance.get_runs(dg.RunsFilter(tags=_tags(region, name)), limit=ATTEMPTS)


def _is_whole(run: dg.DagsterRun) -> bool:
    """Whether a run has made all tables of its window, which no one need look for: to look costs seconds."""
    return run.status is dg.DagsterRunStatus.SUCCESS and run.parent_run_id is None


def _request(region: Region, name: str, earlier: int) -> dg.RunRequest:
    """Return another attempt at a window."""
    return dg.RunRequest(run_key=f"{region}:{name}:{earlier}", partition_key=name, tags=_tags(region, name))


def _tags(region: Region, name: str) -> dict[str, str]:
    return {"coin/window_region": region.value, "coin/window": name}
