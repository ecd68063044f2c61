"""The records of one partition that wait on disk for Kafka, and the list of those that were given up."""

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from coin_platform.broker.contract import Place, Unsent
from coin_platform.clock import steady, wall
from coin_platform.errors import DecodeError, DeliveryError
from coin_platform.journal import JournalReader, JournalWriter, WriterThread, path_of
from coin_platform.model import Microseconds
from coin_platform.records import Record, unpack
from coin_platform.steady_clock import SteadyClock

logger = logging.getLogger(__name__)

SPOOL_BYTES = 2 << 30  # that may wait in all spools of a folder; the default of COIN_SPOOL_BYTES
CHUNK_RECORDS = 2_000  # of one partition in one round
_CHUNK_BYTES = 1 << 20
_OVERHEAD_BYTES = 64  # of a record besides header and value


def bytes_of(record: Record) -> int:
    """Return about how many bytes a record takes on its way."""
    return len(record.header) + len(record.value) + _OVERHEAD_BYTES


class Loss(NamedTuple):
    """Records that were given up before Kafka took them. The times (µs) are those of the first and the last record."""

    topic: str
    partition: int
    cause: str  # `overflow` of COIN_SPOOL_BYTES, `disk_full`, or `too_large` for Kafka
    records: int
    from_time: Microseconds
    to_time: Microseconds


def losses(folder: Path) -> Iterator[Loss]:
    """Yield all losses that were recorded in a folder of spools. A line cut off by a crash is left out."""
    for path in sorted(folder.glob("*/*.lost")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError, TypeError):
                    yield Loss(**json.loads(line))


def waiting(folder: Path) -> dict[Place, int]:
    """Return how many records wait in each spool of a folder, also in those of other processes."""
    paths = [path for path in folder.glob("*/*.db") if path.stem.isdecimal()]  # other files are not ours
    bounds = {path: JournalReader(path).bounds() for path in paths}
    return {(unquote(path.parent.name), int(path.stem)): held.end - held.begin for path, held in bounds.items()}


class Spool:
    """The records of one partition that wait: a journal whose first record is the first that Kafka has not taken.

    The records of a guest are sent by the process beside which it appends, until that process has ended.
    """

    def __init__(
        self,
        folder: Path,
        topic: str,
        partition: int,
        on_commit: Callable[[], None],
        *,
        writer: WriterThread | None = None,
        clock: SteadyClock | None = None,
        guest: bool = False,
    ) -> None:
        """Open the journal; `on_commit` is called after each commit. Raises `PartitionBusy` as `JournalWriter` does."""
        self.topic, self.partition = topic, partition
        self.path = path_of(folder, topic, partition)
        self.reader = JournalReader(self.path)
        self._on_commit = on_commit
        self.next = self.end = 0  # offsets in the journal: of the first unacknowledged, and after the last
        self._dropped: deque[Loss] = deque()  # losses that are not recorded on the disk yet
        self.journal = JournalWriter(
            self.path,
            clock=clock or steady(),
            writer=writer,
            on_append=self._appended,
            on_drop=self._drop,
            guest=guest,
        )
        self._is_ours = self.journal.host() is None
        bounds = self.reader.bounds()
        self.next = self._trimmed = bounds.begin
        self.end = max(self.end, bounds.end)
        self._stride = CHUNK_RECORDS
        self.tries = 0
        self.retry_time = 0.0  # on the monotonic clock, as the next two
        self.failing_since: float | None = None
        self.turn = 0.0  # of its last round
        self.is_accused = False  # its next record may be too large for Kafka
        self.is_full = False  # whether its disk is full
        self.size_bytes = 0  # on the disk of the records that wait, as of the shipper's last look
        self._given_up = 0  # records

    @property
    def name(self) -> str:
        """How log lines name this partition."""
        return f"{self.topic}[{self.partition}]"

    @property
    def is_ours(self) -> bool:
        """Whether this process sends these records. If another one did until now, we go on from what it left."""
        if not self._is_ours and self.journal.host() is None:
            bounds = self.reader.bounds()
            self.next, self.end = bounds.begin, max(self.end, bounds.end)
            self._trimmed, self._is_ours = self.next, True
        return self._is_ours

    @property
    def is_left_to_another(self) -> bool:
        """Whether another process sends these records, as far as our shipper's thread knows."""
        return not self._is_ours

    @property
    def waiting(self) -> int:
        """How many records Kafka has not taken."""
        return self.end - self.next

    @property
    def unsent(self) -> Unsent:
        """What waits here now."""
        return Unsent(self.waiting, self.size_bytes if self.waiting else 0, self._given_up)

    def chunk(self, most: int) -> list[Record]:
        """Return the next records to send: at most `most` bytes together, or a single record of any size."""
        records: list[Record] = []
        size = 0
        stride = 1 if self.is_accused else self._stride
        for record in self.reader.read(self.next, min(self.end, self.next + stride)):
            size += bytes_of(record)
            if records and size > min(most, _CHUNK_BYTES):
                self._stride = len(records) + 1  # large records: do not read so many again that are not sent
                return records
            records.append(record)
        self._stride = min(CHUNK_RECORDS, 2 * self._stride)
        return records

    def close(self) -> None:
        """End the writer, and record the records that a full disk did not take as lost."""
        try:
            self.journal.close()
        finally:
            deque(self.dropped(), maxlen=0)

    def trim(self) -> None:
        """Delete the records that Kafka has taken."""
        if self.next > self._trimmed:
            with suppress(DeliveryError):  # the writer has failed: the next append raises the error
                self.journal.trim(self.next)
            self._trimmed = self.next

    def unsent_bytes(self) -> int:
        """Return about how much disk space the waiting records take."""
        begin = self.reader.begin_offset()
        return self.reader.size() * self.waiting // max(1, self.end - begin)

    def give_up(self, records: Sequence[Record], cause: str) -> Loss:
        """Give up the next records to send. The loss is recorded on the disk before they go."""
        loss = Loss(self.topic, self.partition, cause, len(records), records[0].time, records[-1].time)
        self._record(loss)
        self.next += len(records)
        return loss

    def dropped(self) -> Iterator[Loss]:
        """Yield each loss that a full disk caused, once it is recorded. Raises `OSError` while it cannot be."""
        while self._dropped:
            self._record(self._dropped[0])
            yield self._dropped.popleft()

    def _record(self, loss: Loss) -> None:
        with self.path.with_suffix(".lost").open("a", encoding="utf-8") as file:
            file.write(json.dumps(loss._asdict()) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._given_up += loss.records
        logger.error("%s: %d records given up, %s: no reader will ever get them", self.name, loss.records, loss.cause)

    def _appended(self, end: int) -> None:
        self.end = end
        self._on_commit()

    def _drop(self, records: list[tuple[str, bytes]]) -> None:
        first, last = (_received(header) for header, _ in (records[0], records[-1]))
        self._dropped.append(Loss(self.topic, self.partition, "disk_full", len(records), first, last))


def _received(header: str) -> Microseconds:
    try:
        return unpack(header).received_time
    except DecodeError:  # the header of no frame: take the moment at which the record was given up
        return wall()
