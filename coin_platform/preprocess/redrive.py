"""Dead letters once more through the code of now: asked for by anyone, done by whoever writes the partition.

How far letters were asked for and how far they were tried are positions of two groups, so no letter is tried twice;
a third says where a try that was cut off by a crash began, so that what it wrote is left out of the next one.
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

WANTED = "Redrive"  # group: letters before its position are to be tried again
TRIED = "Redriven"  # group: letters before its position have been
BEGUN = "Redriving"  # group: 1 more than the processed topic's end when the try under way began; 0: none is
PATIENCE = 30.0  # seconds that a running worker has for it
_BEAT = 0.2


class Redriven(NamedTuple):
    """What became of dead letters that were tried again."""

    passed: int
    failed: int


def request(source: Source, broker: Broker) -> Redriven:
    """Have all dead letters of a raw partition tried again, here or by the worker that runs.

    Raises `PartitionBusy` when someone holds the partition and does not do it.
    """
    topic, partition = dead_letter_topic(source.topic), source.partition
    start, stop = tried(source, broker), broker.end_offset(topic, partition)
    broker.commit(WANTED, topic, partition, stop)
    try:
        return redrive(source, broker)
    except PartitionBusy:
        deadline = time.monotonic() + PATIENCE
        while tried(source, broker) < stop:
            if time.monotonic() > deadline:
                raise
            time.sleep(_BEAT)
        again = _letters(broker, topic, partition, stop, broker.end_offset(topic, partition))
        failed = sum(letter.attempts > 1 for letter in again)
        return Redriven(stop - start - failed, failed)


def tried(source: Source, broker: Broker) -> int:
    """Return the offset before which all letters were tried again, or are gone: those from there on are still dead."""
    topic, partition = dead_letter_topic(source.topic), source.partition
    return max(broker.committed(TRIED, topic, partition) or 0, broker.begin_offset(topic, partition))


def redrive(source: Source, broker: Broker, clock: Callable[[], Microseconds] = wall) -> Redriven:
    """Try the letters that were asked for: rows become processed records, what is still dead a letter once more.

    Raises `PartitionBusy` when another process writes the partition.
    """
    topic, partition = dead_letter_topic(source.topic), source.partition
    stop = broker.committed(WANTED, topic, partition) or 0
    start = tried(source, broker) if stop else 0
    if start >= stop:  # nobody has asked since
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
    wanted = _letters(broker, topic, partition, start, stop)
    for letter in wanted:
        if letter.offset in seen:  # written again by a try that was cut off
            continue
        seen.add(letter.offset)
        transform = Transform(source)  # alone: what became of the book since does not matter to it
        entries, values = dead_letters.encoded(transform, letter.record, is_redriven=True)
        for entry, value in zip(entries, values, strict=False):  # none are encoded, or all
            if (letter.offset, entry.row.index) not in rows:
                broker.append(out, partition, letter.header, value)
        if transform.dead and letter.offset not in letters:
            again = dead_letters.letter(source, transform.dead[0], clock(), letter.attempts + 1)
            broker.append(topic, partition, letter.header, again.pack())
        failed += bool(transform.dead)
        passed += not transform.dead
    failed += len(wanted.foreign)
    if wanted.remark:
        logger.error("%s", wanted.remark)
    broker.own(own, is_patient=False)  # what took long is sent only then
    broker.flush(source.outputs)
    broker.commit(TRIED, topic, partition, stop)
    broker.commit(BEGUN, out, partition, 0)
    logger.info("%s[%d]: %d dead letters pass now, %d do not", topic, partition, passed, failed)
    return Redriven(passed, failed)


def _written(broker: Broker, out: str, topic: str, partition: int, stop: int) -> tuple[set[tuple[int, int]], set[int]]:
    """Return what earlier tries have written already: the places of rows, the raw offsets of letters.

    Those are the rows of a try that was cut off. Where no try is known, as when the positions were lost, the whole
    topic is looked at, since all letters are tried then.
    """
    begun = broker.committed(BEGUN, out, partition)
    if not begun:
        begun = 1 if begun is None else broker.end_offset(out, partition) + 1
        broker.commit(BEGUN, out, partition, begun)
    first = max(begun - 1, broker.begin_offset(out, partition))
    origins = map(processed.origin, broker.read(out, partition, first, broker.end_offset(out, partition)))
    rows = {(origin.offset, origin.index) for origin in origins if origin is not None and origin.redriven}
    found = _letters(broker, topic, partition, stop, broker.end_offset(topic, partition))
    return rows, {letter.offset for letter in found if letter.attempts > 1}


def _letters(broker: Broker, topic: str, partition: int, start: int, stop: int) -> LetterReader:
    return LetterReader(broker.read(topic, partition, start, stop), f"{topic}[{partition}]")
