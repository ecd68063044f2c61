"""One raw partition on its way to processed records and dead letters.

At least once, with identity: what a batch gives is appended and flushed, then the batch is committed; after a crash
in between, what the processed topic holds already is left out.
"""

import json
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from coin_platform.broker import Broker
from coin_platform.errors import DecodeError
from coin_platform.journal import now
from coin_platform.model import SECOND, Channel, Microseconds
from coin_platform.preprocess import dead_letters, processed
from coin_platform.preprocess.transform import Dead, Source, Transform
from coin_platform.settings import Settings
from coin_platform.wire import Record, dead_letter_topic, group, processed_topic, unpack

logger = logging.getLogger(__name__)

MOST = 1_000  # records of one partition in one round: bounds memory and keeps the partitions fair
STUCK = 60.0  # seconds without progress, while the topic grows, after which a partition is begun anew
TAIL = 500  # records looked at for where the last run stopped, and before the position for what was seen

LABELS = ("exchange", "channel")
PROCESSED = Counter("coin_processed_records", "processed records written", LABELS)
DEAD = Counter("coin_dead_letters", "dead letters written", LABELS)
BATCH = Histogram("coin_batch_records", "raw records of a batch", LABELS, buckets=(1, 5, 20, 50, 100, 250, 500, 1000))
LAG = Gauge("coin_lag_records", "raw records that wait", LABELS)
LATENCY = Histogram(
    "coin_latency_seconds",
    "age of a raw record's data: exchange to received, received to logged, logged to processed",
    (*LABELS, "stage"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)


def prepared(source: Source, broker: Broker, position: int, window: Microseconds) -> Transform:
    """Return a transform that stands at `position`: its books rebuilt from the last checkpoints before it.

    Looks back as far as needed, at most to the checkpoints of the window before; a pair without one is invalid until
    its next snapshot.
    """
    begin = broker.begin_offset(source.topic, source.partition)
    has_books = source.channel is Channel.ORDERBOOK and source.exchange.has_deltas
    transform = Transform(source, position, window)
    if not has_books:
        for record in broker.read(source.topic, source.partition, max(begin, position - TAIL), position):
            transform.feed(record)
        return transform
    newest = [record.time for record in broker.read(source.topic, source.partition, max(begin, position - 1), position)]
    for back in (30 * SECOND, 300 * SECOND, window + 30 * SECOND) if newest else ():
        transform = Transform(source, position, window)
        first = broker.offset_for_time(source.topic, source.partition, newest[0] - back)
        for record in broker.read(source.topic, source.partition, max(begin, first), position):
            transform.feed(record)
        if not transform.books.orphans or first <= begin:
            break
    return transform


class Place(NamedTuple):
    """Where an entry comes from: offset in the raw partition, and index within the frame."""

    offset: int
    index: Any


class Lane:
    """One raw partition on its way into the processed topic of its channel."""

    def __init__(
        self, source: Source, broker: Broker, settings: Settings, *, clock: Callable[[], Microseconds] = now
    ) -> None:
        self.source = source
        self.group = group(source.exchange.region, source.channel)
        self.out = processed_topic(source.exchange.region, source.channel)
        self.letters = dead_letter_topic(source.topic)
        self.size = settings.batch_records(source.channel)
        self.position = self._committed = 0
        self._broker, self._clock, self._window = broker, clock, settings.window_length
        self._interval = settings.batch_interval
        self._labels = (source.exchange.name, source.channel.value)
        self._waiting_since: float | None = None
        self._stalled: tuple[int, float] | None = None  # where we stand while records wait, and since when
        self.open()

    def open(self) -> None:
        """Go back to what was committed and bring the books there."""
        source, broker = self.source, self._broker
        for topic in (self.out, self.letters):
            broker.claim(topic, source.partition)  # what a killed worker left behind is stored before we look
        begin = broker.begin_offset(source.topic, source.partition)
        position = broker.committed(self.group, source.topic, source.partition) or 0
        if position < begin:
            if position:
                logger.error(
                    "%s[%d]: offsets %d to %d were trimmed before they were processed",
                    *(source.topic, source.partition, position, begin),
                )
            position = begin
        self.position = self._committed = position
        self._transform = prepared(source, broker, position, self._window)
        self._written = self._last(self.out, _place)
        self._buried = self._last(self.letters, _letter_place)
        self._stalled = None

    @property
    def place(self) -> tuple[str, int]:
        """The raw topic and partition."""
        return self.source.topic, self.source.partition

    def is_due(self, moment: float, end: int) -> bool:
        """Whether a batch is ready before offset `end`: enough records, or the first has waited long enough."""
        lag = end - self.position
        LAG.labels(*self._labels).set(lag)
        if lag <= 0:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = moment
        return lag >= self.size or moment - self._waiting_since >= self._interval

    def work(self, end: int) -> int:
        """Process what waits before `end`, at most `MOST` records; return how many. Nothing is committed yet."""
        stop = min(end, self.position + MOST)
        records = list(self._broker.read(*self.place, self.position, stop)) if self.position < stop else []
        for record in records:
            self._process(record)
        if records:
            self.position = records[-1].offset + 1
            self._waiting_since = None
            BATCH.labels(*self._labels).observe(len(records))
            self._measure(records[-1])
        return len(records)

    def commit(self) -> None:
        """Remember that everything before the position is processed and stored."""
        if self.position != self._committed:
            self._broker.commit(self.group, *self.place, self.position)
            self._committed = self.position

    def watch(self, moment: float, end: int) -> None:
        """Begin anew where the topic grows but nothing has come of it for `STUCK` seconds, or where it has shrunk."""
        lag = end - self.position
        if lag == 0:
            self._stalled = None
        elif self._stalled is None or self._stalled[0] != self.position:
            self._stalled = (self.position, moment)
        elif moment - self._stalled[1] > STUCK:
            lag = -1
        if lag < 0:
            logger.error("%s[%d]: stuck at offset %d, begun anew", *self.source[2:], self.position)
            self.open()

    def _process(self, record: Record) -> None:
        transform = self._transform
        try:
            entries = transform.entries(record)
        except Exception as error:  # a fault of ours: one frame must not stop its partition
            logger.exception("%s[%d]: offset %d", self.source.topic, self.source.partition, record.offset)
            entries = []
            transform.dead.append(Dead(record, None, DecodeError(f"{type(error).__name__}: {error}")))
        for entry in entries:
            if Place(record.offset, entry.row[-1]) > self._written:  # the last column is the index
                value = processed.encode(self.source.exchange, self.source.channel, entry)
                self._broker.append(self.out, self.source.partition, record.header, value)
                PROCESSED.labels(*self._labels).inc()
        for dead in transform.dead:
            if Place(record.offset, 0) > self._buried:
                letter = dead_letters.letter(self.source, dead, self._clock())
                self._broker.append(self.letters, self.source.partition, record.header, letter.pack())
                DEAD.labels(*self._labels).inc()
        transform.dead.clear()
        transform.faults.clear()

    def _measure(self, record: Record) -> None:
        try:
            received = unpack(record.header).received_time
        except DecodeError:
            return
        done = self._clock()
        for stage, seconds in (("logged", record.time - received), ("processed", done - record.time)):
            LATENCY.labels(*self._labels, stage).observe(max(0, seconds) / SECOND)

    def _last(self, topic: str, place: Callable[[bytes], Place | None]) -> Place:
        """Return the place of the newest record of our partition that was not a second try."""
        end = self._broker.end_offset(topic, self.source.partition)
        begin = self._broker.begin_offset(topic, self.source.partition)
        tail = self._broker.read(topic, self.source.partition, max(begin, end - TAIL), end)
        return max(filter(None, (place(record.value) for record in tail)), default=Place(-1, -1))


def _place(value: bytes) -> Place | None:
    body = json.loads(value)
    return None if body.get("redriven") else Place(body["offset"], body["index"])


def _letter_place(value: bytes) -> Place | None:
    letter = dead_letters.unpack(value)
    return Place(letter.offset, 0) if letter.attempts == 1 else None
