"""Workers copy processed records into Redis. Redis never holds them up, and what it does not take is counted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coin_platform.broker import LocalBroker
from coin_platform.clock import wall
from coin_platform.cluster.feed_streams import FeedStreams, StreamEnd
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.numbers import NUMBERS
from coin_platform.cluster.status import Status, statuses
from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Kind, Region
from coin_platform.preprocess import redis_feed
from coin_platform.preprocess.redis_feed import RedisFeed
from coin_platform.preprocess.worker import preprocess
from coin_platform.records import Header
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.topic_names import GAPS, processed_topic
from infra.stack import Redis
from tests.kit.clusters import cluster_of
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.feed import append_gap, append_processed
from tests.kit.proxy import Proxy, Toxics
from tests.kit.recordings import frames
from tests.kit.redis_streams import PREFIX, copying
from tests.kit.redis_streams import empty_redis as empty_redis
from tests.kit.redis_streams import streams as streams
from tests.kit.waiting import eventually, until

pytestmark = pytest.mark.redis
UPBIT = EXCHANGES["upbit"]
TICKERS = processed_topic(UPBIT.region, Channel.TICKER), UPBIT.partition
SETTINGS = Settings(redis_feed_records=100)


def feed_of(broker: FaultyBroker, streams: FeedStreams, **options: Any) -> RedisFeed:
    return RedisFeed(Region.KOREA, [UPBIT], SETTINGS, broker, streams, **options)


def tell(broker: FaultyBroker, first: int, count: int) -> None:
    for offset in range(first, first + count):
        append_processed(broker, "upbit", "BTC-KRW", offset=offset)


def held(streams: FeedStreams) -> list[int]:
    return [record.offset for record in streams.read({TICKERS: 0}, 10_000).get(TICKERS, [])]


def test_processed_records_and_gaps_are_copied_as_they_are(streams: FeedStreams) -> None:
    broker = FaultyBroker()
    feed = feed_of(broker, streams)
    tell(broker, 0, 3)
    append_gap(broker, "upbit", "BTC-KRW")
    append_processed(broker, "okx", "BTC-USDT")  # of another region
    assert feed.step() == 4
    gaps = GAPS, UPBIT.gap_partition
    for place in (TICKERS, gaps):
        assert streams.read({place: 0}, 10)[place] == list(broker.read(*place, 0, 10))
    tell(broker, 3, 2)
    assert (feed.step(), feed.step(), held(streams)) == (2, 0, [0, 1, 2, 3, 4])
    assert (feed.written, feed.skipped, feed.waiting) == (6, 0, 0)
    streams.probe()
    assert feed_of(broker, streams).step() == 0, "another worker goes on where the streams end"


def test_C5_A21_what_waits_while_redis_is_away_comes_later_and_what_is_too_much_is_counted(
    streams: FeedStreams, empty_redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_feed, "PAUSE_SECONDS", 0.01)
    broker = FaultyBroker()
    feed = feed_of(broker, streams)
    tell(broker, 0, 3)
    with copying(feed):
        until(lambda: held(streams) == [0, 1, 2], 30)
        empty_redis.stop()
        tell(broker, 3, 40)
        until(lambda: feed.failure, 30)
        empty_redis.start()
        until(lambda: held(streams) == [*range(43)] and not feed.failure, 30)
        assert feed.skipped == 0
        empty_redis.stop()
        until(lambda: feed.failure, 30)
        tell(broker, 43, 150)
        empty_redis.start()
        until(lambda: held(streams)[-1] == 192, 30)
        until(lambda: not feed.failure, 30)
    kept = held(streams)
    assert len(kept) >= 100 and kept == [*range(43), *range(93, 193)][-len(kept) :]
    assert (feed.skipped, feed.waiting) == (50, 0)
    assert "processed records do not reach redis" in caplog.text
    assert caplog.text.count("processed records reach redis again; ") == 2


def test_A21_a_redis_that_comes_back_empty_gets_the_newest_records(streams: FeedStreams, empty_redis: Redis) -> None:
    broker = FaultyBroker()
    feed = feed_of(broker, streams)
    tell(broker, 0, 120)
    feed.step()
    assert (held(streams), feed.skipped) == ([*range(20, 120)], 0)
    empty_redis.client().flushall()
    feed._is_known = False  # as after an error
    tell(broker, 120, 5)
    feed.step()
    assert (held(streams), feed.skipped) == ([*range(25, 125)], 0)


def test_a_topic_that_was_made_anew_begins_its_stream_anew(streams: FeedStreams) -> None:
    tell(before := FaultyBroker(), 0, 5)
    feed = feed_of(before, streams)
    feed.step()
    tell(anew := FaultyBroker(), 0, 2)
    feed._broker = anew
    feed.step()
    assert streams.ends([TICKERS])[TICKERS] == StreamEnd(2, str(anew.identity(*TICKERS))[:8])
    tell(larger := FaultyBroker(), 0, 9)
    feed_of(larger, streams).step()
    assert held(streams) == [*range(9)], "also if the new one is longer already"
    assert feed.skipped == 0


def test_C5_records_that_were_trimmed_before_they_were_copied_are_counted(streams: FeedStreams) -> None:
    broker = FaultyBroker()
    feed = feed_of(broker, streams)
    tell(broker, 0, 1)
    feed.step()
    tell(broker, 1, 9)
    broker.trim(*TICKERS, 6)
    assert [feed.step(), feed.step()] == [0, 4]
    assert (held(streams), feed.skipped) == ([0, 6, 7, 8, 9], 5)


def test_while_the_broker_is_away_no_worker_counts_as_alive(
    streams: FeedStreams, empty_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_feed, "PAUSE_SECONDS", 0.01)
    broker = FaultyBroker()
    broker.refuse("end_offsets", BrokerUnreachable("kafka is away"))
    feed = feed_of(broker, streams)
    with copying(feed):
        until(lambda: feed.failure == "kafka is away", 30)
        assert not empty_redis.client().exists(f"{PREFIX}:feed:alive:korea")
        broker.allow("end_offsets")
        until(lambda: empty_redis.client().exists(f"{PREFIX}:feed:alive:korea"), 30)


async def test_A21_a_worker_goes_on_while_redis_does_not_answer(empty_redis: Redis, tmp_path: Path) -> None:
    """The worker stores its results, and says what did not come to Redis."""
    with Proxy(f"127.0.0.1:{empty_redis.port}") as proxy:
        proxy.up = Toxics(timeout=0)
        settings = Settings(
            home=tmp_path, redis_url=f"redis://{proxy.address}/0", redis_feed=True, deployment="test", batch_interval=0
        )
        broker = LocalBroker(tmp_path / "data/journal")
        [source] = [each for each in sources(UPBIT, settings) if each.channel is Channel.TICKER]
        for number, frame in enumerate(frames("upbit", "ticker"), 1):
            header = Header(Kind.SOCKET, 1, "c", number, wall())
            broker.append(source.topic, source.partition, header.pack(), frame.payload)
        broker.flush()
        cluster = cluster_of(FileStore(tmp_path / "store"), tmp_path / "copies")
        stop, lake = asyncio.Event(), Lake(MemoryStore(), settings.window_length)

        def status() -> Status | None:
            known = {status.name: status for status in statuses(cluster, wall())}
            return known.get("worker/korea/redis")

        def reason() -> str:
            return found.reason if (found := status()) else ""

        working = asyncio.create_task(preprocess(Region.KOREA, [UPBIT], settings, broker, lake, stop, cluster))
        await eventually(lambda: broker.end_offset(*TICKERS) > 0, 30)
        await eventually(lambda: "Timeout" in reason(), 30)
        proxy.up = Toxics()
        streams = FeedStreams(empty_redis.address, PREFIX)
        await eventually(lambda: streams.ends([TICKERS])[TICKERS].offset == broker.end_offset(*TICKERS), 30)
        await eventually(lambda: not reason(), 30)
        assert (report := status()) is not None and report.numbers.keys() <= NUMBERS.keys()
        assert report.numbers["redis_skipped"] == 0
        stop.set()
        await working
        streams.close()
        broker.close()


def test_a_worker_without_a_cluster_copies_and_announces_nothing(
    streams: FeedStreams, empty_redis: Redis, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, redis_url=empty_redis.address, redis_feed=True, deployment="test")
    broker = LocalBroker(tmp_path / "data/journal")
    append_processed(broker, "upbit", "BTC-KRW", offset=7)
    broker.flush()
    with redis_feed.copied_to_redis(Region.KOREA, [UPBIT], settings, None):
        until(lambda: held(streams) == [0], 30)  # by its offset in the processed topic
    broker.close()


def test_while_it_cannot_be_copied_that_is_said_once(
    streams: FeedStreams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_feed, "PAUSE_SECONDS", 0.01)
    broker = FaultyBroker()
    broker.refuse("end_offsets", BrokerUnreachable("away"))
    with copying(feed_of(broker, streams)):
        until(lambda: len(broker.calls["end_offsets"]) >= 3, 30)
    assert caplog.text.count("processed records do not reach redis: away") == 1
