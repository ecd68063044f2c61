"""Copies processed records and gaps of one region into Redis, for feeds that cannot reach the broker.

1. The copy follows the topics in a thread of its own, over a connection of its own. So Redis never holds up the worker.
2. It goes on where the streams end. While Redis is away nothing is lost until more records wait than a stream keeps;
   then the oldest are skipped and counted.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from coin_platform.broker import Broker, Place, connect
from coin_platform.cluster import Cluster
from coin_platform.cluster.announcer import Announcer
from coin_platform.cluster.feed_streams import LOG_CHARACTERS, FeedStreams, StreamEnd, open_feed_streams
from coin_platform.cluster.rates import Rates
from coin_platform.cluster.status import ANNOUNCE_SECONDS, ComponentKind, Status
from coin_platform.errors import CoinPlatformError, RetentionLoss
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Region
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.topic_names import GAPS, processed_topic

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.05  # between two looks for new records
PAUSE_SECONDS = 1.0  # to wait when Redis or the broker does not answer
MOST_RECORDS = 500  # of one partition in one round, which bounds what Redis is asked at once


class RedisFeed:
    """Copies the processed topics and the gaps of exchanges of one region. One thread owns it."""

    def __init__(
        self,
        region: Region,
        exchanges: Sequence[Exchange],
        settings: Settings,
        broker: Broker,
        streams: FeedStreams,
        *,
        announcer: Announcer | None = None,
    ) -> None:
        """`broker` is this thread's own. The `announcer` is told once a second how the copy goes."""
        self._region, self._broker, self._streams = region, broker, streams
        self._most, self._announcer, self._announced, self._rates = settings.redis_feed_records, announcer, 0.0, Rates()
        self._places = [
            (processed_topic(exchange.region, source.channel), exchange.partition)
            for exchange in exchanges
            for source in sources(exchange, settings)
        ] + [(GAPS, exchange.gap_partition) for exchange in exchanges]
        self._positions: dict[Place, int] = {}  # the next offset to copy
        self._logs: dict[Place, str] = {}  # the begin of each topic's id
        self._is_known = False  # whether Redis holds all before the positions, as far as it ever will
        self._said = 0.0  # when Redis was told that this copy is alive
        self.written = self.skipped = self.waiting = 0  # records
        self.failure = ""  # why nothing is copied now

    def run(self, halt: threading.Event) -> None:
        """Copy until `halt`. Wait while the broker or Redis does not answer."""
        while not halt.is_set():
            try:
                copied = self.step()
            except CoinPlatformError as error:
                if not self.failure:
                    logger.warning("%s: processed records do not reach redis: %s", self._region, error)
                self.failure, self._is_known = str(error), False
                self._announce()
                halt.wait(PAUSE_SECONDS)
                continue
            if self.failure:
                logger.warning("%s: processed records reach redis again; %d skipped in all", self._region, self.skipped)
            self.failure = ""
            self._announce()
            if not copied:
                halt.wait(LOOK_SECONDS)

    def step(self) -> int:
        """Copy what is new, and return how many records that were.

        Raises `BrokerUnreachable` or `ClusterError`. The next step then asks Redis what it has.
        """
        ends = self._broker.end_offsets(self._places)
        if not self._is_known or any(end < self._positions[place] for place, end in ends.items()):
            self._find(ends)
        for place, end in ends.items():
            self._move(place, max(self._positions[place], end - self._most))
        self.waiting = sum(end - self._positions[place] for place, end in ends.items())
        ranges = {
            place: (start, min(ends[place], start + MOST_RECORDS))
            for place, start in self._positions.items()
            if start < ends[place]
        }
        copied = sum([self._copy(place, stop) for place, stop in self._broker.prefetch(ranges).items()])
        self.waiting -= copied
        if (moment := time.monotonic()) - self._said >= 1.0:
            self._said = moment
            self._streams.say_alive(self._region)
        return copied

    def _find(self, ends: Mapping[Place, int]) -> None:
        """Go on where the streams end. An empty one gets the newest records; one of a former topic is removed first."""
        held = self._streams.ends(self._places)
        for place, end in ends.items():
            stream, log = held[place], (self._broker.identity(*place) or "")[:LOG_CHARACTERS]
            if stream.offset and (stream.offset > end or stream.log != log):
                logger.warning("%s[%d]: the topic was made anew, and so is its stream in redis", *place)
                self._streams.clear(place)
                stream = StreamEnd()
            if self._logs.get(place, log) != log or self._positions.get(place, 0) > end:
                self._positions.pop(place, None)
            self._logs[place] = log
            if stream.offset:
                self._positions[place] = stream.offset
            else:
                start = max(self._broker.begin_offset(*place), end - self._most)
                self._positions[place] = min(start, self._positions.get(place, start))
                self._move(place, start)
        self._is_known = True

    def _copy(self, place: Place, stop: int) -> int:
        """Copy the records of a partition up to `stop`, and return how many they are."""
        try:
            records = list(self._broker.read(*place, self._positions[place], stop))
        except RetentionLoss:
            self._move(place, self._broker.begin_offset(*place))
            return 0
        self.written += self._streams.append({place: records}, self._logs, self._most)
        self._positions[place] = stop
        return len(records)

    def _move(self, place: Place, start: int) -> None:
        """Go on from a later offset; the records up to it are skipped."""
        self.skipped += start - self._positions[place]
        self._positions[place] = start

    def _announce(self) -> None:
        moment = time.monotonic()
        if self._announcer is None or moment - self._announced < ANNOUNCE_SECONDS:
            return
        self._announced = moment
        numbers = {
            "redis_records": self.written,
            "redis_records_per_second": self._rates.per_second("redis", self.written, moment),
            "redis_skipped": self.skipped,
            "lag_records": self.waiting,
        }
        state = "waiting" if self.failure else "live"
        name = f"worker/{self._region}/redis"
        self._announcer.offer(
            [Status(name=name, kind=ComponentKind.WORKER, state=state, reason=self.failure, numbers=numbers)]
        )


@contextlib.contextmanager
def copied_to_redis(
    region: Region, exchanges: Sequence[Exchange], settings: Settings, cluster: Cluster | None
) -> Iterator[None]:
    """Copy processed records into Redis meanwhile, if COIN_REDIS_FEED=1."""
    if not settings.redis_feed:
        yield
        return
    halt = threading.Event()
    announcer = None if cluster is None else Announcer(cluster, f"worker-{region}-redis")
    broker, streams = connect(settings), open_feed_streams(settings)
    feed = RedisFeed(region, exchanges, settings, broker, streams, announcer=announcer)
    thread = threading.Thread(target=feed.run, args=(halt,), name=f"redis feed {region}")
    thread.start()
    try:
        yield
    finally:
        halt.set()
        thread.join()
        streams.close()
        broker.close()
        if announcer is not None:
            announcer.close()
