"""One raw partition on its way to processed records and dead letters.

1. The results of a batch are appended and stored. Then the batch is committed.
2. A crash in between repeats the batch. Results that the processed topic holds already are left out by their place.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple

from prometheus_client import REGISTRY

from coin_platform.broker import Broker
from coin_platform.clock import wall
from coin_platform.errors import BrokerUnreachable, DecodeError, RetentionLoss
from coin_platform.exchanges.base import Source
from coin_platform.model import Kind, Microseconds
from coin_platform.preprocess.handoff import HandedRows, Handoff
from coin_platform.preprocess.latency import Ages, Stage, Times, ages
from coin_platform.preprocess.lookback import TAIL_RECORDS, prepared, with_older_trades
from coin_platform.preprocess.metrics import BATCH, LAG, LATENCIES, RESULTS, Results
from coin_platform.records import Record
from coin_platform.settings import Settings
from coin_platform.tables import dead_letters, processed
from coin_platform.tables.outcomes import DeadRecord
from coin_platform.tables.rows import Entry, Row
from coin_platform.topic_names import group

logger = logging.getLogger(__name__)
MOST_RECORDS = 1_000  # of one partition in one round, so that no partition waits long for another
MOST_BYTES = 8 << 20  # of the values of a round, which bounds memory; one record may be larger
STUCK_SECONDS = 60.0  # a partition that grows but makes no progress for so long is begun anew
REGISTRY.register(LATENCIES)
REGISTRY.register(RESULTS)


class EntryPlace(NamedTuple):
    """The origin of an entry: its offset in the raw partition, and its index within the frame."""

    offset: int
    index: Any  # an int


NOWHERE = EntryPlace(-1, -1)


class Partition:
    """Processes one raw partition into the processed topic and the dead-letter topic of its channel."""

    def __init__(
        self, source: Source, broker: Broker, settings: Settings, *, clock: Callable[[], Microseconds] = wall
    ) -> None:
        self.source = source
        self.group = group(source.exchange.region, source.channel)
        (self.out, _), (self.letters, _) = source.outputs
        self.size = settings.batch_records(source.channel)
        self.position = self.committed = 0
        self.lag = 0  # records that wait, as of the last look
        self.is_stored = True  # whether all appended results are stored
        self.ages: dict[Stage, Ages] = {}
        self.handoff: Handoff | None = None  # to the lander, where there is one
        self._broker, self._clock, self._window = broker, clock, settings.window_length
        self._interval = settings.batch_interval
        names = (source.exchange.name, source.channel.value)
        self.results = RESULTS.results[names] = Results()
        self._batch, self._lag = BATCH.labels(*names), LAG.labels(*names)
        self._times: list[Times] = []  # of records whose results are not known to be stored
        self._waiting_since: float | None = None
        self._logged_faults: set[str] = set()  # error classes of our own faults that were logged
        # The position while records wait, and the moment since which it has not moved.
        self._stalled: tuple[int, float] | None = None
        self.open()

    def open(self) -> None:
        """Go back to the committed position, with the books of that time; in a topic made anew, to its begin."""
        source, broker = self.source, self._broker
        for output in source.outputs:
            broker.claim(*output)
        if not broker.flush(source.outputs):  # the results that an earlier worker left must be stored before we look
            raise BrokerUnreachable(f"{self}: results of an earlier worker still wait for kafka")
        begin, end = broker.begin_offset(*self.place), broker.end_offset(*self.place)
        committed = broker.committed(self.group, *self.place) or 0
        written, is_same = self._last(self.out, _row_place, begin, end)
        buried, has_letters = self._last(self.letters, _letter_place, begin, end)
        position = max(committed, begin)
        if not is_same or committed > end:
            position = end if written is not NOWHERE else begin
            logger.error("%s: made anew since offset %d, goes on at %d", self, committed, position)
            broker.commit(self.group, *self.place, position)  # or the old position would count again after a crash
        elif 0 < committed < begin:
            logger.error("%s: offsets %d to %d were trimmed before they were processed", self, committed, begin)
        self._transform = prepared(source, broker, position, self._window)
        self._written, self._buried = written, buried
        letters = self._tries(self.letters, _letter_place) if has_letters else iter(())
        self._given_up = {at.offset for at, _ in takewhile(lambda tried: tried[0].offset >= position, letters)}
        self.position = self.committed = position
        self._stalled = None

    def __str__(self) -> str:
        return f"{self.source.topic}[{self.source.partition}]"

    @property
    def place(self) -> tuple[str, int]:
        """The raw topic and partition."""
        return self.source.topic, self.source.partition

    def is_due(self, moment: float, end: int) -> bool:
        """Return whether a batch before offset `end` is due: it is large enough, or has waited long enough."""
        lag = end - self.position
        self.lag = lag
        self._lag.set(lag)
        if lag <= 0:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = moment
        return lag >= self.size or moment - self._waiting_since >= self._interval

    def batch(self, end: int) -> tuple[int, int]:
        """Return the offsets of the records that wait before `end`, at most `MOST_RECORDS`."""
        return self.position, min(end, self.position + MOST_RECORDS)

    def work(self, end: int) -> int:
        """Process the records that wait before `end`, at most `MOST_RECORDS` and `MOST_BYTES`, and return how many.

        Their results are not known to be stored yet, and nothing is committed: call `settle` next.
        """
        try:
            records = list(limited(self._broker.read(*self.place, *self.batch(end)), MOST_BYTES))
        except RetentionLoss:
            commit([self], self._broker)
            self.open()  # logs the loss, and goes on where the topic begins now
            return 0
        self.is_stored = self.is_stored and not records
        rows: list[Row] = []
        for record in records:
            rows += self._process(record)
        if records:
            if self.position == 0:
                logger.info("%s: its first records", self)
            start, self.position = self.position, records[-1].offset + 1
            if self.handoff is not None:
                self.handoff.give(HandedRows(start, self.position, rows))
            self._waiting_since = None
            self._batch.observe(len(records))
        return len(records)

    def settle(self) -> None:
        """Note that all appended results are stored where they belong, and how old their records are now."""
        self.is_stored = True
        for stage, durations in ages(self._times, self._clock()).items():
            if durations:
                self.ages.setdefault(stage, Ages()).add(durations)
                LATENCIES.ages[self.source.exchange.name, self.source.channel.value, stage].add(durations)
        self._times.clear()

    @property
    def is_uncommitted(self) -> bool:
        """Whether everything before the position is stored, and the consumer group does not know that yet."""
        return self.position != self.committed and self.is_stored

    def watch(self, moment: float, end: int) -> None:
        """Begin anew where the topic has grown without progress for `STUCK_SECONDS`, or where the topic has shrunk."""
        if end == self.position:
            self._stalled = None
        elif end < self.position:
            logger.error("%s: ends at offset %d, before our %d: begun anew", self, end, self.position)
            self.open()
        elif self._stalled is None or self._stalled[0] != self.position:
            self._stalled = (self.position, moment)
        elif moment - self._stalled[1] > STUCK_SECONDS:
            logger.error("%s: stuck at offset %d, begun anew", self, self.position)
            self.open()

    def _process(self, record: Record) -> list[Row]:
        """Append the results of a record to its topics, and return its rows."""
        entries, values = dead_letters.encoded(self._transform, record)
        transform = with_older_trades(self._transform, self._broker, record, entries)
        if transform is not self._transform:
            self._transform = transform
            entries, values = dead_letters.encoded(transform, record)
        is_given_up = record.offset in self._given_up  # its redriven rows stand in the topic already
        for entry, value in zip(entries, values, strict=False) if not is_given_up else ():
            if EntryPlace(record.offset, entry.row.index) > self._written:
                self._broker.append(self.out, self.source.partition, record.header, value)
                self.results.rows += 1
        for dead in transform.dead:
            self._log_fault(dead)
            if EntryPlace(record.offset, 0) > self._buried:
                letter = dead_letters.letter(self.source, dead, self._clock())
                self._broker.append(self.letters, self.source.partition, record.header, letter.pack())
                self.results.dead_letters += 1
        if entries:
            self._times.append(_times(record, entries))
        transform.dead.clear()
        transform.faults.clear()
        return [entry.row for entry in entries]

    def _log_fault(self, dead: DeadRecord) -> None:
        """Log a fault of our own with its traceback, once for each error class. The dead letters have all of them."""
        if dead.is_ours and dead.error_class not in self._logged_faults:
            self._logged_faults.add(dead.error_class)
            logger.error("%s: offset %d: %s", self, dead.record.offset, dead.reason, exc_info=dead.error)

    def _last(
        self, topic: str, place: Callable[[Record], EntryPlace | None], begin: int, end: int
    ) -> tuple[EntryPlace, bool]:
        """Return the origin of the newest record of a first try, and whether it belongs to the raw topic of today.

        `begin` and `end` are the raw topic's offsets. A record from beyond its end is skipped.
        """
        is_empty = True
        for newest, header in islice(self._tries(topic, place), TAIL_RECORDS):
            is_empty = False
            if newest.offset < begin:
                return newest, True
            if newest.offset < end:
                [raw] = self._broker.read(*self.place, newest.offset, newest.offset + 1)
                return (newest, True) if raw.header == header else (NOWHERE, False)
        return NOWHERE, is_empty

    def _tries(self, topic: str, place: Callable[[Record], EntryPlace | None]) -> Iterator[tuple[EntryPlace, str]]:
        """Yield origins and headers of the records of first tries, newest first."""
        first = self._broker.begin_offset(topic, self.source.partition)
        for stop in range(self._broker.end_offset(topic, self.source.partition), first, -TAIL_RECORDS):
            for record in reversed(
                list(self._broker.read(topic, self.source.partition, max(first, stop - TAIL_RECORDS), stop))
            ):
                if (origin := place(record)) is not None:
                    yield origin, record.header


def commit(partitions: Iterable[Partition], broker: Broker) -> None:
    """Commit the position of each partition before which all results are stored."""
    groups: defaultdict[str, list[Partition]] = defaultdict(list)
    for partition in partitions:
        if partition.is_uncommitted:
            groups[partition.group].append(partition)
    for name, members in groups.items():
        broker.commit_all(name, {partition.place: partition.position for partition in members})
        for partition in members:
            partition.committed = partition.position


def limited(records: Iterable[Record], most_bytes: int) -> Iterator[Record]:
    """Yield records until their values have `most_bytes`. The last one may exceed that."""
    size = 0
    for record in records:
        yield record
        size += len(record.value)
        if size >= most_bytes:
            return


def _row_place(record: Record) -> EntryPlace | None:
    origin = processed.origin(record)
    return None if origin is None or origin.redriven else EntryPlace(origin.offset, origin.index)


def _letter_place(record: Record) -> EntryPlace | None:
    try:
        letter = dead_letters.unpack(record.value)
    except DecodeError:
        return None
    is_ours = letter.header == record.header  # a copied letter has another header
    return EntryPlace(letter.offset, 0) if is_ours and letter.attempts == 1 else None


def _times(record: Record, entries: Sequence[Entry]) -> Times:
    """Return the times of a record. REST answers have no exchange time here: their events are of any age."""
    is_live = record.header.startswith(f"{Kind.SOCKET},")
    exchange_times = [time for entry in entries if (time := entry.row.exchange_time) is not None] if is_live else []
    first = entries[0].row
    return Times(max(exchange_times, default=None), first.received_time, first.log_time)
