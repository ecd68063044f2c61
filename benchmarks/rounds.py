"""P21: the reads of a worker's round on Kafka, with one prefetch, against one read for each partition."""

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

TOPICS = 4  # the channels of a region
ROUNDS = 50
RECORDS = 4  # of each partition in a round


def run(folder: Path) -> Iterator[Outcome]:
    """Measure in `folder`, with a Kafka server that is started for it. Without Java the figure is left out."""
    try:
        server = Kafka(folder / "kafka")
        with server:
            yield _measure(folder, server)
    except StackError as error:
        print(f"P21 is left out: {error}", file=sys.stderr)


def _measure(folder: Path, server: Kafka) -> Outcome:
    """Read new records as a worker does, in the two ways in turns."""
    places = [(fresh_topic(server), partition) for _ in range(TOPICS) for partition in range(PARTITIONS)]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with closing(KafkaBroker([server.address], folder / "spool")) as broker:
        for start in range(0, 2 * ROUNDS * RECORDS, RECORDS):
            is_at_once = start // RECORDS % 2 == 0
            values = [b"%d" % number * 100 for number in range(start, start + RECORDS)]
            for place in places:
                for value in values:
                    broker.append(*place, "h", value)
            broker.flush()
            begun = time.perf_counter()
            if is_at_once:
                broker.prefetch(dict.fromkeys(places, (start, start + RECORDS)))
            read = [[record.value for record in broker.read(*place, start, start + RECORDS)] for place in places]
            seconds[is_at_once].append(time.perf_counter() - begun)
            same(read, [values] * len(places), "P21")
    at_once, one_by_one = (1000 * statistics.median(seconds[is_at_once]) for is_at_once in (True, False))
    note = f"{at_once:.1f} against {one_by_one:.1f} ms a round of {len(places)} partitions"
    return Outcome(
        "P21", "a round's reads from Kafka, against one for each partition", one_by_one / at_once, must=4, note=note
    )
