"""Wait until something is true, and show how far it is."""

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from coin_platform.broker import connect
from coin_platform.demo.processes import console
from coin_platform.errors import DemoError
from coin_platform.exchanges.base import Source
from coin_platform.lake import open_lake
from coin_platform.model import Region, Window
from coin_platform.orchestration.offsets import has_records
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import Settings

BEAT = 5.0  # seconds between two looks at the tables: to look takes time from those that fill them


class Watch:
    """Looks at the journal and the lake until something is true, and shows how far it is."""

    def __init__(
        self, settings: Settings, home: Path, deadline: float, processes: tuple["subprocess.Popen[bytes]", ...]
    ) -> None:
        self._settings, self._home, self._deadline = settings, home, deadline
        self._simulator, self._dagster = processes
        self._lake, self._broker = open_lake(settings), connect(settings)
        self._missing: dict[Source, set[Window]] = {}
        self._wanted = 0  # windows, of all sources
        self._sources = [source for kind in exchanges_of(None, settings) for source in sources(kind, settings)]
        self.regions = [region for region in Region if exchanges_of(region, settings)]

    def until(self, what: str, is_done: Callable[[], bool], beat: float = 0.5) -> None:
        """Wait until `is_done()`, asked every `beat` seconds. Raises `DemoError` when time is over or Dagster ended."""
        console.print(f"waiting for: {what}")
        shown = 0.0
        while not is_done():
            if time.monotonic() > self._deadline:
                raise DemoError(f"{what}: not within the time; the logs are in {self._home / 'data' / 'logs'}")
            if self._dagster.poll() is not None:
                raise DemoError(f"dagster dev ended by itself; its log is {self._home / 'data/logs/dagster.log'}")
            if time.monotonic() - shown >= BEAT:
                shown = time.monotonic()
                windows = f", {self._wanted - self._open()} of {self._wanted} windows done" if self._wanted else ""
                console.print(f"  {datetime.now(UTC):%H:%M:%S}  {self._frames()} records{windows}")
            time.sleep(beat)

    def regions_with_frames(self) -> int:
        """Return how many regions have stored something from each of their exchanges and channels."""
        return sum(
            all(
                self._end(source.topic, source.partition)
                for source in self._sources
                if source.exchange.region is region
            )
            for region in self.regions
        )

    def fix_end(self) -> None:
        """Want no windows later than now: collectors go on logging that they are there."""
        length = self._settings.window_length
        first, last = int(self._settings.start.timestamp() * 1e6), self._last_time() // length * length
        found = [Window(start, start + length) for start in range(first, last + length, length)]
        for source in self._sources:
            self._missing[source] = {window for window in found if has_records(self._broker, source, window)}
        self._wanted = self._open()

    def is_complete(self) -> bool:
        """Whether every window that holds records of a source, up to the last one, is in that source's tables."""
        for name in {source.exchange.name for source, windows in self._missing.items() if windows}:
            stored = set(self._lake.windows("dead", name)).intersection(self._lake.windows("gap", name))
            for source, windows in self._missing.items():
                if windows and source.exchange.name == name:
                    windows -= stored.intersection(self._lake.windows(source.channel.value, name))
        return not self._open()

    def _open(self) -> int:
        return sum(map(len, self._missing.values()))

    def _last_time(self) -> int:
        newest = 0
        for source in self._sources:
            end = self._end(source.topic, source.partition)
            for record in self._broker.read(source.topic, source.partition, max(0, end - 1), end):
                newest = max(newest, record.time)
        return newest

    def _frames(self) -> int:
        return sum(self._end(source.topic, source.partition) for source in self._sources)

    def _end(self, topic: str, partition: int) -> int:
        return self._broker.end_offset(topic, partition)
