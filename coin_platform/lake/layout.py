"""Where a window lives in the lake: its key, and the window of a key.

`<table>/exchange=<x>/date=<YYYY-MM-DD>/hour=<HH>/part.parquet` holds one window. Windows shorter than an hour add
`minute=<MM>`. A table of all exchanges together has no level `exchange=`.
"""

import re
from collections.abc import Iterator
from datetime import datetime

from coin_platform.errors import LakeError
from coin_platform.lake.store import Store
from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.times import datetime_of, microseconds_of

MINUTE: Microseconds = 60 * SECOND
HOUR: Microseconds = 60 * MINUTE
_PATH = re.compile(r"(?:exchange=([^/]+)/)?date=([\d-]+)/hour=(\d\d)/(?:minute=(\d\d)/)?part\.parquet")


class Layout:
    """The keys of windows of one length (µs), and the windows that a store lists."""

    def __init__(self, store: Store, window: Microseconds) -> None:
        self.window = window
        self._store = store

    def key(self, table: str, exchange: str | None, window: Window) -> str:
        """Return where a window lives. Raises `LakeError` when it is not one of this lake's windows."""
        if window.start % self.window or window.stop - window.start != self.window:
            raise LakeError(
                f"{iso_text(window.start)} to {iso_text(window.stop)} is not a window of "
                f"{self.window // MINUTE} minutes: ask for a whole one, or set COIN_WINDOW"
            )
        return f"{_folder(table, exchange)}{self._path(window.start)}part.parquet"

    def window_of(self, path: str) -> tuple[Window | None, str | None]:
        """Return the window and the exchange of a key within its table's folder; no window for a foreign key."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None, None
        exchange, date, hour, minute = match.groups()
        try:
            begin = microseconds(datetime.fromisoformat(f"{date}T{hour}:{minute or '00'}:00+00:00"))
        except ValueError:
            return None, None
        return Window(begin, begin + self.window), exchange

    def windows(
        self, table: str, exchange: str | None, start: Microseconds | None = None, stop: Microseconds | None = None
    ) -> Iterator[tuple[Window, str]]:
        """Yield the committed windows that overlap `[start, stop)` and their keys, oldest first."""
        folder = _folder(table, exchange)
        after = "" if start is None else folder + self._path(start // self.window * self.window)
        for key in self._store.list(folder, after):
            window, _ = self.window_of(key.removeprefix(f"{table}/"))
            if window is None:
                continue
            if stop is not None and window.start >= stop:
                return
            yield window, key

    def exchanges(self, table: str) -> Iterator[str | None]:
        """Yield the exchanges that have windows. The store is asked for one key of each."""
        after = ""
        while key := next(self._store.list(f"{table}/", after), None):
            match = _PATH.fullmatch(key.removeprefix(f"{table}/"))
            if match:
                yield match[1]
            after = f"{_folder(table, match[1])}~" if match else key  # `~` sorts after every key of the folder

    def _path(self, start: Microseconds) -> str:
        path = f"{datetime_of(start):date=%Y-%m-%d/hour=%H/}"
        return path if self.window >= HOUR else f"{path}minute={start // MINUTE % 60:02}/"


def iso_text(time: Microseconds) -> str:
    """Return a time (UTC, µs) as ISO 8601, as footers write it."""
    return datetime_of(time).isoformat()


def microseconds(time: datetime) -> Microseconds:
    """Return a time as µs since 1970. Raises `LakeError` when it has no time zone."""
    if time.tzinfo is None:
        raise LakeError(f"{time} has no time zone: write datetime(…, tzinfo=UTC)")
    return microseconds_of(time)


def _folder(table: str, exchange: str | None) -> str:
    return f"{table}/" if exchange is None else f"{table}/exchange={exchange}/"
