"""Follows the processed topics and the topic of gaps, from a moment on."""

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from coin_platform.broker import Broker, Place
from coin_platform.errors import BrokerUnreachable, RetentionLoss
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Microseconds
from coin_platform.selection import exchanges_of, sources
from coin_platform.serve.feed.records import GAP, FeedRecord, feed_record
from coin_platform.settings import Settings
from coin_platform.topic_names import GAPS, processed_topic

logger = logging.getLogger(__name__)

MOST_RECORDS = 2_000  # of one partition, in one read: no partition makes the others wait for long


class Told(NamedTuple):
    """What a partition tells: of which exchange, and of which channel, or gaps."""

    exchange: Exchange
    kind: str


def places_of(settings: Settings) -> dict[Place, Told]:
    """Return the partitions that the feed reads."""
    places: dict[Place, Told] = {}
    for exchange in exchanges_of(None, settings):
        for source in sources(exchange, settings):
            place = processed_topic(exchange.region, source.channel), exchange.partition
            places[place] = Told(exchange, str(source.channel))
        places[GAPS, exchange.gap_partition] = Told(exchange, GAP)
    return places


class Tail:
    """Reads new records of partitions. One thread owns it."""

    def __init__(self, broker: Broker, places: Mapping[Place, Told], since: Microseconds) -> None:
        """Begin with the records that the log took at `since` or later, and with the newest 2,000 at most.

        Raises `BrokerUnreachable`.
        """
        self._broker, self._places = broker, dict(places)
        self.unknown = 0  # records that the platform did not write; they are left out
        ends = broker.end_offsets(list(self._places))
        self._positions = {
            place: max(broker.offset_for_time(*place, since), end - MOST_RECORDS) for place, end in ends.items()
        }

    def read(self) -> list[FeedRecord]:
        """Return what is new, in the order of each partition.

        Raises `BrokerUnreachable` if nothing could be read; the next call goes on where this one stopped.
        """
        ends = self._broker.end_offsets(list(self._places))
        ranges = {
            place: (start, min(ends[place], start + MOST_RECORDS))
            for place, start in self._positions.items()
            if ends.get(place, 0) > start
        }
        new: list[FeedRecord] = []
        for place, stop in self._broker.prefetch(ranges).items():
            try:
                new += self._part(place, stop)
            except BrokerUnreachable:
                if not new:
                    raise
                break  # what was read is not to be lost; the next call meets the error again
        return new

    def _part(self, place: Place, stop: int) -> list[FeedRecord]:
        """Return the records of a partition up to `stop`, and move on."""
        told: list[FeedRecord] = []
        unknown = 0
        exchange, kind = self._places[place]
        try:
            for record in self._broker.read(*place, self._positions[place], stop):
                feed = feed_record(exchange, kind, record)
                if feed is None:
                    unknown += 1
                else:
                    told.append(feed)
        except RetentionLoss as error:
            logger.warning("the feed goes on after what was trimmed: %s", error)
            stop, told, unknown = self._broker.begin_offset(*place), [], 0  # what is left is read by the next call
        self._positions[place] = stop
        self.unknown += unknown
        return told


def opened_later(open_tail: Callable[[], Tail]) -> Callable[[], list[FeedRecord]]:
    """Return what reads a tail that the first read opens: the broker need not answer yet."""
    tails: list[Tail] = []

    def read() -> list[FeedRecord]:
        if not tails:
            tails.append(open_tail())
        return tails[0].read()

    return read
