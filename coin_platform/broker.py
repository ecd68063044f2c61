"""Topics through one small contract: Kafka, the local journal, or an in-memory twin of it for tests."""

import threading
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from coin_platform.errors import RetentionLoss, SettingsError
from coin_platform.journal import Journal, flush_all
from coin_platform.journal_file import path_of
from coin_platform.journal_reader import JournalReader, Positions
from coin_platform.journal_writer import Writer
from coin_platform.model import Microseconds
from coin_platform.settings import PREFIX, Settings
from coin_platform.steady_clock import SteadyClock, elapsed, now
from coin_platform.wire import Record

Place: TypeAlias = tuple[str, int]  # a topic and its partition


class Broker(Protocol):
    """Topics of partitions of records. Offsets are 0, 1, 2 ..., times never go back, the oldest records may be trimmed.

    One process appends to a partition, any number reads it. A partition that nobody wrote yet is empty, not an error.
    A broker connected as a guest appends beside another process of this machine, and takes over when that one ends.
    """

    def claim(self, topic: str, partition: int) -> None:
        """Become the partition's writer, and return when all that it and earlier writers took is stored.

        The first `append` claims too, but does not wait. Raises `PartitionBusy` or another `DeliveryError`, and
        `BrokerUnreachable` while records are only on this disk, on their way to a broker that is away.
        """

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        """Take a record, without waiting for it to be stored. Raises `DeliveryError` if earlier ones could not be."""

    def waiting_bytes(self, topic: str, partition: int) -> int:
        """Return how many bytes that were appended to a partition are not written to this machine's disk yet."""

    def flush(self) -> None:
        """Return when all that was appended here is stored, or on this disk on its way to a broker that is away.

        Raises `DeliveryError` if it cannot be.
        """

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        """Yield the stored records of offsets `[start, stop)`, at most up to the end as it is now.

        Raises `RetentionLoss`, while iterating, when wanted offsets have been trimmed.
        """

    def prefetch(self, wanted: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        """Bring records of many partitions here at once, for the `read`s that follow: a question each takes long.

        `wanted` holds a range `[start, stop)` of stored records of each; returned are the stops, less where only the
        first records are here by now. Where there are many, `read` asks for them as ever. One thread may do this. It
        never raises: what fails is told by `read`.
        """

    def identity(self, topic: str, partition: int) -> str | None:
        """Return what names this log: another one of the same topic and partition, begun later, has another name.

        `None` when nobody knows: before the first record, or where a former version made the log.
        """

    def begin_offset(self, topic: str, partition: int) -> int:
        """Return the first kept offset; the end offset when nothing is kept."""

    def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset after the last stored record; 0 for a partition that nobody wrote yet."""

    def end_offsets(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return the end offsets of many partitions in one question."""

    def offset_for_time(self, topic: str, partition: int, time: Microseconds) -> int:
        """Return the first kept offset accepted at `time` or later; the end offset when there is none."""

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """Return the next offset a group wants; `None` if it never committed one."""

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Remember the next offset a group wants; it may go back."""

    def commit_all(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Remember the next offsets that a group wants of many partitions, in one question."""

    def own(self, outputs: Mapping[Place, Sequence[Place]], *, is_patient: bool = True) -> None:
        """Be the only process, of all machines, whose results of raw partitions are stored in these `outputs`.

        It is to be called every few seconds from before the first `claim` on, and costs little. Raises `PartitionBusy`
        where another process is that, or has become it, and `BrokerUnreachable` while it is waited for one that may
        have ended; who is not patient takes that one for alive.
        """

    def host(self, topic: str, partition: int) -> int | None:
        """Return the process beside which we append, until it ends; `None` where this partition's writer is us.

        Raises `PartitionBusy` or another `DeliveryError`.
        """

    def has_guest(self, topic: str, partition: int) -> bool:
        """Whether another process appends beside us, and takes over when we end."""

    def close(self) -> None:
        """Store what waits and let go of everything."""


class LocalBroker:
    """A folder of journals, `<folder>/<topic>/<partition>.db`, shared by any number of processes.

    A partition's first `append` makes this process its writer until `close`; who only reads never locks anything.
    The retention is the folder's: every partition gives up the same share of what is too much.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], Microseconds] = now,
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
        self._positions = Positions(folder / ".positions.db")  # no topic's folder begins with a dot
        self._journals: dict[tuple[str, int], Journal] = {}
        self._writer = Writer()
        self._readers: dict[tuple[str, int], JournalReader] = {}
        self._opening = threading.Lock()

    def claim(self, topic: str, partition: int) -> None:
        self._journal(topic, partition)

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        self._journal(topic, partition).append(header, value)

    def waiting_bytes(self, topic: str, partition: int) -> int:
        return self._journal(topic, partition).waiting_bytes

    def flush(self) -> None:
        flush_all(list(self._journals.values()))

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Give up the records before an offset, soon; this makes the process the partition's writer."""
        self._journal(topic, partition).trim(before)

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        return self._reader(topic, partition).read(start, stop)

    def prefetch(self, wanted: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        return {place: stop for place, (_, stop) in wanted.items()}

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
        pass  # the locks of the journals do it: whoever claims an output is its only writer

    def host(self, topic: str, partition: int) -> int | None:
        return self._journal(topic, partition).host()

    def has_guest(self, topic: str, partition: int) -> bool:
        return self._journal(topic, partition).has_guest

    def close(self) -> None:
        with ExitStack() as stack:  # closes all of them, even if one could not write
            for journal in self._journals.values():
                stack.callback(journal.close)

    def _journal(self, topic: str, partition: int) -> Journal:
        journal = self._journals.get((topic, partition))
        return journal or self._open(topic, partition)

    def _open(self, topic: str, partition: int) -> Journal:
        with self._opening:
            if (topic, partition) not in self._journals:
                path = self._path(topic, partition)
                self._journals[topic, partition] = Journal(
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
        """Return how many bytes one journal may keep so that all together keep to the folder's limit."""
        sizes = {file: file.stat().st_size for file in self.folder.glob("*/*.db")}
        return folder_bytes * sizes.get(path, 0) // max(1, sum(sizes.values()))

    def _reader(self, topic: str, partition: int) -> JournalReader:
        reader = self._readers.get((topic, partition))
        if reader is None:
            reader = self._readers[topic, partition] = JournalReader(
                self._path(topic, partition), _name(topic, partition)
            )
        return reader

    def _path(self, topic: str, partition: int) -> Path:
        return path_of(self.folder, topic, partition)


class _Log:
    """One partition of the in-memory twin."""

    def __init__(self) -> None:
        self.identity = uuid.uuid4().hex
        self.records: list[Record] = []
        self.end = 0
        self.last_time: Microseconds = 0

    @property
    def begin(self) -> int:
        return self.end - len(self.records)


class MemoryBroker:
    """The contract in memory, for tests: what is appended is stored at once and lives as long as this object."""

    def __init__(self, *, clock: Callable[[], Microseconds] = now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logs: defaultdict[tuple[str, int], _Log] = defaultdict(_Log)
        self._positions: dict[tuple[str, str, int], int] = {}

    def claim(self, topic: str, partition: int) -> None:
        pass

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        with self._lock:
            log = self._logs[topic, partition]
            log.last_time = max(log.last_time, self._clock())
            log.records.append(Record(log.end, log.last_time, header, value))
            log.end += 1

    def waiting_bytes(self, topic: str, partition: int) -> int:
        return 0

    def flush(self) -> None:
        pass

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Give up the records before an offset."""
        with self._lock:
            log = self._logs[topic, partition]
            del log.records[: max(0, before - log.begin)]

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        with self._lock:
            log = self._logs[topic, partition]
            if start < min(stop, log.begin):
                raise RetentionLoss(
                    f"{_name(topic, partition)}: offset {start} was trimmed, the first kept one is {log.begin}"
                )
            records = log.records[max(0, start - log.begin) : max(0, stop - log.begin)]
        yield from records

    def prefetch(self, wanted: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        return {place: stop for place, (_, stop) in wanted.items()}

    def identity(self, topic: str, partition: int) -> str | None:
        with self._lock:
            return self._logs[topic, partition].identity

    def begin_offset(self, topic: str, partition: int) -> int:
        with self._lock:
            return self._logs[topic, partition].begin

    def end_offset(self, topic: str, partition: int) -> int:
        with self._lock:
            return self._logs[topic, partition].end

    def end_offsets(self, places: Sequence[Place]) -> dict[Place, int]:
        return {place: self.end_offset(*place) for place in places}

    def offset_for_time(self, topic: str, partition: int, time: Microseconds) -> int:
        with self._lock:
            log = self._logs[topic, partition]
            return log.begin + bisect_left(log.records, time, key=lambda record: record.time)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        return self._positions.get((group, topic, partition))

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self._positions[group, topic, partition] = offset

    def commit_all(self, group: str, offsets: Mapping[Place, int]) -> None:
        for place, offset in offsets.items():
            self.commit(group, *place, offset)

    def own(self, outputs: Mapping[Place, Sequence[Place]], *, is_patient: bool = True) -> None:
        pass  # there is one process

    def host(self, topic: str, partition: int) -> int | None:
        return None

    def has_guest(self, topic: str, partition: int) -> bool:
        return False

    def close(self) -> None:
        pass


def connect(settings: Settings, *, guest: bool = False) -> Broker:
    """Return the broker of COIN_BROKER_URL; a `guest` takes over from the process that appends now.

    Raises `SettingsError` if there is no such broker.
    """
    scheme, _, address = settings.broker_url.partition(":")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise SettingsError(
            f"{PREFIX}BROKER_URL={settings.broker_url}: there is no broker {scheme!r}; write one of {known}"
        )
    return SCHEMES[scheme](settings, address, guest)


def _local(settings: Settings, address: str, guest: bool) -> Broker:
    if address:
        raise SettingsError(
            f"{PREFIX}BROKER_URL={settings.broker_url}: nothing follows `local:`; the folder is {PREFIX}JOURNAL_DIR"
        )
    return LocalBroker(
        settings.path(settings.journal_dir),
        retention_hours=settings.journal_hours,
        retention_bytes=settings.journal_bytes,
        guest=guest,
    )


def _kafka(settings: Settings, address: str, guest: bool) -> Broker:
    from coin_platform.kafka import connect  # its client takes 0.2 s to import, and only this needs it

    return connect(settings, guest=guest)


SCHEMES: dict[str, Callable[[Settings, str, bool], Broker]] = {"local": _local, "kafka": _kafka}
"""How to connect, by what COIN_BROKER_URL begins with; it is given settings, address and `guest`."""


def _name(topic: str, partition: int) -> str:
    return f"topic {topic} partition {partition}"
