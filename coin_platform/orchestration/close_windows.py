"""The sensor that starts a run for each window that has closed, also for windows that closed while nothing ran."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import dagster as dg
import msgspec

from coin_platform.broker import Broker
from coin_platform.errors import DeliveryError, RetentionLoss
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, open_lake
from coin_platform.model import Microseconds, Region, Window
from coin_platform.orchestration.alerts import alert
from coin_platform.orchestration.handed_on import is_outdated
from coin_platform.orchestration.lease import UNFINISHED_STATUSES
from coin_platform.orchestration.log_clock import LogClock
from coin_platform.orchestration.offsets import has_records, is_closed
from coin_platform.orchestration.partitions import grace_length, has_come, key_of, window_of
from coin_platform.orchestration.resources import Topics
from coin_platform.orchestration.run_process import fail_dead
from coin_platform.orchestration.window_progress import Progress, read_cursor
from coin_platform.orchestration.window_runs import (
    WINDOW_REGION_TAG,
    WINDOW_TAG,
    is_whole,
    materialised,
    newest_run,
    newest_runs,
    run_request,
    seconds_to_wait,
)
from coin_platform.records import Record
from coin_platform.selection import sources_of
from coin_platform.settings import Settings
from coin_platform.times import microseconds_of

logger = logging.getLogger(__name__)

MOST_RUNS = 4  # of a region that are queued or under way
TRIMMED_WINDOWS = 48  # windows before the log's first record that are made empty, so that table gap tells their gaps
_CHUNK_WINDOWS = 200  # about which Dagster's database is asked at once


def close_windows(
    region: Region,
    settings: Settings,
    clock: Callable[[], float] = time.monotonic,
    log_clock: LogClock | None = None,
) -> dg.SensorDefinition:
    """Return the sensor that starts one run for each closed window of a region that is not materialised yet.

    The sensor goes back as far as the log reaches. It tries a failed window again, after longer and longer delays.
    """
    log_clock = log_clock or LogClock()

    @dg.sensor(
        job_name=f"tables_{region}",
        name=f"close_windows_{region}",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts a run for each window of {region} that has closed. Tries failed windows again.",
    )
    def closing(context: dg.SensorEvaluationContext, topics: Topics) -> dg.SensorResult | dg.SkipReason:
        instance, tags = context.instance, {WINDOW_REGION_TAG: region.value}
        unfinished = instance.get_run_records(dg.RunsFilter(tags=tags, statuses=UNFINISHED_STATUSES))
        alive = fail_dead(instance, unfinished, region, clock)
        with topics.open() as broker:
            tick = _ClosingTick(instance, broker, region, settings, log_clock)
            progress = tick.progress(context.cursor)
            if progress is None:
                return dg.SkipReason("no window has closed yet")
            tick.give_up_lost(progress)
            under_way = {record.dagster_run.tags.get(WINDOW_TAG) for record in alive}
            tick.ask_for_runs(progress, under_way)
        context.update_cursor(msgspec.json.encode(progress).decode())
        if not tick.requests:
            return dg.SkipReason(
                f"{len(under_way)} windows are being made, {tick.waiting} failed and will be tried again"
            )
        return dg.SensorResult(run_requests=tick.requests)

    return closing


class _ClosingTick:
    """One tick of the sensor of a region."""

    def __init__(
        self, instance: dg.DagsterInstance, broker: Broker, region: Region, settings: Settings, log_clock: LogClock
    ) -> None:
        self.requests: list[dg.RunRequest] = []
        self.waiting = 0  # windows that failed and are tried again later
        self._is_begun_anew = False  # the cursor told nothing: which windows are made is found out now
        self._instance, self._broker, self._region, self._settings = instance, broker, region, settings
        self._length = settings.window_length
        self._sources = sources_of(region, settings)
        self._readable = [source for source in self._sources if self._is_readable(source)]
        self._now = log_clock.look(broker, [(source.topic, source.partition) for source in self._readable])
        has_come(self._now)

    def progress(self, cursor: str | None) -> Progress | None:
        """Return the progress of the cursor. Without a cursor, all windows of the log are still to be made.

        Return `None` while nothing is logged, or the first window is still open.
        """
        begin = microseconds_of(self._settings.start)
        made_windows: list[Window] = []
        try:
            stored = read_cursor(cursor)
            if isinstance(stored, list):
                made_windows = [window_of(name, self._length) for name in stored]
        except (msgspec.MsgspecError, ValueError) as error:
            logger.warning("close_windows_%s: the cursor cannot be read and begins anew: %s", self._region, error)
            stored = None
        if not isinstance(stored, Progress):
            first = self._first_window()
            if first is None or first + self._length + grace_length(self._settings) > self._now:
                return None  # another partition may still get a record of an earlier window
            self._is_begun_anew = True
            stored = Progress(max(begin, first))
            stored.add(made_windows)
        stored.forget(begin)
        return stored

    def give_up_lost(self, progress: Progress) -> None:
        """Forget windows of which the log holds no record any more, with an alert."""
        missing = self._missing(progress)
        if not missing or self._holds_record_before(missing[0].stop):
            return
        first = self._first_window()
        lost = [window for window in missing if first is not None and window.stop <= first]
        if lost:
            stretch = f"{key_of(lost[0])} to {key_of(Window(lost[-1].stop, lost[-1].stop))}"
            alert(
                f"{len(lost)} windows of {self._region} from {stretch} were never made, "
                "and the log no longer has their records"
            )
            progress.forget(lost[-1].stop)

    def ask_for_runs(self, progress: Progress, under_way: set[str | None]) -> None:
        """Ask for runs of the oldest missing windows, as far as there are free places; update the progress."""
        free = MOST_RUNS - len(under_way)
        for chunk in _chunks(self._missing(progress)):
            idle = {key_of(window): window for window in chunk if key_of(window) not in under_way}
            newest = newest_runs(self._instance, self._region, list(idle))
            made_keys = {name for name, record in newest.items() if is_whole(record.dagster_run)}
            waiting = {name for name, record in newest.items() if name not in made_keys and seconds_to_wait(record) > 0}
            due = [name for name in idle if name not in made_keys and name not in waiting]
            if free > len(self.requests):
                whole = materialised(self._instance, self._sources, self._settings, due)
                made_keys |= {name for name in whole if name not in newest or not self._is_outdated(idle[name])}
            self.waiting += len(waiting)
            for name in due:
                if name in made_keys or free <= len(self.requests) or not self._is_ready(idle[name]):
                    continue
                previous = newest.get(name) or newest_run(self._instance, self._region, name)
                if previous is not None and is_whole(previous.dagster_run):
                    made_keys.add(name)
                else:
                    self.requests.append(run_request(self._region, name, previous))
            progress.add([idle[name] for name in made_keys])
            if not self._is_begun_anew:
                self._make_again(progress, [idle[name] for name in sorted(made_keys)])
            if free <= len(self.requests):
                break

    def _make_again(self, progress: Progress, made: Sequence[Window]) -> None:
        """Ask again for the windows that were made before the ones that precede them, which are made now."""
        for window in made:
            after = Window(window.stop, window.stop + self._length)
            if progress.is_done(after) and self._is_outdated(after):
                progress.remove(after)
                name = key_of(after)
                self.requests.append(run_request(self._region, name, newest_run(self._instance, self._region, name)))

    @cached_property
    def _lake(self) -> Lake:
        return open_lake(self._settings)  # few ticks need it

    def _is_outdated(self, window: Window) -> bool:
        return is_outdated(self._lake, self._sources, window)

    def _missing(self, progress: Progress) -> list[Window]:
        return progress.missing(self._length, self._now // self._length * self._length)

    def _is_ready(self, window: Window) -> bool:
        """Return whether a window holds records and is closed."""
        grace = grace_length(self._settings)
        return any(has_records(self._broker, source, window) for source in self._readable) and all(
            is_closed(self._broker, source, window, grace, lambda: self._now) for source in self._readable
        )

    def _is_readable(self, source: Source) -> bool:
        """Return whether a partition can be read. A damaged partition costs its own tables and no other ones."""
        try:
            self._broker.end_offset(source.topic, source.partition)
        except DeliveryError as error:
            logger.error("windows close without %s of %s: %s", source.channel, source.exchange.name, error)
            return False
        return True

    def _holds_record_before(self, time: Microseconds) -> bool:
        """Return whether the log still has a record that was logged before a time."""
        return any(
            self._broker.offset_for_time(source.topic, source.partition, time)
            > self._broker.begin_offset(source.topic, source.partition)
            for source in self._readable
        )

    def _first_window(self) -> Microseconds | None:
        """Return the start of the first window to make, which holds the log's first record; `None` without any record.

        If older records were trimmed, the first window is `TRIMMED_WINDOWS` earlier: table gap then tells their gaps.
        """
        is_trimmed = any(self._broker.begin_offset(source.topic, source.partition) > 0 for source in self._readable)
        records = [record for source in self._readable if (record := self._first_record(source)) is not None]
        if not records and not is_trimmed:
            return None
        first = min((record.time for record in records), default=time.time_ns() // 1000) // self._length * self._length
        return first - TRIMMED_WINDOWS * self._length if is_trimmed else first

    def _first_record(self, source: Source) -> Record | None:
        while True:
            begin = self._broker.begin_offset(source.topic, source.partition)
            try:
                return next(self._broker.read(source.topic, source.partition, begin, begin + 1), None)
            except RetentionLoss:  # the record was trimmed since
                continue


def _chunks(windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
    for start in range(0, len(windows), _CHUNK_WINDOWS):
        yield windows[start : start + _CHUNK_WINDOWS]
