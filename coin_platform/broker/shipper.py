"""Sends the records that wait on disk to Kafka, in order. Records are deleted only after Kafka has taken them."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, TypeAlias

from coin_platform.broker.contract import Place
from coin_platform.broker.spool import CHUNK_RECORDS, SPOOL_BYTES, Loss, Spool, bytes_of
from coin_platform.clock import steady
from coin_platform.errors import DeliveryError, RetentionLoss
from coin_platform.journal import WriterThread, flush_all
from coin_platform.journal.failures import explain
from coin_platform.records import Record

logger = logging.getLogger(__name__)

IN_FLIGHT_BYTES = 64 << 20  # that may be on their way to Kafka at once
_LINGER_SECONDS = 0.03  # that a round waits for more records, at least
_LINGER_MAX_SECONDS = 0.15
_LINGER_ROUNDS = 4.0  # times the length of the last round: a busy machine gets fewer and larger batches
_TICK_SECONDS = 0.5  # between two looks at the limits, and at records that may be trimmed
_SLICE_SECONDS = 0.25  # after which a wait for Kafka looks whether it should end
_RETRY_SECONDS = 0.1  # before the second try; each further pause is twice as long
_RETRY_MAX_SECONDS = 1.0
_ODD_RETRY_MAX_SECONDS = 30.0  # for a partition that fails while Kafka takes others
_SLOW_SECONDS = 3.0  # without an answer after which the log says so
_GIVE_UP_SECONDS = 12.0  # without an answer after which a producer is discarded; its requests end after 10 s
_ROUND_MAX_SECONDS = 5.0  # that a round should take: the next one is made smaller if it took longer
_ROUND_SHORT_SECONDS = 1.0  # below which the next round may be twice as large
_ROUND_MIN_BYTES = 64 << 10  # of a round, however narrow the line


class SendAnswer(Protocol):
    """Whether Kafka has taken a record, or why not."""

    is_done: bool
    exception: Exception | None


class Producer(Protocol):
    """A connection to Kafka. All its records are also on disk, so the shipper discards it after any trouble."""

    def send(self, topic: str, partition: int, record: Record) -> SendAnswer:
        """Take a record. It is sent by the next `wait`, so that the records of a partition are one batch."""

    def wait(self, seconds: float) -> None:
        """Send the records that were handed over, and wait for the answers, at most this long."""

    def is_too_large(self, error: Exception) -> bool:
        """Whether an error means that Kafka will never take a record of this size."""

    def discard(self) -> None:
        """Close the connection at once, also while answers are due."""


_Sent: TypeAlias = tuple[Spool, list[Record], list[SendAnswer]]


class Shipper:
    """The spools of a process, each a journal in `folder`, and the thread that sends their records to Kafka.

    1. Order. A round hands at most one batch of each partition to the producer, and waits for all answers. So no later
       batch is under way when one fails and is sent again.
    2. Trouble. After a failure of any kind the producer is discarded, and the next round makes another one.
    3. Repetition. After a crash the last records may arrive twice.
    """

    def __init__(
        self,
        folder: Path,
        connect: Callable[[], Producer],
        *,
        limit_bytes: int = SPOOL_BYTES,
        in_flight: int = IN_FLIGHT_BYTES,
        on_loss: Callable[[Loss], None] | None = None,
        guest: bool = False,
        may_send: Callable[[str, int], bool] = lambda topic, partition: True,
    ) -> None:
        """Start without a connection; the first round calls `connect`.

        1. At most `in_flight` bytes are on their way at once, or a single record of any size.
        2. Beyond `limit_bytes` the oldest waiting records are given up. `on_loss` is then called, on the shipper's
           thread.
        3. The records of a partition are sent only while `may_send` is true for its topic and number.
        """
        self._folder, self._connect, self._limit, self._in_flight = folder, connect, limit_bytes, in_flight
        self._on_loss = on_loss or (lambda _: None)
        self._is_guest, self._may_send = guest, may_send
        self._writer, self._clock = WriterThread(), steady()  # of all spools
        self._changed = threading.Condition()  # for everything below
        self._spools: dict[Place, Spool] = {}
        self._hurried = 0  # number of callers that wait in `flush`
        self._is_idle = False  # the thread waits for something to send
        self._closing = False
        self._thread: threading.Thread | None = None
        self._opening = threading.Lock()
        # The rest belongs to the thread.
        self._producer: Producer | None = None
        self._room = in_flight  # bytes of a round that the line carries in time
        self._succeeded_time = 0.0
        self._tick_time = 0.0
        self._linger = _LINGER_SECONDS

    @property
    def waiting(self) -> int:
        """How many records Kafka has not taken yet."""
        with self._changed:
            return sum(spool.waiting for spool in self._spools.values())

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        """Take a record, without waiting for anything. Raises `DeliveryError` if earlier ones could not be stored."""
        self.spool(topic, partition).journal.append(header, value)

    def spool(self, topic: str, partition: int) -> Spool:
        """Return a partition's spool. Raises `PartitionBusy` or another `DeliveryError`."""
        return self._spools.get((topic, partition)) or self._open(topic, partition)

    def forget(self, topic: str, partition: int) -> None:
        """Delete the records that wait for a partition; none may be under way. Raises as `spool` does."""
        spool = self.spool(topic, partition)
        if spool.waiting:
            logger.warning(
                "%s: %d waiting records are deleted: another process has made them anew", spool.name, spool.waiting
            )
        with self._changed:
            spool.next = spool.end
        spool.trim()

    def flush(self, patience: float, places: Collection[Place] | None = None) -> bool:
        """Bring what waits in spools to the disk; return whether Kafka has taken all of it within `patience` seconds.

        `places` are the partitions whose spools are flushed, by default all. What another process sends for us is not
        waited for, and returns False: Kafka takes it in the order of the disk. Raises `DeliveryError` if records cannot
        be brought to the disk.
        """
        spools = [spool for place, spool in self._spools.items() if places is None or place in places]
        flush_all([spool.journal for spool in spools])
        ours = {spool: spool.end for spool in spools if not spool.is_left_to_another}
        is_sent = self._sent(ours, patience)
        if not is_sent:
            logger.warning("%d records wait on disk: kafka has not taken them within %g s", self.waiting, patience)
        return is_sent and len(ours) == len(spools)

    def close(self, patience: float) -> None:
        """Flush and end. Records that Kafka has not taken are sent by the next writer of their partition."""
        if self._closing:
            return
        with ExitStack() as stack:  # closes everything, whatever fails
            for spool in self._spools.values():
                stack.callback(spool.close)
            stack.callback(self._end)
            self.flush(patience)

    def _end(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _sent(self, ends: dict[Spool, int], patience: float) -> bool:
        """Wait until Kafka has taken the records before an offset of each spool; return whether it has."""
        if all(spool.next >= end for spool, end in ends.items()):
            return True  # the usual case: the thread need not be woken
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: all(spool.next >= end for spool, end in ends.items()), patience)
            finally:
                self._hurried -= 1

    def _open(self, topic: str, partition: int) -> Spool:
        with self._opening:
            if self._closing:
                raise DeliveryError(f"{topic}[{partition}]: the broker is closed: connect again to append")
            if (topic, partition) not in self._spools:
                spool = Spool(
                    self._folder,
                    topic,
                    partition,
                    self._wake,
                    writer=self._writer,
                    clock=self._clock,
                    guest=self._is_guest,
                )
                with self._changed:
                    # A new dictionary, because other threads iterate over the former one.
                    self._spools = self._spools | {(topic, partition): spool}
                    self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"shipper {self._folder}", daemon=True)
                self._thread.start()
            return self._spools[topic, partition]

    def _wake(self) -> None:
        if self._is_idle:  # otherwise it looks again by itself: waking it at each commit would cost more than sending
            with self._changed:
                self._changed.notify_all()

    # The methods below run on the shipper's thread.

    def _run(self) -> None:
        while not self._closing:
            try:
                due = self._wait()
                if due:
                    started = time.monotonic()
                    self._round(due)
                    self._linger = min(
                        max(_LINGER_SECONDS, _LINGER_ROUNDS * (time.monotonic() - started)), _LINGER_MAX_SECONDS
                    )
                self._tick()
            except Exception:  # a bug, or a full disk: to try again loses nothing
                logger.exception("the records that wait for kafka cannot be sent")
                self._discard()
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, _RETRY_MAX_SECONDS)
        self._discard()
        for spool in self._ours():
            spool.trim()

    def _wait(self) -> list[Spool]:
        """Wait until spools have records to send, at most for a tick; return these spools."""
        with self._changed:
            self._is_idle = True  # set before the look, or a commit in between would not wake it
            self._changed.wait_for(lambda: self._closing or self._due(), self._patience())
            self._is_idle = False
            self._changed.wait_for(lambda: self._closing or self._hurried or self._is_behind(), self._linger)
            return [] if self._closing else self._due()

    def _due(self) -> list[Spool]:
        moment = time.monotonic()
        waiting = [spool for spool in self._ours() if spool.waiting and moment >= spool.retry_time]
        due = [spool for spool in waiting if self._may_send(spool.topic, spool.partition)]
        accused = [spool for spool in due if spool.is_accused]
        return accused[:1] or due  # a record that may be too large is sent alone

    def _ours(self) -> list[Spool]:
        return [spool for spool in self._spools.values() if spool.is_ours]

    def _is_behind(self) -> bool:
        return any(spool.waiting >= CHUNK_RECORDS for spool in self._due())

    def _patience(self) -> float:
        moment = time.monotonic()
        retries = [spool.retry_time - moment for spool in self._ours() if spool.waiting]
        return min([_TICK_SECONDS, *(retry for retry in retries if retry > 0)])

    def _round(self, spools: Sequence[Spool]) -> None:
        """Send the next records of each spool, as far as they fit into the round, and note the answers."""
        try:
            self._producer = producer = self._producer or self._connect()
        except Exception as error:  # whatever it is, the records wait until it is over
            self._note(dict.fromkeys(spools, error))
            return
        sent: list[_Sent] = []
        outcome: dict[Spool, Exception | None] = {}
        size = 0
        for spool in sorted(spools, key=lambda spool: spool.turn):
            try:
                records = spool.chunk(self._room)
            except (DeliveryError, RetentionLoss) as error:  # of this spool alone: the others go on
                outcome[spool] = error
                continue
            more = sum(map(bytes_of, records))
            if sent and size + more > self._room:
                break
            size += more
            spool.turn = time.monotonic()
            sent.append((spool, records, list(_hand_over(producer, spool, records))))
        self._fit(self._await_answers(producer, sent), size)
        outcome |= {spool: self._settle(spool, answers) for spool, _, answers in sent}
        self._look_for_too_large(producer, sent, outcome)
        if not self._closing:  # otherwise answers may still be due, which is no failure
            self._note(outcome)

    def _await_answers(self, producer: Producer, sent: Sequence[_Sent]) -> float:
        """Wait for the answers until a producer counts as dead; return how many seconds that took."""
        started = time.monotonic()
        due = {spool: answers for spool, _, answers in sent}
        while due and not self._closing and time.monotonic() - started < _GIVE_UP_SECONDS:
            producer.wait(_SLICE_SECONDS)
            due = {spool: answers for spool, answers in due.items() if not all(answer.is_done for answer in answers)}
            if time.monotonic() - started > _SLOW_SECONDS:
                self._fail(dict.fromkeys(due, TimeoutError(f"no answer for {_SLOW_SECONDS:g} s")))
        return time.monotonic() - started

    def _fit(self, seconds: float, size: int) -> None:
        """Make the next round as large as the line carries. A round longer than a request would be sent for ever."""
        if seconds < _ROUND_SHORT_SECONDS:
            self._room = min(self._in_flight, 2 * self._room)
        elif seconds <= _ROUND_MAX_SECONDS:  # as large as fits; grows where only the answers are late
            self._room = max(_ROUND_MIN_BYTES, min(self._in_flight, int(size * _ROUND_MAX_SECONDS / seconds)))
        else:
            self._room = max(_ROUND_MIN_BYTES, min(size, self._room) // 4)

    def _settle(self, spool: Spool, answers: Sequence[SendAnswer]) -> Exception | None:
        """Move a spool on to the first record that was not taken; return that failure."""
        for answer in answers:
            error = answer.exception if answer.is_done else TimeoutError("no answer")
            if error is not None:
                return error
            spool.next += 1
        return None

    def _look_for_too_large(
        self, producer: Producer, sent: Sequence[_Sent], outcome: Mapping[Spool, Exception | None]
    ) -> None:
        """Give up a record that Kafka will never take.

        One such record makes a producer refuse all its records with the same error. So a record counts as too large
        only if it was sent alone.
        """
        accused = [spool for spool, error in outcome.items() if error is not None and producer.is_too_large(error)]
        if accused and sum(len(records) for _, records, _ in sent) == 1:
            self._on_loss(accused[0].give_up(sent[0][1], "too_large"))
            accused[0].is_accused = False
        else:
            for spool in accused:
                spool.is_accused = True

    def _note(self, outcome: dict[Spool, Exception | None]) -> None:
        """Note which spools fail and when they try again, and log changes."""
        moment = time.monotonic()
        errors = {spool: error for spool, error in outcome.items() if error is not None}
        healed = [spool for spool in outcome if spool not in errors and spool.failing_since is not None]
        if errors:
            self._discard()
            self._fail(errors)
        if len(errors) < len(outcome):
            self._succeeded_time = moment
        if healed:
            seconds = max(moment - (spool.failing_since or moment) for spool in healed)
            logger.warning("kafka takes %s again, after %.1f s; %d records wait", _names(healed), seconds, self.waiting)
        for spool in outcome:
            if spool in errors:
                # Kafka has taken records of others since this one fails: the others must not wait for it.
                is_odd = self._succeeded_time > (spool.failing_since or moment)
                longest = _ODD_RETRY_MAX_SECONDS if is_odd else _RETRY_MAX_SECONDS
                spool.tries += 1
                spool.retry_time = moment + min(longest, _RETRY_SECONDS * 2 ** min(spool.tries, 20))
            else:
                spool.failing_since, spool.tries, spool.is_accused = None, 0, False
        with self._changed:
            self._changed.notify_all()

    def _fail(self, errors: dict[Spool, Exception]) -> None:
        """Log which spools begin to fail."""
        new = [spool for spool in errors if spool.failing_since is None]
        for spool in new:
            spool.failing_since = time.monotonic()
        if new:
            error = errors[new[0]]
            logger.warning("kafka does not take %s: %s: %s", _names(new), type(error).__name__, error)

    def _tick(self) -> None:
        moment = time.monotonic()
        if moment - self._tick_time < _TICK_SECONDS:
            return
        self._tick_time = moment
        for spool in self._ours():
            spool.trim()
        for spool in self._spools.values():
            for loss in spool.dropped():
                self._on_loss(loss)
        sizes = {spool: spool.unsent_bytes() for spool in self._ours() if spool.waiting}
        for spool, size_bytes in sizes.items():
            spool.size_bytes = size_bytes
        largest = max(sizes, key=lambda spool: sizes[spool], default=None)
        is_full = self._look_for_full_disks()
        excess = sum(sizes.values()) - self._limit
        if largest is not None and excess > 0:
            self._relieve(largest, excess + self._limit // 20, "overflow")
        elif largest is not None and is_full:
            self._relieve(largest, min(self._limit, sizes[largest]) // 8, "disk_full")

    def _look_for_full_disks(self) -> bool:
        """Return whether the disk of a spool is full, and log changes."""
        errors = {spool: spool.journal.needs_room for spool in self._spools.values()}
        for spool, error in errors.items():
            if error is not None and not spool.is_full:
                logger.error("%s: %s", spool.name, explain(spool.path, error))
            spool.is_full = error is not None
        return any(errors.values())

    def _relieve(self, spool: Spool, size_bytes: int, cause: str) -> None:
        """Give up the oldest records of a spool, until they have `size_bytes`."""
        records: list[Record] = []
        size = 0
        for record in spool.reader.read(spool.next, spool.end):
            if records and size >= size_bytes:
                break
            size += bytes_of(record)
            records.append(record._replace(value=b""))
        self._on_loss(spool.give_up(records, cause))
        spool.trim()

    def _discard(self) -> None:
        if self._producer is not None:
            self._producer.discard()
            self._producer = None


def _hand_over(producer: Producer, spool: Spool, records: Sequence[Record]) -> Iterator[SendAnswer]:
    """Yield the answers that are due for records. No record is handed over after one that failed at once."""
    for record in records:
        answer = producer.send(spool.topic, spool.partition, record)
        yield answer
        if answer.is_done and answer.exception is not None:
            return


def _names(spools: Sequence[Spool]) -> str:
    return ", ".join(spool.name for spool in spools[:3]) + (f" and {len(spools) - 3} more" if len(spools) > 3 else "")
