"""One raw partition on its way to processed records and dead letters.

At least once, with identity: what a batch gives is appended and stored, then the batch is committed; after a crash
in between, what the processed topic holds already is left out.
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
from coin_platform.model import SECOND, Channel, Kind, Microseconds
from coin_platform.preprocess.handoff import Given, Handoff
from coin_platform.preprocess.latency import Ages, Stage, Times, ages
from coin_platform.preprocess.metrics import BATCH, DEAD, LAG, LATENCIES, PROCESSED
from coin_platform.records import Header, Record, unpack_dated
from coin_platform.settings import Settings
from coin_platform.tables import dead_letters, processed
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.frame_numbers import ANY_COLLECTOR_MEMORY, OWN_COLLECTOR_MEMORY, LastNumber, LastNumbers
from coin_platform.tables.outcomes import DeadRecord
from coin_platform.tables.rows import Entry, Row
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import group

logger = logging.getLogger(__name__)
MOST = 1_000  # records of one partition in one round: keeps the partitions fair
MOST_BYTES = 8 << 20  # of their values, or one record of any size: bounds memory
STUCK = 60.0  # seconds without progress, while the topic grows, after which a partition is begun anew
MILLISECOND: Microseconds = 1_000
TAKE_OVER: Microseconds = 60 * SECOND  # in which two collectors may log when one succeeds the other
LONGEST_LOOK: Microseconds = 3600 * SECOND  # how far back a worker that begins reads trades: takes seconds, not more
TAIL = 500  # records looked at for where the last run stopped, and at least before the position for what was seen
REGISTRY.register(LATENCIES)


def prepared(
    source: Source, broker: Broker, position: int, window: Microseconds, since: Microseconds | None = None
) -> Transform:
    """Return a transform that stands at `position`: its books rebuilt from the last checkpoints before it.

    Looks back as far as needed, at most to the checkpoints of the window before; a pair without one is invalid until
    its next snapshot. Trades are read from the window's begin on: each is told once in it; from log time `since` on
    where that is earlier. Last numbers are read as far back as a collector may send again what it sent last.
    """
    begin = broker.begin_offset(source.topic, source.partition)
    newest = list(broker.read(source.topic, source.partition, max(begin, position - 1), position))
    if not newest:
        return Transform(source, position, window)
    backs, latest = [LEAD], position - TAIL
    if source.channel is Channel.ORDERBOOK and source.exchange.has_deltas:
        backs, latest = [LEAD, 10 * LEAD, window + LEAD], position
    elif source.channel is Channel.TRADE:
        backs = [max(newest[0].time % window + LEAD, 0 if since is None else newest[0].time - since)]
    for back in backs:
        first = max(begin, min(latest, broker.offset_for_time(source.topic, source.partition, newest[0].time - back)))
        transform = Transform(source, position, window)
        transform.learn(_numbers(source, broker, newest[0], first))
        for record in broker.read(source.topic, source.partition, first, position):
            transform.feed(record)
        if not transform.books.orphans or first <= begin:
            break
    if source.channel is Channel.TRADE and first > begin:
        transform.knows_since = newest[0].time - backs[0]
    return transform


def reaching(transform: Transform, broker: Broker, record: Record, entries: Sequence[Entry]) -> Transform:
    """Return a transform that knows what was told before of the trades of a record; mostly it is the same one.

    One that was `prepared` does not know the trades of the windows before. A record that became `entries` may tell
    those again: then they are read, twice as far back each time, at most `LONGEST_LOOK`. Feed it the record again.
    """
    if not transform.knows_since or not entries:
        return transform
    oldest = min(entry.event.exchange_time for entry in entries)
    if oldest >= transform.knows_since + LEAD // 2:
        return transform
    earliest = record.time - LONGEST_LOOK
    since = max(earliest, min(oldest - LEAD, record.time - 2 * (record.time - transform.knows_since)))
    if since < transform.knows_since:
        assert transform.window is not None  # `prepared` gives it one
        transform = prepared(transform.source, broker, record.offset, transform.window, since)
    if since <= earliest:
        transform.knows_since = 0  # as far as we look
    return transform


def _numbers(source: Source, broker: Broker, newest: Record, position: int) -> list[LastNumber]:
    """Return the last frame numbers of the connections that were heard before a position, and not long before `newest`.

    A collector that was succeeded may come back and send again what it sent last. That was logged before its successor
    began, which is the successor's epoch in ms: so the log is read there, too, from one collector to the one before.
    """
    place, numbers = (source.topic, source.partition), LastNumbers()
    begin = broker.begin_offset(*place)

    def take(since: Microseconds, stop: int) -> set[int]:
        """Take the frames that were logged from a time to before an offset; return their epochs."""
        start, epochs = max(begin, broker.offset_for_time(*place, since)), set()
        for record in broker.read(*place, start, stop) if start < stop else ():
            header = _header(record)
            if header is not None and header.kind.is_frame:
                numbers.take((header.epoch, header.connection), header.number, record.time)
                epochs.add(header.epoch)
        return epochs

    waiting, seen = take(newest.time - OWN_COLLECTOR_MEMORY, position), set[int]()
    if (header := _header(newest)) is not None:
        waiting.add(header.epoch)
    while waiting:
        epoch = waiting.pop()
        seen.add(epoch)
        began = epoch * MILLISECOND
        if newest.time - began >= ANY_COLLECTOR_MEMORY:
            continue
        offset = min(broker.offset_for_time(*place, began), position)
        for last in broker.read(*place, offset - 1, offset) if offset > begin else ():
            stop = min(broker.offset_for_time(*place, began + TAKE_OVER), position)
            waiting |= take(last.time - TAKE_OVER, stop) - seen
    return numbers.pack()


def _header(record: Record) -> Header | None:
    """Return the header of a record; `None` where it is not one of ours: a dead letter."""
    try:
        return unpack_dated(record.header)
    except DecodeError:
        return None


class Place(NamedTuple):
    """Where an entry comes from: offset in the raw partition, and index within the frame."""

    offset: int
    index: Any  # an int


NOWHERE = Place(-1, -1)


class Partition:
    """One raw partition on its way into the processed topic of its channel."""

    def __init__(
        self, source: Source, broker: Broker, settings: Settings, *, clock: Callable[[], Microseconds] = wall
    ) -> None:
        self.source = source
        self.group = group(source.exchange.region, source.channel)
        (self.out, _), (self.letters, _) = source.outputs
        self.size = settings.batch_records(source.channel)
        self.position = self.committed = 0
        self.is_stored = True  # all that was appended
        self.ages: dict[Stage, Ages] = {}
        self.handoff: Handoff | None = None  # to who wants the rows, too
        self._broker, self._clock, self._window = broker, clock, settings.window_length
        self._interval = settings.batch_interval
        names = (source.exchange.name, source.channel.value)
        self._processed, self._dead = PROCESSED.labels(*names), DEAD.labels(*names)
        self._batch, self._lag = BATCH.labels(*names), LAG.labels(*names)
        self._times: list[Times] = []  # of records whose rows are not known to be stored yet
        self._waiting_since: float | None = None
        self._told_faults: set[str] = set()  # classes of errors of ours that were logged
        self._stalled: tuple[int, float] | None = None  # where we stand while records wait, and since when
        self.open()

    def open(self) -> None:
        """Go back to what was committed and bring the books there; a topic made anew is begun at its begin."""
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
            broker.commit(self.group, *self.place, position)  # or the old one would count again after a crash
        elif 0 < committed < begin:
            logger.error("%s: offsets %d to %d were trimmed before they were processed", self, committed, begin)
        self._transform = prepared(source, broker, position, self._window)
        self._written, self._buried = written, buried
        letters = self._tries(self.letters, _letter_place) if has_letters else iter(())
        self._given_up = {at.offset for at, _ in takewhile(lambda found: found[0].offset >= position, letters)}
        self.position = self.committed = position
        self._stalled = None

    def __str__(self) -> str:
        return f"{self.source.topic}[{self.source.partition}]"

    @property
    def place(self) -> tuple[str, int]:
        """The raw topic and partition."""
        return self.source.topic, self.source.partition

    def is_due(self, moment: float, end: int) -> bool:
        """Whether a batch is ready before offset `end`: enough records, or the first has waited long enough."""
        lag = end - self.position
        self._lag.set(lag)
        if lag <= 0:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = moment
        return lag >= self.size or moment - self._waiting_since >= self._interval

    def batch(self, end: int) -> tuple[int, int]:
        """Return the range of what waits before `end`, at most `MOST` records."""
        return self.position, min(end, self.position + MOST)

    def work(self, end: int) -> int:
        """Process what waits before `end`, at most `MOST` records and `MOST_BYTES`; return how many.

        Nothing is committed yet, nor known to be stored: `settle` comes next.
        """
        try:
            records = list(self._waiting(*self.batch(end)))
        except RetentionLoss:
            commit([self], self._broker)
            self.open()  # names what is lost, and goes on where the topic begins now
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
                self.handoff.give(Given(start, self.position, rows))
            self._waiting_since = None
            self._batch.observe(len(records))
        return len(records)

    def settle(self) -> None:
        """Note that all appended results are stored where they belong, and how old their records are now."""
        self.is_stored = True
        for stage, found in ages(self._times, self._clock()).items():
            if found:
                self.ages.setdefault(stage, Ages()).add(found)
                LATENCIES.ages[self.source.exchange.name, self.source.channel.value, stage].add(found)
        self._times.clear()

    @property
    def is_uncommitted(self) -> bool:
        """Whether everything before the position is processed and stored, but the group does not know yet."""
        return self.position != self.committed and self.is_stored

    def watch(self, moment: float, end: int) -> None:
        """Begin anew where the topic grows but nothing has come of it for `STUCK` seconds, or where it has shrunk."""
        if end == self.position:
            self._stalled = None
        elif end < self.position:
            logger.error("%s: ends at offset %d, before our %d: begun anew", self, end, self.position)
            self.open()
        elif self._stalled is None or self._stalled[0] != self.position:
            self._stalled = (self.position, moment)
        elif moment - self._stalled[1] > STUCK:
            logger.error("%s: stuck at offset %d, begun anew", self, self.position)
            self.open()

    def _waiting(self, start: int, stop: int) -> Iterator[Record]:
        """Yield the next records, until there are enough bytes."""
        size = 0
        for record in self._broker.read(*self.place, start, stop):
            yield record
            size += len(record.value)
            if size >= MOST_BYTES:
                return

    def _process(self, record: Record) -> list[Row]:
        """Append what a record gives to its topics; return its rows."""
        entries, values = dead_letters.encoded(self._transform, record)
        transform = reaching(self._transform, self._broker, record, entries)
        if transform is not self._transform:
            self._transform = transform
            entries, values = dead_letters.encoded(transform, record)
        is_given_up = record.offset in self._given_up  # or it were here, and redriven, too
        for entry, value in zip(entries, values, strict=False) if not is_given_up else ():
            if Place(record.offset, entry.row.index) > self._written:
                self._broker.append(self.out, self.source.partition, record.header, value)
                self._processed.inc()
        for dead in transform.dead:
            self._tell(dead)
            if Place(record.offset, 0) > self._buried:
                letter = dead_letters.letter(self.source, dead, self._clock())
                self._broker.append(self.letters, self.source.partition, record.header, letter.pack())
                self._dead.inc()
        if entries:
            self._times.append(_times(record, entries))
        transform.dead.clear()
        transform.faults.clear()
        return [entry.row for entry in entries]

    def _tell(self, dead: DeadRecord) -> None:
        """Log a fault of ours with its traceback, once for each class of error; the dead letters have them all."""
        if dead.is_ours and dead.error_class not in self._told_faults:
            self._told_faults.add(dead.error_class)
            logger.error("%s: offset %d: %s", self, dead.record.offset, dead.reason, exc_info=dead.error)

    def _last(self, topic: str, place: Callable[[Record], Place | None], begin: int, end: int) -> tuple[Place, bool]:
        """Return the place of the newest record that was no second try, and whether our topic is still the one named.

        `begin` and `end` are the raw topic's; of records beyond its end nothing is known.
        """
        is_empty = True
        for newest, header in islice(self._tries(topic, place), TAIL):
            is_empty = False
            if newest.offset < begin:
                return newest, True
            if newest.offset < end:
                [raw] = self._broker.read(*self.place, newest.offset, newest.offset + 1)
                return (newest, True) if raw.header == header else (NOWHERE, False)
        return NOWHERE, is_empty

    def _tries(self, topic: str, place: Callable[[Record], Place | None]) -> Iterator[tuple[Place, str]]:
        """Yield the places of what was no second try, and its headers, newest first."""
        first = self._broker.begin_offset(topic, self.source.partition)
        for stop in range(self._broker.end_offset(topic, self.source.partition), first, -TAIL):
            for record in reversed(
                list(self._broker.read(topic, self.source.partition, max(first, stop - TAIL), stop))
            ):
                if (found := place(record)) is not None:
                    yield found, record.header


def commit(lanes: Iterable[Partition], broker: Broker) -> None:
    """Have each group remember how far its lanes have come, where all before is processed and stored."""
    groups: defaultdict[str, list[Partition]] = defaultdict(list)
    for lane in lanes:
        if lane.is_uncommitted:
            groups[lane.group].append(lane)
    for name, some in groups.items():
        broker.commit_all(name, {lane.place: lane.position for lane in some})
        for lane in some:
            lane.committed = lane.position


def _row_place(record: Record) -> Place | None:
    origin = processed.origin(record)
    return None if origin is None or origin.redriven else Place(origin.offset, origin.index)


def _letter_place(record: Record) -> Place | None:
    try:
        letter = dead_letters.unpack(record.value)
    except DecodeError:
        return None
    is_ours = letter.header == record.header  # or somebody has copied it
    return Place(letter.offset, 0) if is_ours and letter.attempts == 1 else None


def _times(record: Record, entries: Sequence[Entry]) -> Times:
    """Return when a record was where; what REST answers say happened any time before."""
    is_live = record.header.startswith(f"{Kind.SOCKET},")
    exchange_times = [time for entry in entries if (time := entry.row.exchange_time) is not None] if is_live else []
    first = entries[0].row
    return Times(max(exchange_times, default=None), first.received_time, first.log_time)
