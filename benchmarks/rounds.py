"""P21: a worker's round on Kafka, a few records of each partition: brought at once, against a read for each."""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.compare import Outcome, same
from coin_platform.broker.kafka import KafkaBroker
from infra.stack import Kafka, StackError
from tests.kit.topics import PARTITIONS, fresh_topic

TOPICS, ROUNDS, FEW = 4, 50, 4  # a region's channels, and records of a partition in a round


def run(folder: Path) -> Iterator[Outcome]:
    """Measure in `folder`, where a broker of our own is started; without Java there is nothing to measure."""
    try:
        server = Kafka(folder / "kafka")
        with server:
            yield _measure(folder, server)
    except StackError as error:
        print(f"P21 is left out: {error}", file=sys.stderr)


def _measure(folder: Path, server: Kafka) -> Outcome:
    """Read what has just come, as a worker does, the two ways in turns."""
    places = [(fresh_topic(server), partition) for _ in range(TOPICS) for partition in range(PARTITIONS)]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with closing(KafkaBroker([server.address], folder / "spool")) as broker:
        for start in range(0, 2 * ROUNDS * FEW, FEW):
            is_at_once = start // FEW % 2 == 0
            values = [b"%d" % number * 100 for number in range(start, start + FEW)]
            for place in places:
                for value in values:
                    broker.append(*place, "h", value)
            broker.flush()
            begun = time.perf_counter()
            if is_at_once:
                broker.prefetch(dict.fromkeys(places, (start, start + FEW)))
            found = [[record.value for record in broker.read(*place, start, start + FEW)] for place in places]
            seconds[is_at_once].append(time.perf_counter() - begun)
            same(found, [values] * len(places), "P21")
    ours, each = (1000 * statistics.median(seconds[is_at_once]) for is_at_once in (True, False))
    note = f"{ours:.1f} against {each:.1f} ms a round of {len(places)} partitions"
    return Outcome("P21", "a round's reads from Kafka, against one for each partition", each / ours, must=4, note=note)
