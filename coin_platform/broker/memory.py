"""Topics in memory, for tests."""

import threading
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from coin_platform.broker.contract import Place, Unsent, place_name
from coin_platform.clock import wall
from coin_platform.errors import RetentionLoss
from coin_platform.model import Microseconds
from coin_platform.records import Record


class _MemoryPartition:
    """The records of one partition."""

    def __init__(self) -> None:
        self.identity = uuid.uuid4().hex
        self.records: list[Record] = []
        self.end = 0
        self.last_time: Microseconds = 0

    @property
    def begin(self) -> int:
        return self.end - len(self.records)


class MemoryBroker:
    """Topics in memory. An appended record is stored at once, and lives as long as this object."""

    def __init__(self, *, clock: Callable[[], Microseconds] = wall) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logs: defaultdict[Place, _MemoryPartition] = defaultdict(_MemoryPartition)
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

    def unsent(self, topic: str, partition: int) -> Unsent:
        return Unsent()

    def flush(self, places: Collection[Place] | None = None) -> bool:
        return True

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset."""
        with self._lock:
            log = self._logs[topic, partition]
            del log.records[: max(0, before - log.begin)]

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        with self._lock:
            log = self._logs[topic, partition]
            if start < min(stop, log.begin):
                raise RetentionLoss(
                    f"{place_name(topic, partition)}: offset {start} was trimmed, the first kept one is {log.begin}"
                )
            records = log.records[max(0, start - log.begin) : max(0, stop - log.begin)]
        yield from records

    def prefetch(self, ranges: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        return {place: stop for place, (_, stop) in ranges.items()}

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
