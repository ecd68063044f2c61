"""Dead letters once more through the code of now: asked for by anyone, done by whoever writes the partition.

How far letters were asked for and how far they were tried are positions of two groups, so no letter is tried twice.
"""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from coin_platform.broker import Broker
from coin_platform.errors import PartitionBusy
from coin_platform.journal import now
from coin_platform.model import Microseconds
from coin_platform.preprocess import dead_letters, processed
from coin_platform.preprocess.transform import Source, Transform
from coin_platform.wire import dead_letter_topic, processed_topic

logger = logging.getLogger(__name__)

WANTED = "Redrive"  # group: letters before its position are to be tried again
TRIED = "Redriven"  # group: letters before its position have been
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
    start, stop = broker.committed(TRIED, topic, partition) or 0, broker.end_offset(topic, partition)
    start = max(start, broker.begin_offset(topic, partition))
    broker.commit(WANTED, topic, partition, stop)
    try:
        return redrive(source, broker)
    except PartitionBusy:
        deadline = time.monotonic() + PATIENCE
        while (broker.committed(TRIED, topic, partition) or 0) < stop:
            if time.monotonic() > deadline:
                raise
            time.sleep(_BEAT)
        failed = broker.end_offset(topic, partition) - stop
        return Redriven(stop - start - failed, failed)


def redrive(source: Source, broker: Broker, clock: Callable[[], Microseconds] = now) -> Redriven:
    """Try the letters that were asked for: rows become processed records, what is still dead a letter once more."""
    topic, partition = dead_letter_topic(source.topic), source.partition
    stop = broker.committed(WANTED, topic, partition) or 0
    if not stop:  # nobody has ever asked
        return Redriven(0, 0)
    start = max(broker.committed(TRIED, topic, partition) or 0, broker.begin_offset(topic, partition))
    passed = failed = 0
    for record in broker.read(topic, partition, start, stop) if start < stop else ():
        letter = dead_letters.unpack(record.value)
        transform = Transform(source)  # alone: what became of the book since does not matter to it
        for entry in transform.entries(letter.record):
            value = processed.encode(source.exchange, source.channel, entry, is_redriven=True)
            broker.append(processed_topic(source.exchange.region, source.channel), partition, letter.header, value)
        for dead in transform.dead:
            again = dead_letters.letter(source, dead, clock(), letter.attempts + 1)
            broker.append(topic, partition, letter.header, again.pack())
        failed += bool(transform.dead)
        passed += not transform.dead
    if start < stop:
        broker.flush()
        broker.commit(TRIED, topic, partition, stop)
        logger.info("%s[%d]: %d dead letters pass now, %d do not", topic, partition, passed, failed)
    return Redriven(passed, failed)
