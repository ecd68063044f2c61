"""What a collector says of itself: once a second in the cluster, and as metrics."""

import asyncio
from pathlib import Path

import httpx

from coin_platform.broker import MemoryBroker
from coin_platform.clock import wall
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.status import Status, statuses
from coin_platform.collect.collector import COLLECTOR_PORTS, Collector, metrics_port
from coin_platform.model import Channel, Pair, Region
from coin_platform.settings import Settings
from infra.stack import free_ports
from tests.kit.clusters import cluster_of
from tests.kit.collecting import running, simulated, states
from tests.kit.kraken import Quick, fake_kraken
from tests.kit.waiting import eventually

BTC, ETH = Pair("BTC", "USD"), Pair("ETH", "USD")


def test_each_feed_is_announced_with_its_pairs_and_numbers_and_ends_with_the_collector(tmp_path: Path) -> None:
    cluster = cluster_of(FileStore(tmp_path / "store"), tmp_path / "copies")

    def found() -> dict[str, Status]:
        return {status.name: status for status in statuses(cluster, wall())}

    async def scenario() -> dict[str, Status]:
        async with fake_kraken() as fake:
            fake.unknown.add("ETH/USD")
            settings = simulated(fake, pairs=(BTC, ETH), channels=(Channel.TICKER,))
            collector = Collector(Region.NE, settings, MemoryBroker(), cluster, exchanges=[Quick()])
            async with running(collector):
                await eventually(lambda: "ETH-USD" in str(found()) and found()["collector/ne"].state == "live")
                await eventually(lambda: found()["feed/kraken/ticker/0"].pairs["ETH-USD"].state == "refused")
                await eventually(lambda: found()["feed/kraken/ticker/0"].pairs["BTC-USD"].state == "confirmed")
                reports = found()
        return reports

    reports = asyncio.run(scenario())
    assert list(reports) == ["collector/ne", "feed/kraken/ticker/0"]
    feed = reports["feed/kraken/ticker/0"]
    assert feed.pairs["ETH-USD"].reason.startswith("refused for")
    assert feed.pairs["BTC-USD"].last_time is not None
    assert "ETH-USD" in feed.reason
    assert feed.texts["transport"] == "ws"
    assert feed.numbers["pairs_refused"] == feed.numbers["pairs_confirmed"] == 1
    for name in (
        "frames",
        "reconnects",
        "books_lost",
        "connects_left",
        "requests_left",
        "banned_seconds",
        "gap_records",
    ):
        assert name in feed.numbers
    assert "spool_bytes" in reports["collector/ne"].numbers
    assert found() == {}, "it ended as it should"


def test_a_collector_serves_the_same_numbers_as_metrics() -> None:
    async def scenario() -> str:
        async with fake_kraken() as fake:
            port = free_ports(1)[0] - COLLECTOR_PORTS - 2
            settings = simulated(fake, pairs=(BTC,), metrics_port=port)
            collector = Collector(Region.NE, settings, MemoryBroker(), exchanges=[Quick()])
            async with running(collector), httpx.AsyncClient(trust_env=False) as client:
                await eventually(lambda: states(collector) == {"live"})
                await asyncio.sleep(1.1)  # until the next report
                return (await client.get(f"http://127.0.0.1:{metrics_port(settings, Region.NE)}/metrics")).text

    text = asyncio.run(scenario())
    assert 'coin_feed_state{name="feed/kraken/orderbook/0",state="live"} 1.0' in text
    assert 'coin_feed_age_seconds{name="feed/kraken/ticker/0"}' in text
    assert 'coin_feed_frames_total{name="feed/kraken/ticker/0"}' in text
    assert "coin_memory_bytes" in text


def test_each_region_has_a_port_of_its_own_above_those_of_the_workers() -> None:
    assert [metrics_port(Settings(metrics_port=9100), region) for region in Region] == [9110, 9111, 9112]
    assert metrics_port(Settings(), Region.NE) == 0
