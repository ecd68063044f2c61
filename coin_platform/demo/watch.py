"""Wait until the demo has reached a point, and print its progress."""

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from coin_platform.broker import connect
from coin_platform.demo.console import console
from coin_platform.errors import DemoError
from coin_platform.exchanges.base import Source
from coin_platform.lake import open_lake
from coin_platform.model import Window
from coin_platform.orchestration.offsets import has_records
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import Settings
from coin_platform.times import microseconds_of

LOOK_SECONDS = 0.5  # between two looks at the journal or at the clock
TABLE_LOOK_SECONDS = 5.0  # between two looks at the tables: each look takes time from the processes that fill them
PROGRESS_SECONDS = 5.0  # between two lines of progress


class Watch:
    """Looks at the journal and the lake of a demo until something is true, and prints the progress."""

    def __init__(
        self, settings: Settings, home: Path, deadline: float, processes: tuple["subprocess.Popen[bytes]", ...]
    ) -> None:
        """Watch a demo until `deadline`, in seconds of the monotonic clock."""
        self._settings, self._logs, self._deadline = settings, home / "data" / "logs", deadline
        self._simulator, self._dagster = processes
        self._lake, self._broker = open_lake(settings), connect(settings)
        self._open_windows: dict[Source, set[Window]] = {}
        self._window_count = 0  # of all sources
        self._sources = [source for exchange in exchanges_of(None, settings) for source in sources(exchange, settings)]

    def until(self, goal: str, is_reached: Callable[[], bool], look_seconds: float = LOOK_SECONDS) -> None:
        """Wait until `is_reached()`. Raises `DemoError` if time is over or Dagster has ended."""
        console.print(f"waiting for {goal}")
        printed = 0.0
        while not is_reached():
            if time.monotonic() > self._deadline:
                raise DemoError(f"the demo did not reach {goal} in time; see the logs in {self._logs}")
            if self._dagster.poll() is not None:
                raise DemoError(f"dagster dev ended by itself; see {self._logs / 'dagster.log'}")
            if time.monotonic() - printed >= PROGRESS_SECONDS:
                printed = time.monotonic()
                done = self._window_count - self._open_count()
                windows = f", {done} of {self._window_count} windows done" if self._window_count else ""
                console.print(f"  {datetime.now(UTC):%H:%M:%S}  {self._record_count()} records{windows}")
            time.sleep(look_seconds)

    def has_frames(self) -> bool:
        """Return whether every channel of every exchange has stored a record."""
        return all(self._end_offset(source) for source in self._sources)

    def fix_windows(self) -> None:
        """Take the windows that hold records now as those to wait for. Collectors go on to log facts after that."""
        length = self._settings.window_length
        first, last = microseconds_of(self._settings.start), self._last_time() // length * length
        windows = [Window(start, start + length) for start in range(first, last + length, length)]
        for source in self._sources:
            self._open_windows[source] = {window for window in windows if has_records(self._broker, source, window)}
        self._window_count = self._open_count()

    def is_complete(self) -> bool:
        """Return whether all windows to wait for are in the tables of their sources."""
        for name in {source.exchange.name for source, windows in self._open_windows.items() if windows}:
            stored = set(self._lake.windows("dead", name)).intersection(self._lake.windows("gap", name))
            for source, windows in self._open_windows.items():
                if windows and source.exchange.name == name:
                    windows -= stored.intersection(self._lake.windows(source.channel.value, name))
        return not self._open_count()

    def _open_count(self) -> int:
        return sum(map(len, self._open_windows.values()))

    def _last_time(self) -> int:
        """Return the log time of the newest record, in µs."""
        newest = 0
        for source in self._sources:
            end = self._end_offset(source)
            for record in self._broker.read(source.topic, source.partition, max(0, end - 1), end):
                newest = max(newest, record.time)
        return newest

    def _record_count(self) -> int:
        return sum(self._end_offset(source) for source in self._sources)

    def _end_offset(self, source: Source) -> int:
        return self._broker.end_offset(source.topic, source.partition)
