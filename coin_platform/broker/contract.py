"""Topics through one small contract: Kafka, the local journal, or an in-memory twin of it for tests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from coin_platform.model import Microseconds
from coin_platform.records import Record

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


"""How to connect, by what COIN_BROKER_URL begins with; it is given settings, address and `guest`."""
