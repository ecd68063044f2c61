"""Write rows near real time into the lake, as landing objects that stay until their windows are committed.

1. The lander is a consumer of its own. While the lake is away only the lander waits, and rows wait in the raw topic.
2. It takes over the rows that the partitions of its process have made. Where it cannot, it reads the raw topic.
"""

import logging
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

from coin_platform.broker import Broker
from coin_platform.errors import BrokerUnreachable, LakeError, RetentionLoss
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.exchanges.parsing import chunks
from coin_platform.lake import Lake
from coin_platform.lake.landing import key_of, parted, times_of
from coin_platform.model import Microseconds, Region
from coin_platform.preprocess.handoff import Handoff
from coin_platform.preprocess.lookback import prepared, with_older_trades
from coin_platform.preprocess.partition import Partition, limited
from coin_platform.records import Record
from coin_platform.runtime.log_lines import named
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables.dataframes import rows_table
from coin_platform.tables.rows import Row
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import group

logger = logging.getLogger(__name__)

MOST_RECORDS = 20_000  # of one object, which bounds memory after an outage
MOST_BYTES = 16 << 20  # of the raw records of one object, for the same reason
SLICE_RECORDS = 200  # whose rows are Python objects at once, because Python keeps the memory of its peak
PART_ROWS = 50  # at least, of one table of handed rows
LONGEST_WAIT_SECONDS = 10.0  # that rows wait for more rows
LOOK_SECONDS = 0.25  # between two looks for objects that are due
PAUSE_SECONDS = 5.0  # to wait when the lake or the broker does not answer
TIDY_SECONDS = 300.0  # between two looks for objects whose windows are committed
SURVEY_SECONDS = 3600.0  # between two listings of the lake, which find the objects of other processes
SURVEY_OBJECTS = 1_000  # that one survey opens at most, so that it does not delay landing for long
LANDING_KEEP_SECONDS = 3600.0  # that an object outlives the commit of its window, because readers may hold its name


class LandedWindows(NamedTuple):
    """The windows of which landing objects hold rows: their table, their exchange and their begins."""

    table: str
    exchange: str
    starts: tuple[Microseconds, ...]
    common: str  # the part of the key that the objects share, see `landing.parted`


class PartitionLanding:
    """Writes the rows of one raw partition into landing objects."""

    def __init__(self, source: Source, broker: Broker, lake: Lake, settings: Settings) -> None:
        self.source = source
        self._broker, self._lake, self._window = broker, lake, settings.window_length
        self._size, self._pause = settings.batch_records(source.channel), settings.landing_min_interval
        self._group = f"Landing_{group(source.exchange.region, source.channel)}"
        self._last: float | None = None  # the moment at which the last object was stored
        self._waiting_since: float | None = None
        self._transform: Transform | None = None  # it was fed all records before `position`; None: it is to be made
        self.handoff: Handoff | None = None  # from the worker of this process, if it has one
        self._handed: list[pl.DataFrame] = []  # rows from `position` to before `_reached`
        self.position = self._reached = 0
        self.open()

    def open(self) -> None:
        """Go to the committed position, or to the begin of a topic that was trimmed or made anew since."""
        begin, end = self._broker.begin_offset(*self.place), self._broker.end_offset(*self.place)
        position = self._broker.committed(self._group, *self.place) or 0
        self.position = position if begin <= position <= end else begin
        if self.position != position > 0:
            logger.error("%s[%d]: landing goes on at offset %d, not %d", *self.place, self.position, position)
        self._transform = None
        self._forget()

    @property
    def place(self) -> tuple[str, int]:
        """The raw topic and partition."""
        return self.source.topic, self.source.partition

    def is_due(self, moment: float, end: int) -> bool:
        """Return whether an object is due: enough records, or one waited long; and the last object is not too new."""
        lag = end - self.position
        if lag < 0:
            self.open()
        if lag <= 0:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = moment
        if self._last is not None and moment - self._last < self._pause:
            return False
        return lag >= self._size or moment - self._waiting_since >= LONGEST_WAIT_SECONDS

    def gather(self, least: int = PART_ROWS) -> None:
        """Make a table of the rows that the worker has handed over, if there are at least `least`."""
        if self.handoff is None or self._reached - self.position >= MOST_RECORDS:
            return
        if handed := self.handoff.take(self._reached, least):
            self._handed.append(rows_table(self.source.channel, handed.rows))
            self._reached = handed.stop

    def work(self, moment: float, end: int) -> tuple[LandedWindows, int] | None:
        """Store the rows of the records that wait before `end`, and commit the position.

        Return the windows of the stored object and its first offset. Raises `LakeError`; nothing is lost then.
        """
        self.gather(0)
        parts, first, stop = self._handed, self.position, self._reached
        self._forget()
        if parts:
            self._transform = None
            return self._land(moment, first, stop, parts)
        return self._read(moment, end)

    def _read(self, moment: float, end: int) -> tuple[LandedWindows, int] | None:
        """Read the records that wait before `end`, and store their rows."""
        offsets: list[int] = []  # the first and the last of each slice
        parts: list[pl.DataFrame] = []
        try:
            transform = self._transform or prepared(self.source, self._broker, self.position, self._window)
            self._transform = None  # after a failure the records are fed to a new one
            waiting = self._broker.read(*self.place, self.position, min(end, self.position + MOST_RECORDS))
            for records in chunks(limited(waiting, MOST_BYTES), SLICE_RECORDS):
                offsets += [records[0].offset, records[-1].offset]
                transform, rows = self._rows(transform, records)
                parts.append(rows)
        except RetentionLoss:
            self.open()
            return None
        stored = self._land(moment, offsets[0], offsets[-1] + 1, parts) if offsets else None
        self._transform = transform
        return stored

    def _land(
        self, moment: float, first: int, stop: int, parts: list[pl.DataFrame]
    ) -> tuple[LandedWindows, int] | None:
        """Store rows of the records from offset `first` to before `stop`."""
        (topic, partition), stored = self.place, None
        rows = pl.concat(parts)
        if rows.height:
            table, exchange = self.source.channel.value, self.source.exchange.name
            key = self._lake.landing.put(table, exchange, f"{topic}-{partition}-{first}", rows)
            common, _ = parted(key)
            stored = LandedWindows(table, exchange, window_starts(times_of(rows), self._window), common), first
        self.position = stop
        self._forget()
        self._last, self._waiting_since = moment, None
        self._broker.commit(self._group, topic, partition, stop)
        return stored

    def _forget(self) -> None:
        """Drop the handed rows. They are stored by now, or are made again from the position."""
        self._handed, self._reached = [], self.position

    def _rows(self, transform: Transform, records: Iterable[Record]) -> tuple[Transform, pl.DataFrame]:
        """Return the rows of records, and the transform to go on with: see `with_older_trades`."""
        rows: list[Row] = []
        for record in records:
            entries = transform.entries(record)
            further = with_older_trades(transform, self._broker, record, entries)
            if further is not transform:
                transform, entries = further, further.entries(record)
            rows += [entry.row for entry in entries]
        transform.dead.clear()
        transform.faults.clear()
        return transform, rows_table(self.source.channel, rows)


class Lander:
    """Lands all partitions of one region, and removes objects that are no longer needed."""

    def __init__(
        self, region: Region, exchanges: Sequence[Exchange], settings: Settings, broker: Broker, lake: Lake
    ) -> None:
        self._region, self._broker, self._lake, self._window = region, broker, lake, settings.window_length
        self.landings = [
            PartitionLanding(source, broker, lake, settings)
            for exchange in exchanges
            for source in sources(exchange, settings)
        ]
        # The first offsets of the objects that are to be removed. With long windows there are tens of thousands.
        self._objects: defaultdict[LandedWindows, array[int]] = defaultdict(lambda: array("q"))
        # For each window, the moment at which it was first seen to be committed.
        self._committed: dict[tuple[str, str, Microseconds], float] = {}
        self._surveyed: float | None = None  # the moment of the last listing of the lake

    def follow(self, partitions: Iterable[Partition]) -> None:
        """Take over the rows of the worker's partitions."""
        by_place = {partition.place: partition for partition in partitions}
        for landing in self.landings:
            landing.handoff = by_place[landing.place].handoff = Handoff()

    def run(self, stop: threading.Event) -> None:
        """Land until `stop`. Wait while the lake or the broker is away."""
        tidied = time.monotonic()
        while not stop.wait(LOOK_SECONDS):
            try:
                self.step(time.monotonic())
                if time.monotonic() - tidied >= TIDY_SECONDS:
                    tidied = time.monotonic()
                    self.tidy(tidied)
            except (LakeError, BrokerUnreachable) as error:
                logger.warning("%s: landing waits, %s", self._region, error)
                stop.wait(PAUSE_SECONDS)

    def step(self, moment: float) -> None:
        """Store the objects that are due. Raises `LakeError`."""
        ends = self._broker.end_offsets([landing.place for landing in self.landings])
        for landing in self.landings:
            landing.gather()
            end = ends[landing.place]
            if not landing.is_due(moment, end):
                continue
            with named(exchange=landing.source.exchange.name, channel=landing.source.channel.value):
                stored = landing.work(moment, end)
            if stored:
                landed, first = stored
                self._objects[landed].append(first)

    def tidy(self, moment: float) -> None:
        """Remove the objects whose windows have all been committed for `LANDING_KEEP_SECONDS`. Raises `LakeError`.

        After a start that hour begins anew. So an object may live longer, never shorter.
        """
        if self._surveyed is None or moment - self._surveyed >= SURVEY_SECONDS:
            self._survey(moment)
        self._see_commits(moment)
        for landed, offsets in list(self._objects.items()):
            moments = [self._committed.get((landed.table, landed.exchange, start)) for start in landed.starts]
            if all(seen is not None and moment - seen >= LANDING_KEEP_SECONDS for seen in moments):
                for first in offsets:  # after a failure all are deleted once more
                    self._lake.landing.delete(key_of(landed.common, first))
                del self._objects[landed]

    def _survey(self, moment: float) -> None:
        """Find the objects of our exchanges that another process stored. Raises `LakeError`."""
        left = SURVEY_OBJECTS
        known = {key_of(landed.common, first) for landed, offsets in self._objects.items() for first in offsets}
        for table in dict.fromkeys(landing.source.channel.value for landing in self.landings):
            ours = {landing.source.exchange.name for landing in self.landings if landing.source.channel.value == table}
            for exchange, keys in self._lake.landing.keys(table).items():
                for key in keys if exchange in ours else ():
                    if key in known:
                        continue
                    left -= 1
                    if left < 0:
                        return  # the next survey goes on
                    if (times := self._lake.landing.times(key)) is not None:
                        common, first = parted(key)
                        self._objects[
                            LandedWindows(table, exchange, window_starts(times, self._window), common)
                        ].append(first)
        self._surveyed = moment

    def _see_commits(self, moment: float) -> None:
        """Note which windows are committed by now, from the oldest window that has objects on."""
        oldest: dict[tuple[str, str], Microseconds] = {}
        for landed in self._objects:
            place = landed.table, landed.exchange
            for start in landed.starts:
                oldest[place] = min(start, oldest.get(place, start))
        places = [
            (table, exchange, window.start)
            for (table, exchange), start in oldest.items()
            for window in self._lake.windows(table, exchange, start)
        ]
        self._committed = {place: self._committed.get(place, moment) for place in places}


def window_starts(times: Iterable[Microseconds], length: Microseconds) -> tuple[Microseconds, ...]:
    """Return the begins of the windows that hold these times."""
    return tuple(sorted({time // length * length for time in times}))
