"""The feed's streams in memory, with faults that a test sets."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from coin_platform.cluster.feed_streams import FeedStreams, StreamEnd, StreamPlace
from coin_platform.errors import ClusterError
from coin_platform.records import Record


class MemoryStreams(FeedStreams):
    """Holds what a test puts into it. While `failure` is set, nothing can be read."""

    def __init__(self) -> None:
        self.held: defaultdict[StreamPlace, list[Record]] = defaultdict(list)
        self.log = ""  # of all topics
        self.failure = ""

    def read(self, starts: Mapping[StreamPlace, int], most: int) -> dict[StreamPlace, list[Record]]:
        """Return records as Redis does."""
        self.probe()
        found = {
            place: [record for record in self.held[place] if record.offset >= start][:most]
            for place, start in starts.items()
        }
        return {place: records for place, records in found.items() if records}

    def ends(self, places: Sequence[StreamPlace]) -> dict[StreamPlace, StreamEnd]:
        """Return ends as Redis does."""
        self.probe()
        return {
            place: StreamEnd(self.held[place][-1].offset + 1, self.log) if self.held[place] else StreamEnd()
            for place in places
        }

    def probe(self) -> None:
        """Fail while `failure` is set."""
        if self.failure:
            raise ClusterError(self.failure)

    def close(self) -> None:
        """Do nothing."""
