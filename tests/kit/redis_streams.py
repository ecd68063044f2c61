"""The feed's streams in a real Redis, emptied for each test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from coin_platform.cluster.feed_streams import FeedStreams
from coin_platform.preprocess.redis_feed import RedisFeed
from infra.stack import Redis

PREFIX = "coin:test"


@pytest.fixture
def empty_redis(redis_server: Redis) -> Iterator[Redis]:
    """Give an empty server, and leave one that runs and is writable."""
    redis_server.client().flushall()
    yield redis_server
    redis_server.start()
    redis_server.client().config_set("maxmemory", "64mb")


@pytest.fixture
def streams(empty_redis: Redis) -> Iterator[FeedStreams]:
    """Give the streams of one deployment."""
    opened = FeedStreams(empty_redis.address, PREFIX)
    yield opened
    opened.close()


@contextmanager
def copying(feed: RedisFeed) -> Iterator[None]:
    """Copy in a thread meanwhile, as a worker does."""
    halt = threading.Event()
    thread = threading.Thread(target=feed.run, args=(halt,))
    thread.start()
    try:
        yield
    finally:
        halt.set()
        thread.join()
