"""What every broker can do: topics of partitions of records, in Kafka, in local journals, or in memory."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from coin_platform.model import Microseconds
from coin_platform.records import Record

Place: TypeAlias = tuple[str, int]  # a topic and its partition


class Unsent(NamedTuple):
    """What a partition's records on this disk still have to go through. All 0 where this disk is the log itself."""

    records: int = 0  # that wait for Kafka
    bytes: int = 0  # on this disk that they take, about, as of the last second
    given_up_records: int = 0  # by this process, before Kafka took them


class Broker(Protocol):
    """Topics of partitions of records. The same rules hold in every broker:

    1. Offsets are 0, 1, 2 .... Times never go back. The oldest records may be trimmed.
    2. One process appends to a partition, and any number of processes read it.
    3. A partition without records is empty. To ask for it is not an error.
    4. A broker connected as a guest appends beside another process of this machine, and takes over when that one ends.
    """

    def claim(self, topic: str, partition: int) -> None:
        """Become the partition's writer, as the first `append` does. `flush` tells whether earlier records are stored.

        Raises `PartitionBusy` or another `DeliveryError`.
        """

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        """Take a record, without waiting for it to be stored. Raises `DeliveryError` if earlier ones could not be."""

    def waiting_bytes(self, topic: str, partition: int) -> int:
        """Return how many appended bytes of a partition are not written to this machine's disk yet."""

    def unsent(self, topic: str, partition: int) -> Unsent:
        """Return what still has to be sent from this machine's disk. It does not block."""

    def flush(self, places: Collection[Place] | None = None) -> bool:
        """Bring the records of claimed partitions to the disk, and return whether all are stored where they belong.

        `False`: some are only on this disk, on their way to a broker that does not take them now. Records that an
        earlier writer of a claimed partition left behind count, too. `places` are the partitions to flush, by default
        all that this process has claimed. Raises `DeliveryError` if records cannot be brought to the disk.
        """

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        """Yield the stored records of offsets `[start, stop)`, at most up to the end as it is now.

        Raises `RetentionLoss`, while iterating, if offsets of the range have been trimmed.
        """

    def prefetch(self, ranges: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        """Fetch records of many partitions in one request, for the `read`s that follow.

        `ranges` holds offsets `[start, stop)` of stored records. Returned is the stop for the next `read` of each
        partition: less than asked for where only the first records have come. Partitions with many records are left to
        their own `read`. Only one thread may call this. It raises nothing: an error is met again by `read`.
        """

    def identity(self, topic: str, partition: int) -> str | None:
        """Return the id of this log. A log of the same topic and partition that was begun later has another id.

        `None` if the id is not known: before the first record, or where a former version made the log.
        """

    def begin_offset(self, topic: str, partition: int) -> int:
        """Return the first kept offset; the end offset when nothing is kept."""

    def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset after the last stored record; 0 for a partition without records."""

    def end_offsets(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return the end offsets of many partitions, in one request."""

    def offset_for_time(self, topic: str, partition: int, time: Microseconds) -> int:
        """Return the first kept offset accepted at `time` or later; the end offset when there is none."""

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """Return the next offset that a group will read; `None` if it never committed one."""

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Store the next offset that a group will read. The offset may be lower than the last one."""

    def commit_all(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Store the next offsets that a group will read of many partitions, in one request."""

    def own(self, outputs: Mapping[Place, Sequence[Place]], *, is_patient: bool = True) -> None:
        """Become, or remain, the only process on any machine whose results of raw partitions are stored.

        `outputs` names the partitions of results for each raw partition. The caller repeats this every few seconds,
        from before its first `claim` on; most calls cost nothing.

        Raises `PartitionBusy` if another process is the owner, or has become it. Raises `BrokerUnreachable` while it is
        not known whether the former owner has ended; if not `is_patient`, that one counts as alive.
        """

    def host(self, topic: str, partition: int) -> int | None:
        """Return the id of the process beside which we append until it ends; `None` if we are the writer ourselves.

        Raises `PartitionBusy` or another `DeliveryError`.
        """

    def has_guest(self, topic: str, partition: int) -> bool:
        """Whether another process appends beside us, and takes over when we end."""

    def close(self) -> None:
        """Store the records that wait, and free the claimed partitions."""


def place_name(topic: str, partition: int) -> str:
    """Return how an error text names a partition."""
    return f"topic {topic} partition {partition}"
