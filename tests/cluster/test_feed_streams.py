"""The streams of processed records in a real Redis: offsets are ids, so nothing is stored twice or out of order."""

import pytest

from coin_platform.cluster.feed_streams import FeedStreams, StreamEnd
from coin_platform.errors import ClusterError
from coin_platform.model import Region
from coin_platform.records import Record
from infra.stack import Redis
from tests.kit.redis_streams import empty_redis as empty_redis
from tests.kit.redis_streams import streams as streams

pytestmark = pytest.mark.redis
PLACE, OTHER = ("Region.Korea_TickerPreprocessing", 0), ("MarketGaps", 3)


def records(*offsets: int, value: bytes = b"v") -> list[Record]:
    return [Record(offset, 1000 + offset, f"w,1,c,{offset},7", value) for offset in offsets]


def test_records_are_read_from_any_offset_on_and_missing_ones_are_seen(streams: FeedStreams) -> None:
    assert streams.ends([PLACE, OTHER]) == {PLACE: StreamEnd(), OTHER: StreamEnd()}
    assert streams.read({PLACE: 0, OTHER: 0}, 10) == {}
    assert streams.append({PLACE: records(0, 1, 2, 5), OTHER: records(7)}, {PLACE: "abc"}, 100) == 5
    assert streams.ends([PLACE, OTHER]) == {PLACE: StreamEnd(6, "abc"), OTHER: StreamEnd(8, "")}
    assert streams.read({PLACE: 0, OTHER: 8}, 10) == {PLACE: records(0, 1, 2, 5)}
    assert streams.read({PLACE: 2, OTHER: 7}, 1) == {PLACE: records(2), OTHER: records(7)}
    assert streams.read({PLACE: 3}, 10) == {PLACE: records(5)}
    assert (streams.read({}, 10), streams.append({}, {}, 10)) == ({}, 0)
    streams.clear(PLACE)
    assert streams.ends([PLACE]) == {PLACE: StreamEnd()}


def test_a_record_that_is_written_twice_or_late_is_stored_once(streams: FeedStreams) -> None:
    assert streams.append({PLACE: records(0, 1)}, {}, 100) == 2
    assert streams.append({PLACE: records(0, 1, 2, value=b"another")}, {}, 100) == 1
    assert streams.read({PLACE: 0}, 10)[PLACE] == [*records(0, 1), *records(2, value=b"another")]


def test_a_stream_keeps_about_the_newest_records(streams: FeedStreams) -> None:
    for begin in range(0, 2_000, 100):
        streams.append({PLACE: records(*range(begin, begin + 100))}, {}, 500)
    kept = [record.offset for record in streams.read({PLACE: 0}, 10_000)[PLACE]]
    assert kept == [*range(kept[0], 2_000)] and 500 <= len(kept) <= 700


def test_A21_a_full_redis_takes_all_of_a_batch_or_nothing(streams: FeedStreams, empty_redis: Redis) -> None:
    streams.append({PLACE: records(0)}, {}, 100)
    empty_redis.client().config_set("maxmemory", "1mb")
    with pytest.raises(ClusterError, match="give it more memory"):
        for begin in range(1, 100, 3):
            streams.append({PLACE: records(begin, begin + 1, begin + 2, value=bytes(20_000))}, {}, 10_000)
    kept = [record.offset for record in streams.read({PLACE: 0}, 1_000)[PLACE]]
    assert kept == [*range(len(kept))] and len(kept) % 3 == 1


def test_what_a_worker_did_not_write_is_left_out(streams: FeedStreams, empty_redis: Redis) -> None:
    streams.append({PLACE: records(0)}, {}, 100)
    empty_redis.client().xadd(f"coin:test:feed:{PLACE[0]}:0", {"other": "x"}, id="5-0")
    assert streams.read({PLACE: 0}, 10) == {PLACE: records(0)}


def test_C5_redis_is_of_use_only_while_a_worker_writes_there(streams: FeedStreams, empty_redis: Redis) -> None:
    with pytest.raises(ClusterError, match="no worker writes processed records there now; start one"):
        streams.probe()
    streams.say_alive(Region.ASIA)
    streams.probe()
    assert empty_redis.client().ttl("coin:test:feed:alive:asia") <= 5
    assert not [*empty_redis.client().scan_iter("*:probe:*")]
    empty_redis.stop()
    with pytest.raises(ClusterError, match="start it, or check COIN_REDIS_URL"):
        streams.probe()
