"""Sends what waits on disk to Kafka, in order, through any outage: nothing is forgotten before Kafka has taken it."""

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
from coin_platform.journal.file import explain
from coin_platform.records import Record

logger = logging.getLogger(__name__)

IN_FLIGHT = 64 << 20  # bytes that may be on their way at once
_LINGER, _LONGEST = 0.03, 0.15  # seconds in which more may come before a round begins, at least and at most
_SHARE = 4.0  # times what the last round took: the busier the machine, the fewer and larger the batches
_TICK = 0.5  # seconds between two looks at what may be trimmed, and at the limit
_SLICE = 0.25  # seconds after which one who waits for Kafka looks whether it should end
_SOON, _OFTEN, _SELDOM = 0.1, 1.0, 30.0  # seconds before the next try: the first, the most, the most of an odd one
_SLOW = 3.0  # seconds without an answer after which the log is told
_ANSWER = 12.0  # seconds after which a producer that has not answered is given up; its requests end after 10
_LONG, _SHORT = 5.0, 1.0  # seconds that a round may take, and below which the next one may be larger
_LEAST = 64 << 10  # bytes of a round, however narrow the line


class Answer(Protocol):
    """What became of a record that was sent."""

    is_done: bool
    exception: Exception | None


class Producer(Protocol):
    """A connection to Kafka. It holds nothing that is not on disk, so it is thrown away whenever in doubt."""

    def send(self, topic: str, partition: int, record: Record) -> Answer:
        """Hand over a record; it is not sent before `wait`, so that those of a partition are one batch."""

    def wait(self, seconds: float) -> None:
        """Send what was handed over and wait for the answers, but no longer than this."""

    def is_too_large(self, error: Exception) -> bool:
        """Whether this says that Kafka takes no record of such a size, today or later."""

    def discard(self) -> None:
        """End at once, also while answers are due."""


_Sent: TypeAlias = tuple[Spool, list[Record], list[Answer]]


class Shipper:
    """The spools of a process, each a journal in `folder`, and the thread that empties them into Kafka.

    A round hands at most one batch of each partition to the producer and waits for all answers. So a batch that fails
    has no successor under way that could arrive before it is sent again: order holds whatever happens, and after
    trouble of any kind the cure is the same, another producer. After a crash the last records may arrive twice.
    """

    def __init__(
        self,
        folder: Path,
        connect: Callable[[], Producer],
        *,
        limit_bytes: int = SPOOL_BYTES,
        in_flight: int = IN_FLIGHT,
        on_loss: Callable[[Loss], None] | None = None,
        guest: bool = False,
        may_send: Callable[[str, int], bool] = lambda topic, partition: True,
    ) -> None:
        """Have `in_flight` bytes on their way at most, or a single record of any size.

        Beyond `limit_bytes` the oldest that wait are given up; `on_loss` is then told, on the shipper's thread.
        What waits for a topic and partition is only sent while `may_send` says so.
        """
        self._folder, self._connect, self._limit, self._in_flight = folder, connect, limit_bytes, in_flight
        self._on_loss = on_loss or (lambda _: None)
        self._is_guest, self._may_send = guest, may_send
        self._writer, self._clock = WriterThread(), steady()  # of all spools
        self._changed = threading.Condition()  # guards all that follows
        self._spools: dict[Place, Spool] = {}
        self._hurried = 0  # how many wait in `flush`
        self._is_idle = False  # the thread waits for something to send
        self._closing = False
        self._thread: threading.Thread | None = None
        self._opening = threading.Lock()
        # what follows belongs to the thread
        self._producer: Producer | None = None
        self._room = in_flight  # bytes of a round: what the line carries in time
        self._succeeded_time = 0.0
        self._tick_time = 0.0
        self._linger = _LINGER

    @property
    def waiting(self) -> int:
        """How many records Kafka has not taken."""
        with self._changed:
            return sum(spool.waiting for spool in self._spools.values())

    def append(self, topic: str, partition: int, header: str, value: bytes) -> None:
        """Take a record, without waiting for anything. Raises `DeliveryError` if earlier ones could not be stored."""
        self.spool(topic, partition).journal.append(header, value)

    def spool(self, topic: str, partition: int) -> Spool:
        """Return a partition's spool. Raises `PartitionBusy` or another `DeliveryError`."""
        return self._spools.get((topic, partition)) or self._open(topic, partition)

    def forget(self, topic: str, partition: int) -> None:
        """Drop what waits for a topic and partition, nothing of which may be under way. Raises what `spool` does."""
        spool = self.spool(topic, partition)
        if spool.waiting:
            logger.warning("%s: %d records that wait are dropped: they were made anew", spool.name, spool.waiting)
        with self._changed:
            spool.next = spool.end
        spool.trim()

    def flush(self, patience: float, places: Collection[Place] | None = None) -> bool:
        """Bring what waits in spools to the disk; return whether Kafka has taken all of it within `patience` seconds.

        `places` are the partitions whose spools are flushed, by default all. Raises `DeliveryError` if records cannot
        be brought to the disk.
        """
        spools = [spool for place, spool in self._spools.items() if places is None or place in places]
        flush_all([spool.journal for spool in spools])
        is_sent = self._sent({spool: spool.end for spool in spools}, patience)
        if not is_sent:
            logger.warning("%d records wait on disk: kafka has not taken them within %g s", self.waiting, patience)
        return is_sent

    def close(self, patience: float) -> None:
        """Flush and end; what Kafka has not taken is sent by the next writer of its partition."""
        if self._closing:
            return
        with ExitStack() as stack:  # whatever fails, all of it is closed
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

    def _sent(self, wanted: dict[Spool, int], patience: float) -> bool:
        """Wait until Kafka has taken what lies before an offset of each spool; return whether it has."""
        if all(spool.next >= end for spool, end in wanted.items()):
            return True  # as mostly: nobody needs to be woken
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: all(spool.next >= end for spool, end in wanted.items()), patience)
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
                    self._spools = self._spools | {(topic, partition): spool}  # others iterate over the former one
                    self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"shipper {self._folder}", daemon=True)
                self._thread.start()
            return self._spools[topic, partition]

    def _wake(self) -> None:
        if self._is_idle:  # else it looks again by itself: to be woken by each commit takes more than to send
            with self._changed:
                self._changed.notify_all()

    # What follows runs on the shipper's thread.

    def _run(self) -> None:
        while not self._closing:
            try:
                due = self._wait()
                if due:
                    started = time.monotonic()
                    self._round(due)
                    self._linger = min(max(_LINGER, _SHARE * (time.monotonic() - started)), _LONGEST)
                self._tick()
            except Exception:  # a fault of ours, or a full disk: nothing is lost by trying again
                logger.exception("the records that wait for kafka cannot be sent")
                self._discard()
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, _OFTEN)
        self._discard()
        for spool in self._ours():
            spool.trim()

    def _wait(self) -> list[Spool]:
        """Return the spools that have something to send and may try, once there are some or a tick has passed."""
        with self._changed:
            self._is_idle = True  # before it looks, or what comes meanwhile might be overlooked
            self._changed.wait_for(lambda: self._closing or self._due(), self._patience())
            self._is_idle = False
            self._changed.wait_for(lambda: self._closing or self._hurried or self._is_behind(), self._linger)
            return [] if self._closing else self._due()

    def _due(self) -> list[Spool]:
        moment = time.monotonic()
        waiting = [spool for spool in self._ours() if spool.waiting and moment >= spool.retry_time]
        due = [spool for spool in waiting if self._may_send(spool.topic, spool.partition)]
        accused = [spool for spool in due if spool.is_accused]
        return accused[:1] or due  # an accused one goes alone

    def _ours(self) -> list[Spool]:
        return [spool for spool in self._spools.values() if spool.is_ours]

    def _is_behind(self) -> bool:
        return any(spool.waiting >= CHUNK_RECORDS for spool in self._due())

    def _patience(self) -> float:
        moment = time.monotonic()
        retries = [spool.retry_time - moment for spool in self._ours() if spool.waiting]
        return min([_TICK, *(retry for retry in retries if retry > 0)])

    def _round(self, spools: Sequence[Spool]) -> None:
        """Send a chunk of each spool, as many as may be on their way at once, and note what became of it."""
        try:
            self._producer = producer = self._producer or self._connect()
        except Exception as error:  # whatever it is, the records wait until it has gone
            self._note(dict.fromkeys(spools, error))
            return
        sent: list[_Sent] = []
        outcome: dict[Spool, Exception | None] = {}
        size = 0
        for spool in sorted(spools, key=lambda spool: spool.turn):
            try:
                records = spool.chunk(self._room)
            except (DeliveryError, RetentionLoss) as error:  # its file: the others are none the worse
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
        if not self._closing:  # then answers may be due still: no reason for alarm
            self._note(outcome)

    def _await_answers(self, producer: Producer, sent: Sequence[_Sent]) -> float:
        """Wait for the answers, as long as is sensible, and return how long that was."""
        started = time.monotonic()
        due = {spool: answers for spool, _, answers in sent}
        while due and not self._closing and time.monotonic() - started < _ANSWER:
            producer.wait(_SLICE)
            due = {spool: answers for spool, answers in due.items() if not all(answer.is_done for answer in answers)}
            if time.monotonic() - started > _SLOW:
                self._fail(dict.fromkeys(due, TimeoutError(f"no answer for {_SLOW:g} s")))
        return time.monotonic() - started

    def _fit(self, seconds: float, size: int) -> None:
        """Make the next round as large as the line allows: one that outlasts a request would be sent for ever."""
        if seconds < _SHORT:
            self._room = min(self._in_flight, 2 * self._room)
        elif seconds <= _LONG:  # what just fits bounds the next one, but where only the answers are late, it grows
            self._room = max(_LEAST, min(self._in_flight, int(size * _LONG / seconds)))
        else:
            self._room = max(_LEAST, min(size, self._room) // 4)

    def _settle(self, spool: Spool, answers: Sequence[Answer]) -> Exception | None:
        """Move a spool on by what was taken, up to the first failure; return that."""
        for answer in answers:
            error = answer.exception if answer.is_done else TimeoutError("no answer")
            if error is not None:
                return error
            spool.next += 1
        return None

    def _look_for_too_large(
        self, producer: Producer, sent: Sequence[_Sent], outcome: Mapping[Spool, Exception | None]
    ) -> None:
        """Give up a record that Kafka never takes.

        One such makes a producer refuse all it holds with the same error, so only one sent all alone is guilty.
        """
        accused = [spool for spool, error in outcome.items() if error is not None and producer.is_too_large(error)]
        if accused and sum(len(records) for _, records, _ in sent) == 1:
            self._on_loss(accused[0].give_up(sent[0][1], "too_large"))
            accused[0].is_accused = False
        else:
            for spool in accused:
                spool.is_accused = True

    def _note(self, outcome: dict[Spool, Exception | None]) -> None:
        """Keep who fails and until when it waits, and tell the log about changes."""
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
                is_odd = self._succeeded_time > (spool.failing_since or moment)  # others are taken: do not hold them up
                spool.tries += 1
                spool.retry_time = moment + min(_SELDOM if is_odd else _OFTEN, _SOON * 2 ** min(spool.tries, 20))
            else:
                spool.failing_since, spool.tries, spool.is_accused = None, 0, False
        with self._changed:
            self._changed.notify_all()

    def _fail(self, errors: dict[Spool, Exception]) -> None:
        """Tell the log which spools begin to fail."""
        new = [spool for spool in errors if spool.failing_since is None]
        for spool in new:
            spool.failing_since = time.monotonic()
        if new:
            error = errors[new[0]]
            logger.warning("kafka does not take %s: %s: %s", _names(new), type(error).__name__, error)

    def _tick(self) -> None:
        moment = time.monotonic()
        if moment - self._tick_time < _TICK:
            return
        self._tick_time = moment
        for spool in self._ours():
            spool.trim()
        for spool in self._spools.values():
            for loss in spool.dropped():
                self._on_loss(loss)
        sizes = {spool: spool.unsent_bytes() for spool in self._ours() if spool.waiting}
        largest = max(sizes, key=lambda spool: sizes[spool], default=None)
        is_full = self._look_for_full_disks()
        excess = sum(sizes.values()) - self._limit
        if largest is not None and excess > 0:
            self._relieve(largest, excess + self._limit // 20, "overflow")
        elif largest is not None and is_full:
            self._relieve(largest, min(self._limit, sizes[largest]) // 8, "disk_full")

    def _look_for_full_disks(self) -> bool:
        """Return whether one has no room, and tell the log about changes."""
        found = {spool: spool.journal.needs_room for spool in self._spools.values()}
        for spool, error in found.items():
            if error is not None and not spool.is_full:
                logger.error("%s: %s", spool.name, explain(spool.path, error))
            spool.is_full = error is not None
        return any(found.values())

    def _relieve(self, spool: Spool, most: int, cause: str) -> None:
        """Give up the oldest records of a spool, as many as take `most` bytes."""
        records: list[Record] = []
        size = 0
        for record in spool.reader.read(spool.next, spool.end):
            if records and size >= most:
                break
            size += bytes_of(record)
            records.append(record._replace(value=b""))
        self._on_loss(spool.give_up(records, cause))
        spool.trim()

    def _discard(self) -> None:
        if self._producer is not None:
            self._producer.discard()
            self._producer = None


def _hand_over(producer: Producer, spool: Spool, records: Sequence[Record]) -> Iterator[Answer]:
    """Yield the answers due for some records; a record that fails at once has no successor."""
    for record in records:
        answer = producer.send(spool.topic, spool.partition, record)
        yield answer
        if answer.is_done and answer.exception is not None:
            return


def _names(spools: Sequence[Spool]) -> str:
    return ", ".join(spool.name for spool in spools[:3]) + (f" and {len(spools) - 3} more" if len(spools) > 3 else "")
