"""Follows the processed topics and the topic of gaps through a broker, from a moment on."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from coin_platform.broker import Broker, Place
from coin_platform.cluster.feed_streams import LOG_CHARACTERS
from coin_platform.errors import BrokerUnreachable, RetentionLoss
from coin_platform.model import Microseconds
from coin_platform.serve.feed.records import FeedRecord, feed_record, hole
from coin_platform.serve.feed.source import Position, Positions, Reading, Told

logger = logging.getLogger(__name__)

MOST_RECORDS = 2_000  # of one partition, in one read: no partition makes the others wait for long


class Probe(Protocol):
    """Asks whether a broker can be read now. One thread owns it."""

    def __call__(self) -> None:
        """Raise an error of ours if not."""

    def close(self) -> None:
        """Give back what is held open."""


class TopicSource:
    """Reads the topics of a broker. One thread reads."""

    def __init__(
        self,
        broker: Broker,
        places: Mapping[Place, Told],
        since: Microseconds,
        *,
        probe: Probe | None = None,
    ) -> None:
        """Begin with the records that the log took at `since` or later, and with the newest 2,000 at most.

        `probe` is asked on another thread, by default for the ends of all partitions.
        """
        self._broker, self._places, self._since = broker, dict(places), since
        self._probe = probe
        self._logs: dict[Place, str] = {}
        self.unknown = 0  # records that the platform did not write; they are left out

    def restart(self) -> None:
        """Do nothing: the positions say all."""

    def begin(self, places: list[Place]) -> dict[Place, Position]:
        """Return where partitions without a position begin. Raises `BrokerUnreachable`."""
        ends = self._broker.end_offsets(places)
        return {
            place: Position(
                max(self._broker.offset_for_time(*place, self._since), end - MOST_RECORDS), self._log(place)
            )
            for place, end in ends.items()
        }

    def read(self, positions: Positions) -> Reading:
        """Return what is new. Raises `BrokerUnreachable` if nothing could be read."""
        missing = [place for place in self._places if place not in positions]
        moved = self.begin(missing) if missing else {}
        known = {**positions, **moved}
        ends = self._broker.end_offsets(list(self._places))
        new: list[FeedRecord] = []
        for place, end in ends.items():
            if end < known[place].offset and (anew := self._made_anew(place, known[place])):
                known[place] = moved[place] = anew
                new.append(hole(*self._places[place], None, "the topic was made anew"))
        ranges = {
            place: (known[place].offset, min(end, known[place].offset + MOST_RECORDS))
            for place, end in ends.items()
            if end > known[place].offset
        }
        for place, stop in self._broker.prefetch(ranges).items():
            try:
                new += self._part(place, known[place].offset, stop, moved)
            except BrokerUnreachable:
                if not new:
                    raise
                break  # what was read is not to be lost; the next call meets the error again
        return Reading(new, moved)

    def probe(self) -> None:
        """Ask what reading asks. Raises `BrokerUnreachable`."""
        if self._probe is not None:
            self._probe()
        else:
            self._broker.end_offsets(list(self._places))

    def close(self) -> None:
        """Close the broker's connections."""
        self._broker.close()
        if self._probe is not None:
            self._probe.close()

    def _part(self, place: Place, start: int, stop: int, moved: dict[Place, Position]) -> list[FeedRecord]:
        """Return the records of a partition up to `stop`, and move on."""
        told: list[FeedRecord] = []
        unknown = 0
        exchange, kind = self._places[place]
        try:
            for record in self._broker.read(*place, start, stop):
                feed = feed_record(exchange, kind, record)
                if feed is None:
                    unknown += 1
                else:
                    told.append(feed)
        except RetentionLoss as error:
            logger.warning("the feed goes on after what was trimmed: %s", error)
            stop = self._broker.begin_offset(*place)  # what is left is read by the next call
            told, unknown = [hole(exchange, kind, stop - start, "the records were trimmed before they were read")], 0
        moved[place] = Position(stop, self._log(place))
        self.unknown += unknown
        return told

    def _log(self, place: Place) -> str:
        """Return the begin of a topic's id, as it was when it was first asked for."""
        if place not in self._logs:
            self._logs[place] = (self._broker.identity(*place) or "")[:LOG_CHARACTERS]
        return self._logs[place]

    def _made_anew(self, place: Place, position: Position) -> Position | None:
        """Return where to go on in a topic that is shorter than what was read of it; `None` if it is the same one."""
        self._logs.pop(place, None)
        log = self._log(place)
        if not position.is_of_another(log):
            return None
        logger.warning("%s[%d]: the topic was made anew, the feed begins with its first record", *place)
        return Position(self._broker.begin_offset(*place), log)


class Tail:
    """Reads new records of a broker, and knows how far it has come. One thread owns it."""

    def __init__(self, broker: Broker, places: Mapping[Place, Told], since: Microseconds) -> None:
        """Begin as `TopicSource` does. Raises `BrokerUnreachable`."""
        self._source = TopicSource(broker, places, since)
        self._positions = self._source.begin(list(places))

    @property
    def unknown(self) -> int:
        """How many records the platform did not write."""
        return self._source.unknown

    def read(self) -> list[FeedRecord]:
        """Return what is new. Raises `BrokerUnreachable`; the next call goes on where this one stopped."""
        reading = self._source.read(self._positions)
        self._positions |= reading.positions
        return reading.records


def opened_later(open_tail: Callable[[], Tail]) -> Callable[[], list[FeedRecord]]:
    """Return what reads a tail that the first read opens: the broker need not answer yet."""
    tails: list[Tail] = []

    def read() -> list[FeedRecord]:
        if not tails:
            tails.append(open_tail())
        return tails[0].read()

    return read
