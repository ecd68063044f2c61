"""The newest record of each kind and pair."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator

from coin_platform.errors import CoinPlatformError
from coin_platform.serve.feed.records import GAP, FeedRecord

logger = logging.getLogger(__name__)

START_SECONDS = 120  # so far back a server that starts looks for newest records
LOOK_SECONDS = 0.1  # between two reads
AWAY_SECONDS = 2.0  # until the broker is asked again after it did not answer


class Latest:
    """Keeps the newest record of each exchange, type and pair, and the gaps that last. Any thread may read it."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str, str], FeedRecord] = {}

    def take(self, records: Iterable[FeedRecord]) -> None:
        """Take records in the order of their partition.

        A redriven one counts only where nothing newer is known, and so does one of a collector that was replaced.
        """
        for record in records:
            known = self._records.get(record.key)
            if record.missing:
                continue  # a hole is no state
            if record.is_over:
                self._records.pop(record.key, None)
            elif known is None or not (record.is_redriven or record.epoch < known.epoch):
                self._records[record.key] = record

    def all(self) -> list[FeedRecord]:
        """Return the newest records and the gaps that last, by exchange, pair and type."""
        records = self._records.copy().values()
        return sorted(records, key=lambda record: (record.exchange, record.pair or "", record.type, record.gap))

    def of(self, exchange: str) -> dict[str, dict[str, FeedRecord]]:
        """Return the newest records of an exchange: by pair, and by type."""
        pairs: dict[str, dict[str, FeedRecord]] = {}
        for record in self.all():
            if record.exchange == exchange and record.pair is not None and record.type != GAP:
                pairs.setdefault(record.pair, {})[record.type] = record
        return pairs


@contextlib.contextmanager
def following(latest: Latest, read: Callable[[], list[FeedRecord]]) -> Iterator[None]:
    """Keep `latest` new, in a thread. While the broker does not answer, the known records stay and grow old."""
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(latest, read, stop), name="latest")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow(latest: Latest, read: Callable[[], list[FeedRecord]], stop: threading.Event) -> None:
    is_away = False
    while not stop.is_set():
        try:
            latest.take(read())
            if is_away:
                logger.info("the newest records come again")
            is_away = False
        except CoinPlatformError as error:
            if not is_away:
                logger.warning("the newest records grow old: %s", error)
            is_away = True
        stop.wait(AWAY_SECONDS if is_away else LOOK_SECONDS)
