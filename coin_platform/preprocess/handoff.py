"""Rows on their way from the lane that made them to the lander of the same process, which need not make them again."""

import threading
from typing import NamedTuple

from coin_platform.tables.rows import Row

MOST = 4_000  # rows that wait: bounds memory while nobody takes them


class Given(NamedTuple):
    """The rows of the records from offset `start` to before `stop`."""

    start: int
    stop: int
    rows: list[Row]


class Handoff:
    """The newest rows of one raw partition, without a hole; one thread gives, one takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = Given(0, 0, [])

    def give(self, given: Given) -> None:
        """Take over rows; what waits is forgotten when these do not follow it, or when it is too much."""
        with self._lock:
            start, stop, rows = self._held
            if given.start != stop or len(rows) + len(given.rows) > MOST:
                start, rows = given.start, []
            self._held = Given(start, given.stop, rows + given.rows)

    def take(self, position: int, least: int = 0) -> Given | None:
        """Return the rows from offset `position` on; `None` if they are not here, or not as many as `least`."""
        with self._lock:
            start, stop, rows = self._held
            if not start <= position < stop or len(rows) < least:
                return None
            self._held = Given(stop, stop, [])
        return Given(position, stop, [row for row in rows if row.offset >= position])
