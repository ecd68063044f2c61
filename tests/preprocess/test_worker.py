"""The worker of a region: its rounds, what it commits, its start and its end."""

import asyncio
import threading
import time
from itertools import pairwise

import pytest

from coin_platform.errors import (
    BrokerUnreachable,
    DeliveryError,
    PartitionBusy,
)
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Kind
from coin_platform.preprocess import worker
from coin_platform.preprocess.partition import MOST_RECORDS, commit
from coin_platform.preprocess.worker import (
    UNSTORED_RECORDS,
    Worker,
    preprocess,
)
from coin_platform.records import Header
from coin_platform.topic_names import group
from tests.kit.raw_log import SETTINGS, ConnectionLog
from tests.kit.working import BOOKS, GOOD, faulty_log, silence, worker_of


def test_a_worker_processes_all_partitions_until_it_is_stopped() -> None:
    settings, stop = SETTINGS.model_copy(update={"batch_interval": 0.0}), threading.Event()
    log = ConnectionLog("upbit", Channel.TICKER)
    books = ConnectionLog("bithumb", Channel.ORDERBOOK)
    books.broker = log.broker
    working = Worker(log.region, [EXCHANGES["upbit"], EXCHANGES["bithumb"]], settings, log.broker)
    thread = threading.Thread(target=working.run, args=(stop,))
    thread.start()
    try:
        log.recorded("ticker")
        books.recorded("orderbook")
        ready = threading.Event()
        while log.broker.committed(working.partitions[0].group, log.source.topic, 0) != len(log.records()):
            assert not ready.wait(0.01)
        log.append(b"{half")  # what waits at the end is processed too
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert log.processed and books.processed and len(log.letters) == 1
    assert log.broker.committed(group(log.region, Channel.TICKER), log.source.topic, 0) == len(log.records())


@pytest.mark.parametrize("is_back", [True, False])
async def test_a_start_waits_for_a_broker_that_does_not_answer(
    is_back: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.01)
    log, lake = ConnectionLog("upbit", Channel.TICKER), Lake(MemoryStore(), SETTINGS.window_length)
    log.append(b"{half")
    claim, answers = log.broker.claim, threading.Event()

    def away(topic: str, partition: int) -> None:
        if not answers.is_set():
            raise BrokerUnreachable("nobody answers")
        claim(topic, partition)

    monkeypatch.setattr(log.broker, "claim", away)

    stop = asyncio.Event()
    working = asyncio.create_task(preprocess(log.region, [log.source.exchange], SETTINGS, log.broker, lake, stop))
    while caplog.messages.count("korea: start waits: nobody answers") < 2:
        await asyncio.sleep(0.005)
    if is_back:
        answers.set()
        while not log.letters:
            await asyncio.sleep(0.005)
    stop.set()
    await working
    assert len(log.letters) == is_back


@pytest.mark.parametrize("probe", [0.0, 1000.0])
def test_a_broker_that_is_away_is_waited_for(
    probe: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(worker, "PROBE_SECONDS", probe)
    log, broker = faulty_log()
    silence(broker)
    log.append(GOOD)
    region, stop = worker_of(log), threading.Event()
    thread = threading.Thread(target=region.run, args=(stop,))
    thread.start()
    try:
        waiting = threading.Event()
        while len(broker.calls["end_offsets"]) < 10:
            assert not waiting.wait(0.005)
        broker.allow("end_offsets")
        while not log.processed:
            assert not waiting.wait(0.005)
        while "goes on, after" not in caplog.text:
            assert not waiting.wait(0.005)
        silence(broker)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert sum("waits: kafka does not answer" in line for line in caplog.messages) >= 1
    assert "ends, what waits stays in its topics" in caplog.text


def test_what_cannot_be_stored_is_not_committed() -> None:
    log, broker = faulty_log()
    log.recorded("ticker")
    working = Worker(log.region, [EXCHANGES["upbit"]], SETTINGS, broker)
    broker.refuse("flush", DeliveryError("the disk is full"))
    with pytest.raises(DeliveryError, match="the disk is full"):
        working.drain()
    assert log.broker.committed(group(log.region, Channel.TICKER), log.source.topic, 0) is None


def test_what_kafka_has_not_taken_is_not_committed_and_nothing_more_is_read() -> None:
    log, broker = faulty_log()
    region, place = worker_of(log), (group(log.region, Channel.TICKER), log.source.topic, 0)
    broker.is_behind = True
    log.append(GOOD)
    with pytest.raises(BrokerUnreachable, match="results still wait for kafka"):
        region.drain()
    reads = len(broker.calls["read"])
    for _ in range(3):
        log.append(GOOD)
        with pytest.raises(BrokerUnreachable):
            region.drain()
    commit(region.partitions, broker)
    assert (len(broker.calls["read"]), broker.committed(*place), len(log.processed)) == (reads, None, 1)
    broker.is_behind = False
    region.drain()
    assert (broker.committed(*place), len(log.processed)) == (4, 4)


def test_a_partition_that_another_worker_took_ends_this_one() -> None:
    log, broker = faulty_log()
    log.append(GOOD)
    region = worker_of(log)
    broker.refuse("flush", PartitionBusy("process 7 writes it"))
    with pytest.raises(PartitionBusy, match="process 7"):
        region.drain()


def test_a_worker_that_is_behind_has_little_on_its_way_at_once() -> None:
    stored = [0]
    log, broker = faulty_log()
    region = worker_of(log, "upbit", "bithumb", "coinone", "korbit")
    broker.on_flush = lambda: stored.append(sum(partition.position for partition in region.partitions))
    for partition in region.partitions:
        if partition.source.channel is Channel.TICKER:
            for number in range(1, MOST_RECORDS + 1):
                log.broker.append(*partition.place, Header(Kind.SOCKET, 1, "c", number, log.time).pack(), b"{half")
    region.drain()
    assert stored[-1] == 4 * MOST_RECORDS
    assert max(after - before for before, after in pairwise(stored)) < UNSTORED_RECORDS + MOST_RECORDS


def test_what_waits_at_the_end_has_its_time_and_no_more() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(*[GOOD] * (2 * MOST_RECORDS))
    region = worker_of(log)
    region.drain(time.monotonic() - 1)
    assert region.partitions[0].position == MOST_RECORDS
    assert log.broker.committed(region.partitions[0].group, log.source.topic, 0) == MOST_RECORDS


def test_a_round_asks_for_all_its_records_at_once_and_tells_each_group_once() -> None:
    log, broker = faulty_log()
    broker.prefetch_records = 1  # of each partition only the first record is at hand
    region = worker_of(log, "upbit", "bithumb", "korbit")
    tickers, books = log.source.topic, BOOKS
    for topic, partition, count in ((tickers, 0, 3), (tickers, 3, 2), (books, 1, 2)):
        for _ in range(count):
            broker.append(topic, partition, "h", b"{half")
    broker.calls.clear()
    region.drain()
    [first], [second], [third] = broker.calls["prefetch"]
    assert first == {(tickers, 0): (0, 3), (tickers, 3): (0, 2), (books, 1): (0, 2)}
    assert second == {(tickers, 0): (1, 3), (tickers, 3): (1, 2), (books, 1): (1, 2)}
    assert third == {(tickers, 0): (2, 3)}
    inputs = [(start, stop) for topic, _, start, stop in broker.calls["read"] if not topic.endswith("DLT")]
    assert all(stop == start + 1 for start, stop in inputs), "what is at hand, nothing that it would wait for"
    assert len(inputs) == 7
    assert sorted(broker.calls["commit_all"]) == [
        (group(log.region, Channel.ORDERBOOK), {(books, 1): 2}),
        (group(log.region, Channel.TICKER), {(tickers, 0): 3, (tickers, 3): 2}),
    ]
    region.drain()
    assert len(broker.calls["commit_all"]) == 2, "nothing new"
