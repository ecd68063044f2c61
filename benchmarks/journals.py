"""P19: the journal compared with kafka-python and a Kafka server: three writers, then one reader."""

import itertools
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.compare import Outcome, in_turns, paused_gc, same
from coin_platform.broker import kafka_topics
from coin_platform.journal import JournalReader, JournalWriter
from infra.stack import Kafka, StackError

WRITERS = 3  # processes
RECORDS = 60_000  # of each writer
VALUE_BYTES = 400
HEADER = "w,1,ticker-0-62f8a1c2,1234,1790000000000000"


def run(folder: Path) -> Iterator[Outcome]:
    """Measure in `folder`, with a Kafka server that is started for it. Without Java the figures are left out."""
    try:
        with Kafka(folder / "kafka") as server:
            yield from _measure(folder, server.address)
    except StackError as error:
        print(f"P19 is left out: {error}", file=sys.stderr)


def _measure(folder: Path, address: str) -> Iterator[Outcome]:
    numbers = itertools.count()

    def journals() -> float:
        return _together(_write_journal, str(folder / f"journal-{next(numbers)}"))

    def kafka() -> float:
        name = f"bench-{next(numbers)}"
        with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
            options = {"num_partitions": WRITERS, "replication_factor": 1, "configs": kafka_topics.config(1)}
            admin.create_topics({name: options}, wait_for_metadata=True)
        return _together(_write_kafka, f"{address} {name}")

    seconds: dict[str, list[float]] = {"journal": [], "kafka": []}
    for name, work in (("journal", journals), ("kafka", kafka)) * 3:
        seconds[name].append(work())
    writing = {name: sorted(taken)[1] for name, taken in seconds.items()}
    total = WRITERS * RECORDS
    note = f"{total / writing['journal'] / 1000:.0f} against {total / writing['kafka'] / 1000:.0f} thousand records/s"
    yield Outcome(
        "P19", "three writers, against kafka-python", writing["kafka"] / writing["journal"], must=2.5, note=note
    )

    def read_journal() -> int:
        return sum(1 for _ in JournalReader(folder / "journal-0" / "0.db").read(0, RECORDS))

    def read_kafka() -> int:
        options = {"fetch_max_bytes": 64 << 20, "max_partition_fetch_bytes": 8 << 20, "max_poll_records": 20_000}
        with closing(KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, **options)) as consumer:
            place = TopicPartition("bench-1", 0)
            consumer.assign([place])
            consumer.seek(place, 0)
            count = 0
            with paused_gc():
                while count < RECORDS:
                    count += sum(map(len, consumer.poll(1000).values()))
        return count

    same(read_journal(), read_kafka(), "P19")
    taken = in_turns({"journal": read_journal, "kafka": read_kafka}, clock=time.perf_counter)
    note = f"{RECORDS / taken['journal'] / 1000:.0f} against {RECORDS / taken['kafka'] / 1000:.0f} thousand records/s"
    yield Outcome("P19", "reading, against kafka-python", taken["kafka"] / taken["journal"], must=4, note=note)


def _together(work: Callable[[str, int, "Barrier"], None], place: str) -> float:
    """Run `WRITERS` processes that begin at the same time; return the seconds until all have ended."""
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
    return time.perf_counter() - begun


def _values() -> list[bytes]:
    return [f"{number:08}".encode() * (VALUE_BYTES // 8) for number in range(RECORDS)]


def _write_journal(place: str, number: int, start: Barrier) -> None:
    with closing(JournalWriter(Path(place) / f"{number}.db")) as journal:
        values = _values()
        start.wait(60)
        for index, value in enumerate(values):
            journal.append(HEADER, value)
            if index % 5000 == 0:
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
