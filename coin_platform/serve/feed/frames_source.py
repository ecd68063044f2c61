"""Makes processed records of the frames that wait on this machine for Kafka, as the worker would.

1. A collector of this machine appends each frame to its spool. While Kafka is away, all new frames are there.
2. They go through the same transform. It knows nothing from before: a book of changes comes again with its next
   checkpoint or snapshot.
3. Kafka will give a frame another offset than the spool. So a record says the offset after the last one that was told,
   and so on: these rise, and are not higher than those that Kafka will give.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from coin_platform.broker import LocalBroker, Place
from coin_platform.clock import wall
from coin_platform.errors import BrokerUnreachable, DecodeError, RetentionLoss
from coin_platform.exchanges.base import Source
from coin_platform.journal import JournalReader, path_of
from coin_platform.model import SECOND, Channel, Microseconds
from coin_platform.records import Header, Record, unpack
from coin_platform.selection import exchanges_of, sources
from coin_platform.serve.feed.border import Border
from coin_platform.serve.feed.records import GAP, FeedRecord, feed_record, hole
from coin_platform.serve.feed.source import Positions, Reading
from coin_platform.settings import Settings
from coin_platform.tables import dead_letters
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import GAPS

logger = logging.getLogger(__name__)

ALIVE: Microseconds = 15 * SECOND  # in which a collector of this machine must have written a frame
MOST_RECORDS = 1_000  # of one partition, in one read


class _Frames:
    """The frames of one raw partition that wait."""

    def __init__(self, source: Source, border: Border, begin: int, window: Microseconds) -> None:
        self.source, self.next = source, begin
        self._border, self._name, self._kind = border, source.exchange.name, str(source.channel)
        self._shift = border.next_offset(self._name, self._kind) - begin  # from an offset of the spool to a told one
        self._transform = Transform(source, 0, window)
        self._connections: set[tuple[int, str]] = set()
        self._is_hole = source.channel is Channel.ORDERBOOK and source.exchange.has_deltas

    def align(self, waiting: Iterable[Record]) -> None:
        """Find a frame that was told already: Kafka has it, and it is only not trimmed yet. Its offset is known."""
        for record in waiting:
            if (header := _frame_header(record)) is not None:
                number, offset = self._border.newest(self._name, self._kind, header.epoch, header.connection)
                if number == header.number:
                    self._shift = offset - record.offset

    def records(self, raw: Iterable[Record]) -> list[FeedRecord]:
        """Return the processed records of frames, after a hole if there may be frames before them."""
        told: list[FeedRecord] = []
        for record in raw:
            self._is_hole |= self._is_cut(record)
            shifted = record._replace(offset=max(0, record.offset + self._shift))
            _, values = dead_letters.encoded(self._transform, shifted)
            made = (feed_record(self.source.exchange, self._kind, shifted._replace(value=value)) for value in values)
            told += [feed for feed in made if feed is not None]
            self._transform.dead.clear()  # the worker makes dead letters of them
            self._transform.faults.clear()
        if self._is_hole and told:
            self._is_hole = False
            told.insert(0, hole(self.source.exchange, self._kind, None, "kafka may have records that were not told"))
        return told

    def note_trimmed(self) -> None:
        """Take note that frames went to Kafka before they were read here: what comes next comes after a hole."""
        self._is_hole = True

    def _is_cut(self, record: Record) -> bool:
        """Whether this is the first frame of a connection, and frames between it and the last told one may be away."""
        header = _frame_header(record)
        if header is None or (header.epoch, header.connection) in self._connections:
            return False
        self._connections.add((header.epoch, header.connection))
        return header.number > 1 + self._border.newest(self._name, self._kind, header.epoch, header.connection)[0]


def _frame_header(record: Record) -> Header | None:
    """Return the header of a frame; `None` for our own records and foreign ones."""
    try:
        header = unpack(record.header)
    except DecodeError:
        return None
    return header if header.kind.is_frame else None


class FramesSource:
    """Reads the spool of this machine. One thread reads."""

    def __init__(self, settings: Settings, border: Border, *, clock: Callable[[], Microseconds] = wall) -> None:
        """The `border` knows what was told already."""
        self._folder = settings.path(settings.journal_dir) / Path("spool")
        self._spool = LocalBroker(self._folder)
        self._border, self._clock, self._window = border, clock, settings.window_length
        exchanges = exchanges_of(None, settings)
        self._sources = [source for exchange in exchanges for source in sources(exchange, settings)]
        self._gap_places = {(GAPS, exchange.gap_partition): exchange for exchange in exchanges}
        self._journals = [
            JournalReader(path_of(self._folder, source.topic, source.partition)) for source in self._sources
        ]
        self._frames: list[_Frames] = []
        self._gaps: dict[Place, int] = {}

    def restart(self) -> None:
        """Begin with the first frame that waits: the feed comes from another source."""
        self._frames = []
        for source in self._sources:
            place = source.topic, source.partition
            frames = _Frames(source, self._border, self._spool.begin_offset(*place), self._window)
            waiting, frames.next = self._new(place, frames.next)
            frames.align(waiting)
            frames.next -= len(waiting)
            self._frames.append(frames)
        self._gaps = {place: self._spool.begin_offset(*place) for place in self._gap_places}

    def read(self, positions: Positions) -> Reading:
        """Return what the new frames became. The positions of the log stay as they are."""
        told: list[FeedRecord] = []
        for frames in self._frames:
            place = frames.source.topic, frames.source.partition
            start = frames.next
            raw, frames.next = self._new(place, start)
            if not raw and frames.next > start:
                frames.note_trimmed()
            told += frames.records(raw)
        for place, exchange in self._gap_places.items():
            raw, self._gaps[place] = self._new(place, self._gaps[place])
            told += [feed for record in raw if (feed := feed_record(exchange, GAP, record)) is not None]
        return Reading(told, {})

    def probe(self) -> None:
        """Look whether a collector of this machine writes. Raises `BrokerUnreachable`."""
        newest = max((time for journal in self._journals if (time := journal.last_time()) is not None), default=0)
        if self._clock() - newest > ALIVE:
            raise BrokerUnreachable(f"no collector of this machine has written a frame within {ALIVE // SECOND} s")

    def close(self) -> None:
        """Close the spool."""
        self._spool.close()

    def _new(self, place: Place, start: int) -> tuple[list[Record], int]:
        """Return the new records of a partition of the spool, and where to go on."""
        stop = min(self._spool.end_offset(*place), start + MOST_RECORDS)
        if stop <= start:
            return [], start
        try:
            records = list(self._spool.read(*place, start, stop))
        except RetentionLoss:  # kafka takes them again and they are trimmed; soon the feed goes on from there
            return [], self._spool.begin_offset(*place)
        return records, stop
