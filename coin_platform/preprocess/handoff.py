"""Pass rows from a partition to the lander of the same process, so that frames are decoded once."""

import threading
from typing import NamedTuple

from coin_platform.tables.rows import Row

MOST_ROWS = 4_000  # that wait for the lander, which bounds memory


class HandedRows(NamedTuple):
    """The rows of the records from offset `start` to before `stop`."""

    start: int
    stop: int
    rows: list[Row]


class Handoff:
    """Holds the newest rows of one raw partition without a hole. One thread gives rows, and one takes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = HandedRows(0, 0, [])

    def give(self, handed: HandedRows) -> None:
        """Add rows. The waiting rows are dropped if these do not follow them, or if they are too many."""
        with self._lock:
            start, stop, rows = self._waiting
            if handed.start != stop or len(rows) + len(handed.rows) > MOST_ROWS:
                start, rows = handed.start, []
            self._waiting = HandedRows(start, handed.stop, rows + handed.rows)

    def take(self, position: int, least: int = 0) -> HandedRows | None:
        """Return the rows from offset `position` on; `None` if they are not here, or fewer than `least`."""
        with self._lock:
            start, stop, rows = self._waiting
            if not start <= position < stop or len(rows) < least:
                return None
            self._waiting = HandedRows(stop, stop, [])
        return HandedRows(position, stop, [row for row in rows if row.offset >= position])
