"""Reads the processed records that workers copy into Redis, under the offsets of their topics."""

import logging
import time
from collections.abc import Callable, Mapping

from coin_platform.cluster.feed_streams import FeedStreams
from coin_platform.model import Microseconds
from coin_platform.records import Record
from coin_platform.serve.feed.records import FeedRecord, feed_record, hole
from coin_platform.serve.feed.source import FeedPlace, Position, Positions, Reading, Told

logger = logging.getLogger(__name__)

MOST_RECORDS = 500  # of one partition, in one read
LOOK_SECONDS = 1.0  # between two looks for streams that are new, or of topics that were made anew


class RedisSource:
    """Reads the streams of a deployment. One thread reads."""

    def __init__(
        self,
        streams: FeedStreams,
        probed: FeedStreams,
        places: Mapping[FeedPlace, Told],
        since: Microseconds,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with the records that the log took at `since` or later. `probed` is a connection for probes alone."""
        self._streams, self._probed, self._places, self._since = streams, probed, dict(places), since
        self._clock, self._looked = clock, -LOOK_SECONDS
        self._logs: dict[FeedPlace, str] = {}

    def restart(self) -> None:
        """Do nothing: the positions say all."""

    def read(self, positions: Positions) -> Reading:
        """Return what is new. Raises `ClusterError` if nothing could be read."""
        known, new = dict(positions), list[FeedRecord]()
        moved: dict[FeedPlace, Position] = {}
        if (moment := self._clock()) - self._looked >= LOOK_SECONDS:
            self._look(known, moved, new)
            self._looked = moment
        starts = {place: known[place].offset for place in self._places if place in known}
        for place, records in self._streams.read(starts, MOST_RECORDS).items():
            new += self._part(place, starts[place], records, is_first=place not in positions)
            log = self._logs.get(place) or known[place].log
            if records:
                moved[place] = Position(records[-1].offset + 1, log)
        return Reading(new, moved)

    def probe(self) -> None:
        """Write and read a marker, and look whether a worker writes. Raises `ClusterError`."""
        self._probed.probe()

    def close(self) -> None:
        """Close the connections."""
        self._streams.close()
        self._probed.close()

    def _look(self, known: dict[FeedPlace, Position], moved: dict[FeedPlace, Position], new: list[FeedRecord]) -> None:
        """Find where new partitions begin, and the streams of topics that were made anew."""
        for place, end in self._streams.ends(list(self._places)).items():
            if not end.offset:
                continue  # the stream is empty
            self._logs[place] = end.log
            if place not in known:
                known[place] = Position(max(0, end.offset - MOST_RECORDS), end.log)
            elif known[place].is_of_another(end.log):
                logger.warning("%s[%d]: the topic was made anew, the feed begins with its first record", *place)
                known[place] = moved[place] = Position(0, end.log)
                new.append(hole(*self._places[place], None, "the topic was made anew"))

    def _part(self, place: FeedPlace, start: int, records: list[Record], *, is_first: bool) -> list[FeedRecord]:
        """Return the records of a partition, with a hole where offsets are missing."""
        exchange, kind = self._places[place]
        told: list[FeedRecord] = []
        expected = None if is_first else start
        for record in records:
            if expected is not None and record.offset > expected:
                told.append(hole(exchange, kind, record.offset - expected, "redis does not have the records"))
            expected = record.offset + 1
            if is_first and record.time < self._since:
                continue
            feed = feed_record(exchange, kind, record)
            if feed is not None:
                told.append(feed)
        return told
