"""A broker in memory that counts what it is asked, and whose faults a test sets."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from coin_platform.broker import MemoryBroker, Place
from coin_platform.clock import wall
from coin_platform.model import Microseconds
from coin_platform.records import Record


class FaultyBroker(MemoryBroker):
    """A broker in memory without faults, until a test sets some:

    1. `refuse` makes a method raise, for all arguments or for some.
    2. `is_behind`: `flush` says that records are not stored where they belong.
    3. `reads_nothing`: partitions grow, but reads give no record.
    4. `hold_back`: appended bytes of partitions wait for the disk until `dry` is called.
    5. `waiting`: what `waiting_bytes` returns of each partition, if given.
    6. `prefetch_records`: how many records of a partition a prefetch brings.
    7. `host_pid`: the process beside which this broker appends. `guest_is_here`: a process appends beside us.
    """

    def __init__(self, *, clock: Callable[[], Microseconds] = wall) -> None:
        super().__init__(clock=clock)
        self.calls: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)  # arguments, by method
        self.is_behind = self.reads_nothing = self.guest_is_here = False
        self.prefetch_records: int | None = None
        self.host_pid: int | None = None
        self.waiting: Callable[[], int] | None = None
        self.on_flush: Callable[[], object] = lambda: None
        self._refusals: dict[str, tuple[Exception, Callable[..., bool]]] = {}
        self._slow_places: Collection[Place] | None = ()  # None: all
        self._held_bytes: dict[Place, int] = {}

    def refuse(self, method: str, error: Exception, where: Callable[..., bool] = lambda *_: True) -> None:
        """Make a method raise an error, if `where` returns true for its arguments."""
        self._refusals[method] = (error, where)

    def allow(self, method: str) -> None:
        """End what `refuse` began."""
        self._refusals.pop(method, None)

    def hold_back(self, *places: Place) -> None:
        """Keep what is appended to these partitions, or to all if none is named, from the disk until `dry`."""
        self._slow_places = places or None

    def dry(self) -> None:
        """Bring all that waits to the disk."""
        self._held_bytes.clear()

    def claim(self, topic: str, partition: int) -> None:
        self._called("claim", topic, partition)
        super().claim(topic, partition)

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        self._called("append", topic, partition, header, value)
        super().append(topic, partition, header, value)
        place = (topic, partition)
        if self._slow_places is None or place in self._slow_places:
            self._held_bytes[place] = self._held_bytes.get(place, 0) + len(header) + len(value)

    def waiting_bytes(self, topic: str, partition: int) -> int:
        return self._held_bytes.get((topic, partition), 0) if self.waiting is None else self.waiting()

    def flush(self, places: Collection[Place] | None = None) -> bool:
        self._called("flush", places)
        self.on_flush()
        return not self.is_behind

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        self._called("read", topic, partition, start, stop)
        return iter(()) if self.reads_nothing else super().read(topic, partition, start, stop)

    def prefetch(self, ranges: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        self._called("prefetch", dict(ranges))
        most = self.prefetch_records
        return {place: stop if most is None else min(stop, start + most) for place, (start, stop) in ranges.items()}

    def end_offset(self, topic: str, partition: int) -> int:
        self._called("end_offset", topic, partition)
        return super().end_offset(topic, partition)

    def end_offsets(self, places: Sequence[Place]) -> dict[Place, int]:
        self._called("end_offsets", places)
        return super().end_offsets(places)

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self._called("commit", group, topic, partition, offset)
        super().commit(group, topic, partition, offset)

    def commit_all(self, group: str, offsets: Mapping[Place, int]) -> None:
        self._called("commit_all", group, dict(offsets))
        super().commit_all(group, offsets)

    def host(self, topic: str, partition: int) -> int | None:
        return self.host_pid

    def has_guest(self, topic: str, partition: int) -> bool:
        return self.guest_is_here

    def _called(self, method: str, *arguments: Any) -> None:
        self.calls[method].append(arguments)
        if method in self._refusals:
            error, is_refused = self._refusals[method]
            if is_refused(*arguments):
                raise error
