"""How old records are at each stage: what the worker counts and reports."""

import math
import re

import pytest
from prometheus_client import generate_latest

from coin_platform.model import SECOND, Channel, Kind
from coin_platform.preprocess.latency import Ages, Stage, Times, ages
from coin_platform.records import Header
from tests.kit.raw_log import ConnectionLog
from tests.kit.recordings import frames
from tests.kit.working import GOOD, worker_of


def test_how_old_records_get_is_told_by_stage_with_the_slowest_partition() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    region = worker_of(log, "upbit", "bithumb")
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
    log = ConnectionLog("upbit", Channel.TICKER)
    [frame] = frames("upbit", "rest_ticker")[:1]
    log.append(frame.payload, kind=Kind.REST, pair=frame.pair)
    partition = log.run()
    assert log.processed and set(partition.ages) == {Stage.LOGGED, Stage.PROCESSED}
