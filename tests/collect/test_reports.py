"""What a collector says of itself: once a second in the cluster, and as metrics."""

import asyncio
from pathlib import Path

import httpx

from coin_platform.broker import MemoryBroker
from coin_platform.clock import wall
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.numbers import GAPS_BY_CAUSE, NUMBERS
from coin_platform.cluster.status import PairStatus, Status, statuses
from coin_platform.collect.collector import Collector
from coin_platform.collect.report import COLLECTOR_PORTS, metrics_port
from coin_platform.collect.reports import feed_report
from coin_platform.collect.status import FeedStatus
from coin_platform.model import Channel, Pair, Proof, Region
from coin_platform.runtime.ports import free_ports
from coin_platform.settings import Settings
from tests.kit.clusters import cluster_of
from tests.kit.collecting import live, running, simulated, states
from tests.kit.kraken import Quick, fake_kraken
from tests.kit.waiting import eventually

BTC, ETH = Pair("BTC", "USD"), Pair("ETH", "USD")


async def test_each_feed_is_announced_with_its_pairs_and_numbers_and_ends_with_the_collector(tmp_path: Path) -> None:
    cluster = cluster_of(FileStore(tmp_path / "store"), tmp_path / "copies")

    def found() -> dict[str, Status]:
        return {status.name: status for status in statuses(cluster, wall())}

    async with fake_kraken() as fake:
        fake.unknown.add("ETH/USD")
        settings = simulated(fake, pairs=(BTC, ETH), channels=(Channel.TICKER,))
        collector = Collector(Region.NE, settings, MemoryBroker(), cluster, exchanges=[Quick()])
        async with running(collector):
            await eventually(lambda: "ETH-USD" in str(found()) and found()["collector/ne"].state == "live")
            await eventually(lambda: found()["feed/kraken/ticker/0"].pairs["ETH-USD"].state == "refused")
            await eventually(lambda: found()["feed/kraken/ticker/0"].pairs["BTC-USD"].state == "confirmed")
            reports = found()
    assert list(reports) == ["collector/ne", "feed/kraken/ticker/0"]
    feed = reports["feed/kraken/ticker/0"]
    assert feed.pairs["ETH-USD"].reason.startswith("refused for")
    assert feed.pairs["BTC-USD"].last_time is not None
    assert "ETH-USD" in feed.reason
    assert feed.texts["transport"] == "ws"
    assert feed.numbers["pairs_refused"] == feed.numbers["pairs_confirmed"] == 1
    for name in (
        "frames",
        "frames_per_second",
        "reconnects",
        "connects_left",
        "requests_left",
        "banned_seconds",
        "gap_records",
    ):
        assert name in feed.numbers
    assert {"spool_bytes", "spool_records", "unwritten_bytes", "given_up_records"} <= reports[
        "collector/ne"
    ].numbers.keys()
    assert "books_proved" not in feed.numbers, "tickers have no books"
    assert found() == {}, "it ended as it should"


async def test_a_collector_serves_the_same_numbers_as_metrics() -> None:
    async with fake_kraken() as fake:
        port = free_ports(1)[0] - COLLECTOR_PORTS - 2
        settings = simulated(fake, pairs=(BTC,), metrics_port=port)
        collector = Collector(Region.NE, settings, MemoryBroker(), exchanges=[Quick()])
        async with running(collector), httpx.AsyncClient(trust_env=False) as client:
            await eventually(lambda: states(collector) == {"live"})
            await asyncio.sleep(1.1)  # until the next report
            text = (await client.get(f"http://127.0.0.1:{metrics_port(settings, Region.NE)}/metrics")).text
    assert 'coin_feed_state{name="feed/kraken/orderbook/0",state="live"} 1.0' in text
    assert 'coin_feed_age_seconds{name="feed/kraken/ticker/0"}' in text
    assert 'coin_feed_frames_total{name="feed/kraken/ticker/0"}' in text
    assert 'coin_feed_books_proved{name="feed/kraken/orderbook/0"} 1.0' in text
    assert 'coin_feed_frames_per_second{name="feed/kraken/ticker/0"}' in text
    assert 'coin_feed_pair_last_data_seconds{name="feed/kraken/ticker/0",pair="BTC-USD"} 1' in text
    assert 'coin_collector_spool_records{name="collector/ne"} 0.0' in text
    assert "coin_memory_bytes" in text


def test_every_number_of_a_collector_is_described() -> None:
    async def scenario() -> list[Status]:
        async with fake_kraken() as fake:
            collector = Collector(Region.NE, simulated(fake, pairs=(BTC,)), MemoryBroker(), exchanges=[Quick()])
            async with live(collector):
                await fake.fall()
                await eventually(lambda: any("gaps_disconnect" in report.numbers for report in collector.reports()))
                return collector.reports()

    for report in asyncio.run(scenario()):
        assert all(name in NUMBERS or name.startswith(GAPS_BY_CAUSE) for name in report.numbers), report.numbers
        causes = [count for name, count in report.numbers.items() if name.startswith(GAPS_BY_CAUSE)]
        assert sum(causes) == report.numbers.get("gap_records", 0)


def feed_status(**values: object) -> FeedStatus:
    """Return the state of an idle feed of order books, with other values."""
    nothing: dict[Pair, str] = {}
    status = FeedStatus(
        exchange="kraken",
        channel=Channel.ORDERBOOK,
        shard=0,
        connection="orderbook-0-1",
        transport="ws",
        state="live",
        pairs=(BTC, ETH),
        unconfirmed=frozenset(),
        invalid=frozenset(),
        refused={},
        stale=frozenset(),
        proof=Proof.CHECKSUM,
        proved=frozenset(),
        not_traded=nothing,
        listed=None,
        listing_news=None,
        clock_lag=None,
        clock_suspect=False,
        frames=0,
        bytes=0,
        undecodable=0,
        unasked=0,
        lost=0,
        resyncs=0,
        reconnects=0,
        last_frame_time=None,
        last_error="",
        last_times={},
    )
    return status._replace(**values)  # type: ignore[arg-type]


def test_books_are_proved_by_what_their_exchange_has_and_the_others_are_unproved() -> None:
    report = feed_report(feed_status(proved=frozenset({BTC}), invalid=frozenset({ETH}), lost=1, resyncs=2), 0, {})
    books = {name: number for name, number in report.numbers.items() if name.startswith("book")}
    assert books == {"books_proved": 1, "books_unproved": 1, "books_invalid": 1, "books_lost": 1, "book_resyncs": 2}
    assert report.texts["proof"] == "checksum"


def test_a_wanted_pair_that_is_halted_is_named_with_its_reason_whatever_its_channel() -> None:
    for channel in (Channel.TICKER, Channel.INSTRUMENT):
        status = feed_status(channel=channel, not_traded={ETH: "halted (BREAK)"}, stale=frozenset({ETH}))
        report = feed_report(status, 0, {})
        assert report.state == "live"
        assert report.reason == "ETH-USD not traded: halted (BREAK)"
        assert report.pairs["ETH-USD"] == PairStatus(state="stale", reason="not traded: halted (BREAK)")
        assert report.numbers["pairs_not_traded"] == 1


def test_a_new_listing_is_told_with_its_time() -> None:
    news = (1_700_000_000_000_000, "lists now: NEW-USD")
    report = feed_report(feed_status(channel=Channel.INSTRUMENT, listed=7, listing_news=news), 0, {})
    assert report.numbers["pairs_listed"] == 7
    assert report.texts["listing"] == "2023-11-14T22:13:20Z lists now: NEW-USD"


def test_each_region_has_a_port_of_its_own_above_those_of_the_workers() -> None:
    assert [metrics_port(Settings(metrics_port=9100), region) for region in Region] == [9110, 9111, 9112]
    assert metrics_port(Settings(), Region.NE) == 0
