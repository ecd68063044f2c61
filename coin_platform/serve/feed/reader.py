"""Reads for the feed from the source that the ladder names, and goes on with another one where that stopped."""

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from coin_platform.clock import elapsed, wall
from coin_platform.errors import BrokerUnreachable, CoinPlatformError
from coin_platform.serve.feed.border import Border
from coin_platform.serve.feed.ladder import Ladder, Service
from coin_platform.serve.feed.records import FeedRecord
from coin_platform.serve.feed.source import FeedPlace, FeedSource, Position, Reading

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05  # between two looks whether the ladder has moved, while a source does not answer


class LadderReader:
    """Reads from the ladder's source. One thread calls `read`.

    1. The positions are those of the feed, not of a source. So each offset is told once, by whichever source.
    2. A source that hangs is left alone in its own thread once the ladder has moved. What it answers then is dropped.
    """

    def __init__(self, ladder: Ladder, sources: Mapping[Service, FeedSource], border: Border | None = None) -> None:
        """`sources` has one for each service of the ladder. They are closed by `close`.

        If the local source makes records of frames, the `border` keeps them from coming twice.
        """
        self._border = border
        self._ladder, self._sources = ladder, dict(sources)
        self._threads = {service: ThreadPoolExecutor(1, f"feed from {service}") for service in sources}
        self._hanging: dict[Service, Future[Reading]] = {}
        self._positions: dict[FeedPlace, Position] = {}
        self._last: Service | None = None  # the source of the newest records
        self.moves = 0  # from one source to another

    def read(self) -> list[FeedRecord]:
        """Return what is new. Raises an error of ours if the source fails, or if there is none."""
        service = self._ladder.source
        if service is None:
            raise BrokerUnreachable(f"there is nothing to read from: {self._ladder.reasons()}")
        try:
            reading = self._read(service)
        except CoinPlatformError as error:
            self._ladder.note(service, elapsed(), wall(), str(error))
            raise
        if reading is None or self._ladder.source is not service:
            return []
        if self._last not in (None, service):
            logger.warning("the feed goes on from %s instead of %s", service, self._last)
            self.moves += 1
        self._last = service
        self._positions |= reading.positions
        if self._border is None:
            return reading.records
        if service is Service.LOCAL:
            return self._border.of_frames(reading.records)
        return self._border.of_log(reading.records)

    def close(self) -> None:
        """Close the sources."""
        for thread in self._threads.values():
            thread.shutdown(cancel_futures=True)
        for source in self._sources.values():
            source.close()

    def _read(self, service: Service) -> Reading | None:
        """Return what a source reads; `None` once the ladder has moved away from it."""
        earlier = self._hanging.get(service)
        if earlier is not None:
            if not self._is_done(earlier, service):
                return None
            del self._hanging[service]
        source, positions, is_first = self._sources[service], dict(self._positions), service is not self._last

        def read() -> Reading:
            if is_first:
                source.restart()
            return source.read(positions)

        future = self._threads[service].submit(read)
        if self._is_done(future, service):
            return future.result()
        self._hanging[service] = future
        return None

    def _is_done(self, future: Future[Reading], service: Service) -> bool:
        """Wait for a future. Return whether it is done before the ladder moves."""
        while not wait((future,), _LOOK_SECONDS).done:
            if self._ladder.source is not service:
                return False
        return True
