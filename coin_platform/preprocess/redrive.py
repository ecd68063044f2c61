"""Try dead letters again with the code of today. Any process may ask for it; the owner of the partition does it.

1. A position of the group `Redrive` says before which offset letters are to be tried.
2. A position of the group `Redriven` says before which offset they were tried. So no letter is tried twice.
3. A position of the group `Redriving` says where a try began. A try that a crash cut off is repeated without the
   results that it wrote already.
"""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from coin_platform.broker import Broker
from coin_platform.clock import wall
from coin_platform.errors import BrokerUnreachable, PartitionBusy
from coin_platform.exchanges.base import Source
from coin_platform.model import Microseconds
from coin_platform.tables import dead_letters, processed
from coin_platform.tables.dead_letters import LetterReader
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import dead_letter_topic, processed_topic

logger = logging.getLogger(__name__)

REQUESTED = "Redrive"  # group: letters before its position are to be tried again
TRIED = "Redriven"  # group: letters before its position have been tried again
BEGUN = "Redriving"  # group: 1 more than the processed topic's end when the try under way began; 0: none is
PATIENCE_SECONDS = 30.0  # that a running worker has for a request
_LOOK_SECONDS = 0.2  # between two looks whether the worker is done


class Redriven(NamedTuple):
    """How many dead letters passed, and how many failed again."""

    passed: int
    failed: int


def request(source: Source, broker: Broker) -> Redriven:
    """Have all dead letters of a raw partition tried again, by this process or by the worker that runs.

    Raises `PartitionBusy` when another process holds the partition and does not do it in time.
    """
    topic, partition = dead_letter_topic(source.topic), source.partition
    start, stop = tried(source, broker), broker.end_offset(topic, partition)
    broker.commit(REQUESTED, topic, partition, stop)
    try:
        return redrive(source, broker)
    except PartitionBusy:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while tried(source, broker) < stop:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)
        again = _letters(broker, topic, partition, stop, broker.end_offset(topic, partition))
        failed = sum(letter.attempts > 1 for letter in again)
        return Redriven(stop - start - failed, failed)


def tried(source: Source, broker: Broker) -> int:
    """Return the offset before which all letters were tried again or are gone. Later letters are still dead."""
    topic, partition = dead_letter_topic(source.topic), source.partition
    return max(broker.committed(TRIED, topic, partition) or 0, broker.begin_offset(topic, partition))


def redrive(source: Source, broker: Broker, clock: Callable[[], Microseconds] = wall) -> Redriven:
    """Try the letters that were asked for. Rows become processed records; a frame that fails becomes a new letter.

    Raises `PartitionBusy` when another process writes the partition.
    """
    topic, partition = dead_letter_topic(source.topic), source.partition
    stop = broker.committed(REQUESTED, topic, partition) or 0
    start = tried(source, broker) if stop else 0
    if start >= stop:  # no process has asked since
        return Redriven(0, 0)
    out = processed_topic(source.exchange.region, source.channel)
    own = {(source.topic, partition): source.outputs}
    broker.own(own, is_patient=False)
    for output in source.outputs:
        broker.claim(*output)
    if not broker.flush(source.outputs):
        raise BrokerUnreachable(f"{topic}[{partition}]: results of an earlier process still wait for kafka")
    rows, letters = _written(broker, out, topic, partition, stop)
    seen: set[int] = set()
    passed = failed = 0
    requested = _letters(broker, topic, partition, start, stop)
    for letter in requested:
        if letter.offset in seen:  # a try that was cut off wrote this letter
            continue
        seen.add(letter.offset)
        transform = Transform(source)  # a new one: the book of today does not matter to an old frame
        entries, values = dead_letters.encoded(transform, letter.record, is_redriven=True)
        for entry, value in zip(entries, values, strict=False):  # all values are encoded, or none
            if (letter.offset, entry.row.index) not in rows:
                broker.append(out, partition, letter.header, value)
        if transform.dead and letter.offset not in letters:
            again = dead_letters.letter(source, transform.dead[0], clock(), letter.attempts + 1)
            broker.append(topic, partition, letter.header, again.pack())
        failed += bool(transform.dead)
        passed += not transform.dead
    failed += len(requested.foreign)
    if requested.remark:
        logger.error("%s", requested.remark)
    broker.own(own, is_patient=False)  # after a long try the ownership is checked before anything is sent
    broker.flush(source.outputs)
    broker.commit(TRIED, topic, partition, stop)
    broker.commit(BEGUN, out, partition, 0)
    logger.info("%s[%d]: %d dead letters pass now, %d do not", topic, partition, passed, failed)
    return Redriven(passed, failed)


def _written(broker: Broker, out: str, topic: str, partition: int, stop: int) -> tuple[set[tuple[int, int]], set[int]]:
    """Return the results of earlier tries: the places of rows, and the raw offsets of letters.

    These are the rows of a try that was cut off. Where no try is known, because the positions were lost, the whole
    topic is read, since all letters are tried then.
    """
    begun = broker.committed(BEGUN, out, partition)
    if not begun:
        begun = 1 if begun is None else broker.end_offset(out, partition) + 1
        broker.commit(BEGUN, out, partition, begun)
    first = max(begun - 1, broker.begin_offset(out, partition))
    origins = map(processed.origin, broker.read(out, partition, first, broker.end_offset(out, partition)))
    rows = {(origin.offset, origin.index) for origin in origins if origin is not None and origin.redriven}
    later = _letters(broker, topic, partition, stop, broker.end_offset(topic, partition))
    return rows, {letter.offset for letter in later if letter.attempts > 1}


def _letters(broker: Broker, topic: str, partition: int, start: int, stop: int) -> LetterReader:
    return LetterReader(broker.read(topic, partition, start, stop), f"{topic}[{partition}]")
