"""What the worker sees beside records: partitions that are stuck, new or gone, a broker that is away, and the time."""

import logging
import math
import re
import threading
import time
from itertools import pairwise

import pytest
from prometheus_client import generate_latest

from coin_platform.errors import BrokerUnreachable, PartitionBusy, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Kind
from coin_platform.preprocess import worker
from coin_platform.preprocess.latency import Ages, Stage, Times, ages
from coin_platform.preprocess.partition import MOST_RECORDS, STUCK_SECONDS, commit
from coin_platform.preprocess.redrive import REQUESTED
from coin_platform.preprocess.worker import PROGRESS_SECONDS, SURVEY_SECONDS, UNSTORED_RECORDS, WATCH_SECONDS, Worker
from coin_platform.records import Header
from coin_platform.topic_names import dead_letter_topic, group, raw_topic
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.recordings import frames
from tests.preprocess.test_worker import SETTINGS, Log

GOOD = frames("upbit", "ticker")[0].payload
BOOKS = raw_topic("korea", Channel.ORDERBOOK)


def working(log: Log, *names: str) -> Worker:
    kinds = [EXCHANGES[name] for name in names or (log.source.exchange.name,)]
    return Worker(log.region, kinds, SETTINGS, log.broker, clock=lambda: log.time)


def faulty(channel: Channel = Channel.TICKER) -> tuple[Log, FaultyBroker]:
    log = Log("upbit", channel)
    log.broker = broker = FaultyBroker(clock=lambda: log.time)
    return log, broker


def silence(broker: FaultyBroker, *topics: str) -> None:
    """Have the broker not answer for some topics, or for all if none is named."""
    error = BrokerUnreachable("kafka does not answer")
    broker.refuse("end_offsets", error, lambda places: not topics or any(topic in topics for topic, _ in places))


def test_K4_a_partition_that_does_not_move_is_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    log, broker = faulty()
    broker.reads_nothing = True
    lane = log.lane()
    log.append(b"{}")
    log.work(lane)
    lane.watch(1.0, log.end)
    before = len(broker.calls["read"])
    lane.watch(1.0 + STUCK_SECONDS, log.end)
    assert len(broker.calls["read"]) == before
    lane.watch(2.0 + STUCK_SECONDS, log.end)
    assert len(broker.calls["read"]) > before
    assert "koreaSocketDataIn-ticker[0]: stuck at offset 0, begun anew" in caplog.text


def test_K4_a_partition_that_moves_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("upbit", Channel.TICKER)
    lane = log.lane()
    log.append(*[b"{}"] * (2 * MOST_RECORDS + 1))
    for moment in (0.0, STUCK_SECONDS + 1, 2 * STUCK_SECONDS + 2):
        lane.watch(moment, log.end)
        log.work(lane)
    lane.watch(3 * STUCK_SECONDS, log.end)
    assert lane.position == log.end and not caplog.records


@pytest.mark.parametrize("count", [1, 5], ids=["shorter", "longer"])
@pytest.mark.parametrize("is_running", [True, False], ids=["while it runs", "while it does not"])
def test_K4_a_topic_that_was_made_anew_is_read_from_its_begin(
    count: int, is_running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(GOOD, b"{half", GOOD)
    lane = log.run()
    assert [record["offset"] for record in log.processed] == [0, 2]
    log.broker._logs.pop(lane.place)
    log.append(*[GOOD] * count)
    if is_running and count == 1:
        lane.watch(0.0, log.end)
        assert "ends at offset 1, before our 3: begun anew" in caplog.text
    else:  # nobody sees a topic that was made anew and has grown since, until it is begun
        lane = log.lane()
    assert "made anew since offset 3, goes on at 0" in caplog.text
    assert (lane.position, log.work(lane)) == (0, count)
    assert [record["offset"] for record in log.processed] == [0, 2, *range(count)]
    assert log.work(log.lane()) == count, "killed before it committed"
    assert [record["offset"] for record in log.processed] == [0, 2, *range(count)]


def test_K4_a_topic_that_lost_its_newest_records_goes_on_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(GOOD, GOOD, GOOD)
    lane = log.run()
    lost = log.broker._logs[lane.place]
    lost.records.pop()
    lost.end -= 1
    lane.watch(0.0, log.end)
    assert "made anew since offset 3, goes on at 2" in caplog.text
    log.append(GOOD)
    log.work(lane)
    assert [record["offset"] for record in log.processed] == [0, 1, 2, 2], "what was lost, and what came instead"


def test_K4_a_topic_emptied_before_it_gave_anything_is_read_from_its_begin() -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(b'{"status":"UP"}', b'{"status":"UP"}')
    lane = log.run()
    log.broker._logs.pop(lane.place)
    log.append(GOOD)
    lane.watch(0.0, log.end)
    assert (lane.position, log.work(lane), len(log.processed)) == (0, 1, 1)


def test_K4_records_trimmed_while_the_worker_was_behind_are_named(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(GOOD)
    lane = log.run()
    log.append(GOOD, GOOD, GOOD)
    log.broker.trim(*lane.place, 3)
    assert [log.work(lane), log.work(lane)] == [0, 1]
    assert [record["offset"] for record in log.processed] == [0, 3]
    assert "offsets 1 to 3 were trimmed before they were processed" in caplog.text


def test_K4_a_new_partition_is_processed_and_said(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("upbit", Channel.TICKER)
    caplog.set_level(logging.INFO)
    region = working(log)
    region.step(0.0)
    assert "its first records" not in caplog.text
    log.append(GOOD)
    region.drain()
    assert len(log.processed) == 1 and "koreaSocketDataIn-ticker[0]: its first records" in caplog.text


def test_K4_a_partition_that_is_no_exchanges_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    log, broker = faulty()
    region = working(log)
    broker.refuse("end_offset", SettingsError("no such partition"), lambda topic, partition: partition == 4)
    region.survey()
    assert not caplog.records
    broker.allow("end_offset")
    region.survey()
    assert not caplog.records
    broker.append(log.source.topic, 4, "", b"{}")
    region.survey()
    region.survey()
    [line] = caplog.messages
    assert line.startswith("koreaSocketDataIn-ticker[4]: has records, but no exchange that this code knows")


def test_K4_a_topic_that_vanishes_stops_only_itself_and_may_come_back(caplog: pytest.LogCaptureFixture) -> None:
    log, broker = faulty()
    region, stop = working(log), threading.Event()
    silence(broker, BOOKS)
    log.append(GOOD)
    with pytest.raises(BrokerUnreachable):
        region.drain()
    region.probe(stop)
    assert caplog.messages == [f"{BOOKS}: vanished, the others go on"]
    region.drain()
    region.watch(0.0)
    assert len(log.processed) == 1
    region.survey()
    broker.allow("end_offsets")
    broker.append(BOOKS, 0, Header(Kind.SOCKET, 1, "c", 1, log.time).pack(), b"{half")
    region.drain()
    letters = dead_letter_topic(BOOKS)
    assert broker.end_offset(letters, 0) == 0, "nobody looks at it before the survey"
    region.survey()
    assert caplog.messages[1:] == [f"{BOOKS}: is back"]
    region.drain()
    assert broker.end_offset(letters, 0) == 1


def test_K4_a_topic_that_answers_when_asked_again_has_not_vanished() -> None:
    log, broker = faulty()
    region = working(log)
    error = BrokerUnreachable("kafka does not answer")
    broker.refuse("end_offsets", error, lambda places: len(broker.calls["end_offsets"]) == 1)
    region._topics.sort(key=lambda topic: topic != BOOKS)
    region.probe(threading.Event())
    assert len(broker.calls["end_offsets"]) > 1 and not region._vanished


def test_K4_a_broker_that_is_away_as_a_whole_has_not_vanished() -> None:
    log, broker = faulty()
    region, stop = working(log), threading.Event()
    silence(broker)
    region.probe(stop)
    broker.allow("end_offsets")
    assert not region._vanished
    stop.set()
    silence(broker, BOOKS)
    region.probe(stop)
    assert not region._vanished


@pytest.mark.parametrize("probe", [0.0, 1000.0])
def test_a_broker_that_is_away_is_waited_for(
    probe: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(worker, "PROBE_SECONDS", probe)
    log, broker = faulty()
    silence(broker)
    log.append(GOOD)
    region, stop = working(log), threading.Event()
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


def test_what_kafka_has_not_taken_is_not_committed_and_nothing_more_is_read() -> None:
    log, broker = faulty()
    region, place = working(log), (group(log.region, Channel.TICKER), log.source.topic, 0)
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
    log, broker = faulty()
    log.append(GOOD)
    region = working(log)
    broker.refuse("flush", PartitionBusy("process 7 writes it"))
    with pytest.raises(PartitionBusy, match="process 7"):
        region.drain()


def test_a_worker_that_is_behind_has_little_on_its_way_at_once() -> None:
    stored = [0]
    log, broker = faulty()
    region = working(log, "upbit", "bithumb", "coinone", "korbit")
    broker.on_flush = lambda: stored.append(sum(lane.position for lane in region.partitions))
    for lane in region.partitions:
        if lane.source.channel is Channel.TICKER:
            for number in range(1, MOST_RECORDS + 1):
                log.broker.append(*lane.place, Header(Kind.SOCKET, 1, "c", number, log.time).pack(), b"{half")
    region.drain()
    assert stored[-1] == 4 * MOST_RECORDS
    assert max(after - before for before, after in pairwise(stored)) < UNSTORED_RECORDS + MOST_RECORDS


def test_what_waits_at_the_end_has_its_time_and_no_more() -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(*[GOOD] * (2 * MOST_RECORDS))
    region = working(log)
    region.drain(time.monotonic() - 1)
    assert region.partitions[0].position == MOST_RECORDS
    assert log.broker.committed(region.partitions[0].group, log.source.topic, 0) == MOST_RECORDS


def test_the_watch_looks_after_letters_and_memory() -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(b"{half")
    region = working(log)
    region.drain()
    log.broker.commit(REQUESTED, dead_letter_topic(log.source.topic), 0, 1)
    worker.MEMORY_BYTES.set(0)
    region.watch(0.0)
    assert [letter.attempts for letter in log.letters] == [1, 2]
    assert worker.MEMORY_BYTES._value.get() > 1 << 20


def test_each_look_has_its_own_beat(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = Log("upbit", Channel.TICKER)
    region = working(log)
    log.append(b"{half")
    region.drain()
    log.broker.append(log.source.topic, 4, "", b"{}")
    log.broker.commit(REQUESTED, dead_letter_topic(log.source.topic), 0, 1)
    caplog.clear()
    region.look(WATCH_SECONDS - 0.1)
    assert not caplog.messages
    region.look(WATCH_SECONDS)
    assert [line.split(":")[0] for line in caplog.messages] == ["koreaSocketDataIn-ticker-DLT[0]"]
    region.look(PROGRESS_SECONDS)
    assert caplog.messages[-1] == f"korea: {1 / PROGRESS_SECONDS:.0f} records/s processed, 0 wait"
    region.look(SURVEY_SECONDS)
    assert any("no exchange that this code knows" in line for line in caplog.messages)


def test_how_old_records_get_is_told_by_stage_with_the_slowest_partition() -> None:
    log = Log("upbit", Channel.TICKER)
    region = working(log, "upbit", "bithumb")
    sent = log.source.exchange.decode(frames("upbit", "ticker")[0])[0].exchange_time  # type: ignore[union-attr]
    assert sent is not None
    for _ in range(20):
        log.number += 1
        log.time = sent + 12_000
        header = Header(Kind.SOCKET, 1, "c", log.number, sent + 10_000)
        log.broker.append(log.source.topic, 0, header.pack(), GOOD)
    log.time = sent + 112_000
    region.drain()
    text = region.progress(2.0)
    assert text.startswith("10 records/s processed, 0 wait; p50/p95/p99 ms: received ")
    stages = dict(part.split(" ") for part in text.split("ms: ")[1].split(";")[0].split(", "))
    for stage, milliseconds in {"received": 10, "logged": 2, "processed": 100, "total": 112}.items():
        assert [float(value) for value in stages[stage].split("/")] == [pytest.approx(milliseconds, rel=0.06)] * 3
    assert "; slowest: upbit ticker, p99 " in text
    assert region.progress(2.0) == "0 records/s processed, 0 wait", "each line speaks of its own time"
    text = generate_latest().decode()
    [total] = re.findall(r'coin_latency_seconds_sum{channel="ticker",exchange="upbit",stage="total"} (\S+)', text)
    [count] = re.findall(r'coin_latency_seconds_count{channel="ticker",exchange="upbit",stage="total"} (\S+)', text)
    assert float(total) >= 20 * 0.112 and float(count) >= 20


def test_ages_never_count_backwards_and_are_told_only_where_they_are_known() -> None:
    found = ages([Times(None, 2, 3), Times(9, 5, 4)], 5)
    assert found == {
        Stage.RECEIVED: [0],
        Stage.LOGGED: [1, 0],
        Stage.PROCESSED: [2, 1],
        Stage.TOTAL: [0],
    }


def test_percentiles_are_right_within_five_per_cent() -> None:
    counted, other = Ages(), Ages()
    assert (counted.percentile(0.5), bool(counted)) == (0.0, False)
    counted.add([number * SECOND // 100 for number in range(1, 1001, 2)])
    other.add([number * SECOND // 100 for number in range(2, 1001, 2)])
    counted.merge(other)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        assert counted.percentile(share) == pytest.approx(10 * share, rel=0.06)
    assert counted.seconds == pytest.approx(5005)
    assert counted.below([0.001, 5, 11, math.inf]) == [0, pytest.approx(500, rel=0.06), 1000, 1000]
    none = Ages()
    none.add([0])
    assert none.percentile(0.99) < 0.00011


def test_rest_answers_do_not_tell_how_long_they_took() -> None:
    log = Log("upbit", Channel.TICKER)
    [frame] = frames("upbit", "rest_ticker")[:1]
    log.append(frame.payload, kind=Kind.REST, pair=frame.pair)
    lane = log.run()
    assert log.processed and set(lane.ages) == {Stage.LOGGED, Stage.PROCESSED}


def test_a_round_asks_for_all_its_records_at_once_and_tells_each_group_once() -> None:
    log, broker = faulty()
    broker.prefetch_records = 1  # of each partition only the first record is at hand
    region = working(log, "upbit", "bithumb", "korbit")
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


def test_a_lookback_ends_at_the_window_before(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log("kraken", Channel.ORDERBOOK)
    log.broker = broker = FaultyBroker(clock=lambda: log.time)
    deltas = [
        frame.payload for frame in frames("kraken", "book_sequence_2") if b'"book","type":"update"' in frame.payload
    ]
    for _ in range(4):
        log.append(deltas[0])
        log.time += SETTINGS.window_length
    place = (log.source.topic, log.source.partition)
    broker.commit(group(log.region, Channel.ORDERBOOK), *place, 4)
    broker.calls.clear()
    lane = log.lane()
    assert [start for _, _, start, _ in broker.calls["read"]] == [3, 3, 3, 2], (
        "the newest's time, then 30 s, 5 min and a window back"
    )
    assert lane._transform.books.orphans
