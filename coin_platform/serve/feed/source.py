"""What the feed can read from, and how far it has come: the same for each source, so that one can follow another.

Each source has the same records under the same offsets: those of the processed topics. So a source goes on where
another one stopped. Nothing is told twice, nothing is told late, and offsets that are missing are a hole.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias

from coin_platform.exchanges.base import Exchange
from coin_platform.selection import exchanges_of, sources
from coin_platform.serve.feed.records import GAP, FeedRecord
from coin_platform.settings import Settings
from coin_platform.topic_names import GAPS, processed_topic

FeedPlace: TypeAlias = tuple[str, int]  # a topic and its partition


class Told(NamedTuple):
    """What a partition tells: of which exchange, and of which channel, or gaps."""

    exchange: Exchange
    kind: str


class Position(NamedTuple):
    """The next offset of a partition, and the begin of its topic's id; empty if nobody knows it."""

    offset: int
    log: str = ""

    def is_of_another(self, log: str) -> bool:
        """Whether the offset counts the records of another topic, which was deleted since."""
        return bool(self.log and log and self.log != log)


Positions: TypeAlias = Mapping[FeedPlace, Position]


class Reading(NamedTuple):
    """What is new, in the order of each partition, and the positions after it of the partitions that moved."""

    records: list[FeedRecord]
    positions: dict[FeedPlace, Position]


class FeedSource(Protocol):
    """One way to the processed records and the gaps. One thread reads, and another one probes."""

    def restart(self) -> None:
        """Get ready to read after another source did. Called before the first `read`, too."""

    def read(self, positions: Positions) -> Reading:
        """Return what is new after `positions`. Partitions without a position begin as the source was told to.

        Raises an error of ours if nothing could be read.
        """

    def probe(self) -> None:
        """Do a small piece of what reading needs. Raises an error of ours if that fails."""

    def close(self) -> None:
        """Give back what is held open."""


def places_of(settings: Settings) -> dict[FeedPlace, Told]:
    """Return the partitions that the feed reads."""
    places: dict[FeedPlace, Told] = {}
    for exchange in exchanges_of(None, settings):
        for source in sources(exchange, settings):
            place = processed_topic(exchange.region, source.channel), exchange.partition
            places[place] = Told(exchange, str(source.channel))
        places[GAPS, exchange.gap_partition] = Told(exchange, GAP)
    return places
