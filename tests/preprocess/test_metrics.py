"""The worker's metrics for Prometheus: served while it runs, and never a reason to fail."""

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from coin_platform.clock import wall
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.numbers import NUMBERS
from coin_platform.cluster.rates import Rates
from coin_platform.cluster.status import Status, statuses
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Region
from coin_platform.preprocess.partition import Partition
from coin_platform.preprocess.reports import worker_reports
from coin_platform.preprocess.worker import preprocess
from coin_platform.runtime.ports import free_port
from coin_platform.settings import Settings
from tests.kit.clusters import cluster_of
from tests.kit.raw_log import SETTINGS, ConnectionLog


async def test_a_region_is_preprocessed_until_it_is_to_stop(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch_interval": 0.0, "metrics_port": free_port(0)})
    log, lake = ConnectionLog("upbit", Channel.TICKER), Lake(MemoryStore(), SETTINGS.window_length)
    log.recorded("ticker")

    stop = asyncio.Event()
    exchanges = [log.source.exchange]
    working = asyncio.create_task(preprocess(log.region, exchanges, settings, log.broker, lake, stop))
    while not log.processed:
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{settings.metrics_port}/metrics")
    stop.set()
    await working
    text = answer.text
    for name in ("coin_processed_records_total", "coin_lag_records", "coin_latency_seconds_bucket"):
        assert f'{name}{{channel="ticker",exchange="upbit"' in text


def test_D12_a_port_that_is_taken_costs_the_metrics_and_not_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    log, lake = ConnectionLog("upbit", Channel.TICKER), Lake(MemoryStore(), SETTINGS.window_length)
    log.recorded("ticker")

    async def work(settings: Settings) -> None:
        stop = asyncio.Event()
        working = asyncio.create_task(preprocess(log.region, [log.source.exchange], settings, log.broker, lake, stop))
        while not log.processed:
            await asyncio.sleep(0.01)
        stop.set()
        await working

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asyncio.run(work(SETTINGS.model_copy(update={"batch_interval": 0.0, "metrics_port": port})))
    [line] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"no metrics: COIN_METRICS_PORT={port} cannot be listened on: ")


async def test_a_region_without_metrics_needs_no_port() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)

    log.append(b"{half")
    stop, lake = asyncio.Event(), Lake(MemoryStore(), SETTINGS.window_length)
    stop.set()
    await preprocess(log.region, [log.source.exchange], SETTINGS, log.broker, lake, stop)
    assert len(log.letters) == 1


async def test_a_worker_announces_itself_and_its_partitions_until_it_ends(tmp_path: Path) -> None:
    log, lake = ConnectionLog("upbit", Channel.TICKER), Lake(MemoryStore(), SETTINGS.window_length)
    log.recorded("ticker")
    cluster = cluster_of(FileStore(tmp_path / "store"), tmp_path / "copies")
    settings = SETTINGS.model_copy(update={"batch_interval": 0.0})

    def found() -> dict[str, Status]:
        return {status.name: status for status in statuses(cluster, wall())}

    stop = asyncio.Event()
    exchanges = [log.source.exchange]
    working = asyncio.create_task(preprocess(log.region, exchanges, settings, log.broker, lake, stop, cluster))
    while not any(status.numbers.get("position") for status in found().values()):
        await asyncio.sleep(0.05)
    reports = found()
    stop.set()
    await working
    assert (reports["worker/korea"].state, reports["partition/upbit/ticker"].state) == ("live", "live")
    assert reports["worker/korea"].numbers["partitions"] == len(reports) - 1
    assert reports["partition/upbit/ticker"].numbers.keys() == {
        *("lag_records", "rows", "rows_per_second", "dead_letters", "position", "committed")
    }
    assert reports["worker/korea"].numbers.keys() <= NUMBERS.keys()
    assert reports["worker/korea"].numbers["rows"] == reports["partition/upbit/ticker"].numbers["rows"] > 0
    assert found() == {}, "it ended as it should"


def test_a_worker_that_waits_for_its_broker_says_why() -> None:
    [worker, partition] = worker_reports(Region.KOREA, [_partition()], (), "kafka does not answer", Rates(), 0.0)
    assert (worker.state, worker.reason, partition.state) == ("waiting", "kafka does not answer", "waiting")
    topic = _partition().source.topic
    [worker, partition] = worker_reports(Region.KOREA, [_partition()], {topic}, "", Rates(), 0.0)
    assert (worker.state, partition.state) == ("degraded", "vanished")
    assert topic in worker.reason


def _partition() -> Partition:
    log = ConnectionLog("upbit", Channel.TICKER)
    return Partition(log.source, log.broker, SETTINGS)
