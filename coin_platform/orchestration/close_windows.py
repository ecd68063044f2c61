"""The sensor that materialises each window once it has closed, also those that were missed while nothing ran."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from coin_platform.broker import Broker
from coin_platform.errors import DeliveryError, RetentionLoss
from coin_platform.exchanges.base import Source
from coin_platform.model import Microseconds, Region, Window
from coin_platform.orchestration.alerts import ATTEMPT, alert, attempts
from coin_platform.orchestration.assets import key
from coin_platform.orchestration.lease import ALIVE
from coin_platform.orchestration.log_clock import LogClock
from coin_platform.orchestration.offsets import has_records, is_closed
from coin_platform.orchestration.partitions import key_of, window_of, windows
from coin_platform.orchestration.resources import Topics
from coin_platform.orchestration.run_process import bury_dead
from coin_platform.records import Record
from coin_platform.settings import Settings

logger = logging.getLogger(__name__)

WINDOW_REGION, WINDOW = "coin/window_region", "coin/window"  # tags; one run of a region at a time
AT_ONCE = 4  # runs of a region that are queued or under way
TRIMMED_WINDOWS = 48  # windows whose records are gone that are still made, empty, so that the lake says what is missing
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 10.0, 900.0  # after a failure; each further one doubles it
_CHUNK = 200  # windows about which Dagster's database is asked in one question


class Progress(msgspec.Struct):
    """What the sensor knows of a region's windows; it is the sensor's cursor.

    Windows before `since` are no more of our concern. Of the later ones those within `done`, stretches of time that are
    sorted and do not touch, are made. All are µs since 1970.
    """

    since: Microseconds
    done: list[tuple[Microseconds, Microseconds]] = []

    def is_done(self, window: Window) -> bool:
        """Whether a window is made."""
        return any(start <= window.start and window.stop <= stop for start, stop in self.done)

    def add(self, made: Sequence[Window]) -> None:
        """Take in windows that are made."""
        joined: list[tuple[Microseconds, Microseconds]] = []
        for start, stop in sorted([*self.done, *made]):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        self.done = joined

    def missing(self, length: Microseconds, until: Microseconds) -> list[Window]:
        """Return the windows up to `until` that are not made, oldest first."""
        found, start = [], self.since // length * length
        for begin, stop in [*self.done, (until, until)]:
            found += [Window(each, each + length) for each in range(start, min(begin, until) - length + 1, length)]
            start = max(start, -(-stop // length) * length)
        return found

    def forget(self, since: Microseconds) -> None:
        """Leave out what lies before `since`."""
        self.since = max(self.since, since)
        self.done = [(max(start, self.since), stop) for start, stop in self.done if stop > self.since]


def close_windows(region: Region, job_name: str, found: list[Source], settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that launches one run for each closed window of a region that is not materialised yet.

    It goes back as far as the log reaches. A window that failed is tried again, after longer and longer waits.
    """
    length = settings.window_length
    grace = int(settings.grace.total_seconds() * 1e6)

    clock = LogClock()

    def is_ready(broker: Broker, readable: Sequence[Source], window: Window, now: Microseconds) -> bool:
        """Whether a window holds something and is closed."""
        return any(has_records(broker, source, window) for source in readable) and all(
            is_closed(broker, source, window, grace, now) for source in readable
        )

    @dg.sensor(
        job_name=job_name,
        name=f"close_windows_{region}",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def closing(context: dg.SensorEvaluationContext, topics: Topics) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        alive = instance.get_run_records(dg.RunsFilter(tags={WINDOW_REGION: region.value}, statuses=ALIVE))
        under_way = {record.dagster_run.tags.get(WINDOW) for record in bury_dead(instance, alive, region)}
        free, waiting, requests = AT_ONCE - len(under_way), 0, list[dg.RunRequest]()
        with contextlib.closing(topics.open()) as broker:
            readable = [source for source in found if _is_readable(broker, source)]
            now = clock.look(broker, [(source.topic, source.partition) for source in readable])
            progress = _progress(context.cursor, region, broker, readable, settings, now)
            if progress is None:
                return dg.SkipReason("no window has closed yet")
            _forget_lost(progress, region, broker, readable, settings, now)
            for chunk in _chunks(progress.missing(length, now // length * length)):
                idle = {key_of(window): window for window in chunk if key_of(window) not in under_way}
                newest = _newest_runs(instance, region, list(idle))
                made = {name for name, record in newest.items() if is_whole(record.dagster_run)}
                waits = {name for name, record in newest.items() if name not in made and _seconds_to_wait(record) > 0}
                due = [name for name in idle if name not in made and name not in waits]
                made |= materialised(instance, found, settings, due) if free > len(requests) else set()
                waiting += len(waits)
                for name in due:
                    if name in made or free <= len(requests) or not is_ready(broker, readable, idle[name], now):
                        continue
                    before = newest.get(name) or _newest_run(instance, region, name)
                    if before is not None and is_whole(before.dagster_run):
                        made.add(name)
                    else:
                        requests.append(_request(region, name, before))
                progress.add([idle[name] for name in made])
                if free <= len(requests):
                    break
        context.update_cursor(msgspec.json.encode(progress).decode())
        if not requests:
            return dg.SkipReason(f"{len(under_way)} windows under way, {waiting} failed and wait to be tried again")
        return dg.SensorResult(run_requests=requests)

    return closing


def materialised(
    instance: dg.DagsterInstance, found: Sequence[Source], settings: Settings, names: Sequence[str]
) -> set[str]:
    """Return the windows whose tables all exist, whoever made them: a backfill, or parts of runs that failed."""
    tables = {(source.exchange, table): None for source in found for table in (source.channel.value, "dead", "gap")}
    whole, partitions = set(names), windows(settings)
    for asset in (dg.AssetKey(key(exchange, table)) for exchange, table in tables):
        if not whole:
            break
        status = instance.get_status_by_partition(asset, sorted(whole), partitions) or {}
        whole = {name for name in whole if str(status.get(name)).endswith("MATERIALIZED")}
    return whole


def _progress(
    cursor: str | None,
    region: Region,
    broker: Broker,
    found: Sequence[Source],
    settings: Settings,
    now: Microseconds,
) -> Progress | None:
    """Return what the cursor says, by default that all that the log has is to be made.

    `None` while nothing is logged, or the first window is still open.
    """
    begin, known = int(settings.start.timestamp() * 1e6), None
    if cursor:
        try:
            known = msgspec.json.decode(cursor, type=Progress | list[str])
            names = known if isinstance(known, list) else []  # as earlier versions kept it: windows that are made
            made = [window_of(name, settings.window_length) for name in names]
        except (msgspec.MsgspecError, ValueError) as error:
            logger.warning("close_windows_%s: its cursor cannot be read and is started anew: %s", region, error)
            known = None
    if not isinstance(known, Progress):
        kept, length = _kept_since(broker, found, settings.window_length), settings.window_length
        if kept is None or kept + length + settings.grace // timedelta(microseconds=1) > now:
            return None  # another partition may still get a record of an earlier window
        progress = Progress(max(begin, kept))
        if known is not None:
            progress.add(made)
        known = progress
    known.forget(begin)
    return known


def _forget_lost(
    progress: Progress,
    region: Region,
    broker: Broker,
    found: Sequence[Source],
    settings: Settings,
    now: Microseconds,
) -> None:
    """Give up windows whose records are long gone, with an alert: there is nothing left to make them of."""
    length = settings.window_length
    missing = progress.missing(length, now // length * length)
    if not missing or _keeps(broker, found, missing[0]):
        return
    kept = _kept_since(broker, found, length)
    lost = [window for window in missing if kept is not None and window.stop <= kept]
    if lost:
        stretch = f"{key_of(lost[0])} to {key_of(Window(lost[-1].stop, lost[-1].stop))}"
        alert(
            f"{len(lost)} windows of {region} from {stretch} were never made, and the log no longer has their records"
        )
        progress.forget(lost[-1].stop)


def _is_readable(broker: Broker, source: Source) -> bool:
    """Whether a partition can be read. One that is damaged costs its own tables; the others are made all the same."""
    try:
        broker.end_offset(source.topic, source.partition)
    except DeliveryError as error:
        logger.error("windows close without %s of %s: %s", source.channel, source.exchange.name, error)
        return False
    return True


def _keeps(broker: Broker, found: Sequence[Source], window: Window) -> bool:
    """Whether the log still has a record that was logged before the window's end."""
    return any(
        broker.offset_for_time(source.topic, source.partition, window.stop)
        > broker.begin_offset(source.topic, source.partition)
        for source in found
    )


def _kept_since(broker: Broker, found: Sequence[Source], length: Microseconds) -> Microseconds | None:
    """Return the start of the first window to make: that of the log's first record; `None` while nothing was logged.

    Where older records were trimmed some windows more are made, as empty as they are, so that their gaps are known.
    """
    is_trimmed = any(broker.begin_offset(source.topic, source.partition) > 0 for source in found)
    records = [record for source in found if (record := _first_record(broker, source)) is not None]
    if not records and not is_trimmed:
        return None
    first = min((record.time for record in records), default=time.time_ns() // 1000) // length * length
    return first - TRIMMED_WINDOWS * length if is_trimmed else first


def _first_record(broker: Broker, source: Source) -> Record | None:
    while True:
        begin = broker.begin_offset(source.topic, source.partition)
        try:
            return next(broker.read(source.topic, source.partition, begin, begin + 1), None)
        except RetentionLoss:  # trimmed while we look
            continue


def _chunks(missing: Sequence[Window]) -> Iterator[Sequence[Window]]:
    for start in range(0, len(missing), _CHUNK):
        yield missing[start : start + _CHUNK]


def _newest_runs(instance: dg.DagsterInstance, region: Region, names: Sequence[str]) -> dict[str, dg.RunRecord]:
    """Return the last run of each window, of those that began lately: an older one need not be waited for."""
    since = datetime.now(UTC) - timedelta(seconds=2 * LONGEST_RETRY_SECONDS)
    tags: dict[str, str | list[str]] = {WINDOW_REGION: region.value, WINDOW: list(names)}
    records = instance.get_run_records(dg.RunsFilter(tags=tags, created_after=since)) if names else []
    return {record.dagster_run.tags[WINDOW]: record for record in reversed(records)}


def _newest_run(instance: dg.DagsterInstance, region: Region, name: str) -> dg.RunRecord | None:
    records = instance.get_run_records(dg.RunsFilter(tags={WINDOW_REGION: region.value, WINDOW: name}), limit=1)
    return records[0] if records else None


def is_whole(run: dg.DagsterRun) -> bool:
    """Whether a run has made all tables of its window, which no one need look for: to look costs seconds."""
    return run.status is dg.DagsterRunStatus.SUCCESS and run.parent_run_id is None


def _seconds_to_wait(record: dg.RunRecord) -> float:
    """Return the seconds until a window is tried again after a run; 0 for now."""
    run = record.dagster_run
    if run.status not in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
        return 0.0
    since = time.time() - (record.end_time or record.update_timestamp.timestamp())
    delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempts(run) - 1, 30))
    return delay - since if since >= 0 else 0.0  # the clock was set back


def _request(region: Region, name: str, before: dg.RunRecord | None) -> dg.RunRequest:
    """Return another attempt at a window, named after the one before: a tick that is tried twice asks for it once."""
    earlier, attempt = ("first", 1) if before is None else (before.dagster_run.run_id, attempts(before.dagster_run) + 1)
    tags = {WINDOW_REGION: region.value, WINDOW: name, ATTEMPT: str(attempt)}
    return dg.RunRequest(run_key=f"{region}:{name}:after:{earlier}", partition_key=name, tags=tags)
