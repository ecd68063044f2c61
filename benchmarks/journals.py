"""P19: the journal against kafka-python and a broker: three writers, then one reader."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from multiprocessing.synchronize import Barrier
from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.compare import Outcome, in_turns, paused_gc, same
from coin_platform.broker import kafka_topics
from coin_platform.journal import JournalReader, JournalWriter
from infra.stack import Kafka, StackError

WRITERS, COUNT, SIZE = 3, 60_000, 400
HEADER = "w,1,ticker-0-62f8a1c2,1234,1790000000000000"


def run(folder: Path) -> Iterator[Outcome]:
    """Measure in `folder`, where a broker of our own is started; without Java there is nothing to compare with."""
    try:
        with Kafka(folder / "kafka") as server:
            yield from _measure(folder, server.address)
    except StackError as error:
        print(f"P19 is left out: {error}", file=sys.stderr)


def _measure(folder: Path, address: str) -> Iterator[Outcome]:
    numbers = count()

    def journals() -> None:
        place = str(folder / f"journal-{next(numbers)}")
        _together(_write_journal, place)

    def kafka() -> None:
        name = f"bench-{next(numbers)}"
        with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
            options = {"num_partitions": WRITERS, "replication_factor": 1, "configs": kafka_topics.config(1)}
            admin.create_topics({name: options}, wait_for_metadata=True)
        _together(_write_kafka, f"{address} {name}")

    seconds: dict[str, list[float]] = {"journal": [], "kafka": []}
    for name, work in (("journal", journals), ("kafka", kafka)) * 3:
        work()
        seconds[name].append(_TAKEN.pop())
    writing = {name: sorted(taken)[1] for name, taken in seconds.items()}
    total = WRITERS * COUNT
    note = f"{total / writing['journal'] / 1000:.0f} against {total / writing['kafka'] / 1000:.0f} thousand records/s"
    yield Outcome(
        "P19", "three writers, against kafka-python", writing["kafka"] / writing["journal"], must=2.5, note=note
    )

    def read_journal() -> int:
        return sum(1 for _ in JournalReader(folder / "journal-0" / "0.db").read(0, COUNT))

    def read_kafka() -> int:
        options = {"fetch_max_bytes": 64 << 20, "max_partition_fetch_bytes": 8 << 20, "max_poll_records": 20_000}
        with closing(KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, **options)) as consumer:
            place = TopicPartition("bench-1", 0)
            consumer.assign([place])
            consumer.seek(place, 0)
            found = 0
            with paused_gc():
                while found < COUNT:
                    found += sum(map(len, consumer.poll(1000).values()))
        return found

    same(read_journal(), read_kafka(), "P19")
    taken = in_turns({"journal": read_journal, "kafka": read_kafka}, clock=time.perf_counter)
    note = f"{COUNT / taken['journal'] / 1000:.0f} against {COUNT / taken['kafka'] / 1000:.0f} thousand records/s"
    yield Outcome("P19", "reading, against kafka-python", taken["kafka"] / taken["journal"], must=4, note=note)


_TAKEN: list[float] = []


def _together(work: Callable[[str, int, "Barrier"], None], place: str) -> None:
    """Run `WRITERS` processes that begin at the same time, and note the seconds until all have ended."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(WRITERS + 1)
    processes = [context.Process(target=work, args=(place, number, start)) for number in range(WRITERS)]
    for process in processes:
        process.start()
    start.wait(60)
    begun = time.perf_counter()
    for process in processes:
        process.join(120)
        same(process.exitcode, 0, "P19")
    _TAKEN.append(time.perf_counter() - begun)


def _values() -> list[bytes]:
    return [f"{number:08}".encode() * (SIZE // 8) for number in range(COUNT)]


def _write_journal(place: str, number: int, start: Barrier) -> None:
    with closing(JournalWriter(Path(place) / f"{number}.db")) as journal:
        values = _values()
        start.wait(60)
        for at, value in enumerate(values):
            journal.append(HEADER, value)
            if at % 5000 == 0:
                journal.flush()
        journal.flush()


def _write_kafka(place: str, number: int, start: Barrier) -> None:
    address, topic = place.split(" ")
    producer = KafkaProducer(
        bootstrap_servers=address,
        enable_idempotence=True,
        acks="all",
        linger_ms=20,
        batch_size=131_072,
        compression_type="zstd",
    )
    with closing(producer):
        values = _values()
        start.wait(60)
        for value in values:
            producer.send(topic, value, headers=[("f", HEADER.encode())], partition=number)
        producer.flush()
