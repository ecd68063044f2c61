"""The runs that make windows: their tags, which of them made a window, and when a window is tried again."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import PRIORITY_TAG

from coin_platform.exchanges.base import Source
from coin_platform.model import Region
from coin_platform.orchestration.assets import key
from coin_platform.orchestration.partitions import windows
from coin_platform.settings import Settings

WINDOW_REGION_TAG = "coin/window_region"  # the queue lets only one run of a region run at a time
WINDOW_TAG = "coin/window"  # the partition key of the window
ATTEMPT_TAG = "coin/attempt"  # 1 for the first run of a window, 2 for the next one

FIRST_RETRY_SECONDS = 10.0  # after the first failure; each further one doubles the delay
LONGEST_RETRY_SECONDS = 900.0


def attempts(run: dg.DagsterRun) -> int:
    """Return how many runs have tried the window, this run included."""
    text = run.tags.get(ATTEMPT_TAG, "")
    return int(text) if text.isdecimal() else 1


def newest_runs(instance: dg.DagsterInstance, region: Region, names: Sequence[str]) -> dict[str, dg.RunRecord]:
    """Return the newest run of each window by partition key. Older runs than the longest delay do not matter."""
    since = datetime.now(UTC) - timedelta(seconds=2 * LONGEST_RETRY_SECONDS)
    tags: dict[str, str | list[str]] = {WINDOW_REGION_TAG: region.value, WINDOW_TAG: list(names)}
    records = instance.get_run_records(dg.RunsFilter(tags=tags, created_after=since)) if names else []
    return {record.dagster_run.tags[WINDOW_TAG]: record for record in reversed(records)}  # they come newest first


def newest_run(instance: dg.DagsterInstance, region: Region, name: str) -> dg.RunRecord | None:
    """Return the newest run of one window, however old it is."""
    tags = {WINDOW_REGION_TAG: region.value, WINDOW_TAG: name}
    records = instance.get_run_records(dg.RunsFilter(tags=tags), limit=1)
    return records[0] if records else None


def is_whole(run: dg.DagsterRun) -> bool:
    """Return whether a run has certainly made all tables of its window. To look for the tables would take seconds."""
    return run.status is dg.DagsterRunStatus.SUCCESS and run.parent_run_id is None


def materialised(
    instance: dg.DagsterInstance, sources: Sequence[Source], settings: Settings, names: Sequence[str]
) -> set[str]:
    """Return the windows whose tables all exist. A backfill may have made them, or parts of runs that failed."""
    tables = {(source.exchange, table): None for source in sources for table in (source.channel.value, "dead", "gap")}
    whole, partitions = set(names), windows(settings)
    for asset in (dg.AssetKey(key(exchange, table)) for exchange, table in tables):
        if not whole:
            break
        status = instance.get_status_by_partition(asset, sorted(whole), partitions) or {}
        whole = {name for name in whole if str(status.get(name)).endswith("MATERIALIZED")}
    return whole


def seconds_to_wait(record: dg.RunRecord) -> float:
    """Return the seconds from now until a window is tried again after a run. 0 and less mean now."""
    run = record.dagster_run
    if run.status not in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
        return 0.0
    passed = time.time() - (record.end_time or record.update_timestamp.timestamp())
    delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempts(run) - 1, 30))
    return delay - passed if passed >= 0 else 0.0  # if the clock was set back, do not wait


def run_request(region: Region, name: str, previous: dg.RunRecord | None) -> dg.RunRequest:
    """Return the request for the next attempt at a window.

    Its key names the previous run. So a tick that is tried twice cannot start two runs. Another attempt goes before the
    newer windows that are queued: they may have to be made again once it is made.
    """
    run_id, attempt = "first", 1
    if previous is not None:
        run_id, attempt = previous.dagster_run.run_id, attempts(previous.dagster_run) + 1
    tags = {WINDOW_REGION_TAG: region.value, WINDOW_TAG: name, ATTEMPT_TAG: str(attempt)}
    if previous is not None:
        tags[PRIORITY_TAG] = "1"
    return dg.RunRequest(run_key=f"{region}:{name}:after:{run_id}", partition_key=name, tags=tags)
