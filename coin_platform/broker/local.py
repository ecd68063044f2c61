"""Topics in a folder of journals on this disk."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from coin_platform.broker.contract import Place, Unsent, place_name
from coin_platform.clock import elapsed, wall
from coin_platform.journal import JournalReader, JournalWriter, Positions, WriterThread, flush_all, path_of
from coin_platform.model import Microseconds
from coin_platform.records import Record
from coin_platform.steady_clock import SteadyClock


class LocalBroker:
    """A folder of journals, `<folder>/<topic>/<partition>.db`, shared by any number of processes.

    1. A partition's first `append` makes this process its writer until `close`. Reading locks nothing.
    2. The limit in bytes is one for the whole folder: each partition may keep a share, in proportion to its size.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], Microseconds] = wall,
        monotonic: Callable[[], float] = elapsed,
        retention_hours: float | None = None,
        retention_bytes: int | None = None,
        guest: bool = False,
    ) -> None:
        self.folder = folder
        self._is_guest = guest
        self._clock = SteadyClock(clock, monotonic)
        self._retention_hours = retention_hours
        self._retention_bytes = retention_bytes
        self._positions = Positions(folder / ".positions.db")  # the folder of a topic never begins with a dot
        self._journals: dict[Place, JournalWriter] = {}
        self._writer = WriterThread()
        self._readers: dict[Place, JournalReader] = {}
        self._opening = threading.Lock()

    def claim(self, topic: str, partition: int) -> None:
        self._journal(topic, partition)

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        self._journal(topic, partition).append(header, value)

    def waiting_bytes(self, topic: str, partition: int) -> int:
        return self._journal(topic, partition).waiting_bytes

    def unsent(self, topic: str, partition: int) -> Unsent:
        return Unsent()

    def flush(self, places: Collection[Place] | None = None) -> bool:
        journals = list(self._journals.items())  # a copy: other threads may claim meanwhile
        flush_all([journal for place, journal in journals if places is None or place in places])
        return True

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset, soon. This makes the process the partition's writer."""
        self._journal(topic, partition).trim(before)

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        return self._reader(topic, partition).read(start, stop)

    def prefetch(self, ranges: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        return {place: stop for place, (_, stop) in ranges.items()}

    def identity(self, topic: str, partition: int) -> str | None:
        return self._reader(topic, partition).identity()

    def begin_offset(self, topic: str, partition: int) -> int:
        return self._reader(topic, partition).begin_offset()

    def end_offset(self, topic: str, partition: int) -> int:
        return self._reader(topic, partition).end_offset()

    def end_offsets(self, places: Sequence[Place]) -> dict[Place, int]:
        return {place: self.end_offset(*place) for place in places}

    def offset_for_time(self, topic: str, partition: int, time: Microseconds) -> int:
        return self._reader(topic, partition).offset_for_time(time)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        return self._positions.committed(group, topic, partition)

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self._positions.commit(group, topic, partition, offset)

    def commit_all(self, group: str, offsets: Mapping[Place, int]) -> None:
        for place, offset in offsets.items():
            self.commit(group, *place, offset)

    def own(self, outputs: Mapping[Place, Sequence[Place]], *, is_patient: bool = True) -> None:
        pass  # the locks of the journals ensure it: the process that claims an output is its only writer

    def host(self, topic: str, partition: int) -> int | None:
        return self._journal(topic, partition).host()

    def has_guest(self, topic: str, partition: int) -> bool:
        return self._journal(topic, partition).has_guest

    def close(self) -> None:
        with ExitStack() as stack:  # closes all of them, even if one fails
            for journal in self._journals.values():
                stack.callback(journal.close)

    def _journal(self, topic: str, partition: int) -> JournalWriter:
        journal = self._journals.get((topic, partition))
        return journal or self._open(topic, partition)

    def _open(self, topic: str, partition: int) -> JournalWriter:
        with self._opening:
            if (topic, partition) not in self._journals:
                path = self._path(topic, partition)
                self._journals[topic, partition] = JournalWriter(
                    path,
                    writer=self._writer,
                    clock=self._clock,
                    retention_hours=self._retention_hours,
                    retention_bytes=partial(self._share, path, self._retention_bytes)
                    if self._retention_bytes
                    else None,
                    guest=self._is_guest,
                )
            return self._journals[topic, partition]

    def _share(self, path: Path, folder_bytes: int) -> int:
        """Return how many bytes one journal may keep, so that all together stay below the limit of the folder."""
        sizes = {file: file.stat().st_size for file in self.folder.glob("*/*.db")}
        return folder_bytes * sizes.get(path, 0) // max(1, sum(sizes.values()))

    def _reader(self, topic: str, partition: int) -> JournalReader:
        reader = self._readers.get((topic, partition))
        if reader is None:
            reader = self._readers[topic, partition] = JournalReader(
                self._path(topic, partition), place_name(topic, partition)
            )
        return reader

    def _path(self, topic: str, partition: int) -> Path:
        return path_of(self.folder, topic, partition)
