"""A process announces its status beside its work, and a store that hangs holds up nobody."""

import threading
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from coin_platform.clock import wall
from coin_platform.cluster.announcer import Announcer
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.metrics import StatusMetrics
from coin_platform.cluster.status import ComponentKind, PairStatus, Status, statuses
from tests.kit.clusters import FaultyStore, cluster_of
from tests.kit.waiting import until


def feed(frames: int) -> Status:
    """Return a report as a feed makes it."""
    numbers = {"frames": frames, "age_seconds": 0.5}
    return Status(name="feed/upbit/ticker/0", kind=ComponentKind.FEED, state="live", numbers=numbers)


def test_what_is_offered_is_announced_until_the_process_ends(tmp_path: Path) -> None:
    cluster = cluster_of(FileStore(tmp_path / "store"), tmp_path / "copies")
    announcer = Announcer(cluster, "collector-korea")
    for frames in (1, 2):
        announcer.offer([feed(frames)])
        until(lambda frames=frames: [one.numbers["frames"] for one in statuses(cluster, wall())] == [frames])  # type: ignore[misc]
    announcer.close()
    assert statuses(cluster, wall()) == []


def test_C4_a_store_that_fails_and_comes_back_is_told_again(tmp_path: Path) -> None:
    store = FaultyStore(FileStore(tmp_path / "store"))
    cluster = cluster_of(store, tmp_path / "copies")
    announcer = Announcer(cluster, "collector-korea")
    store.writes_fail = True
    announcer.offer([feed(1)])
    until(lambda: cluster.health.reason)
    store.writes_fail = False
    announcer.offer([feed(2)])
    until(lambda: [one.numbers["frames"] for one in statuses(cluster, wall())] == [2])
    announcer.close()


def test_C4_a_store_that_hangs_holds_up_no_offer(tmp_path: Path) -> None:
    asked, released, announced = threading.Event(), threading.Event(), []

    class Hanging(FaultyStore):
        def announce(self, key: str, value: bytes, seconds: float) -> None:
            asked.set()
            released.wait()
            announced.append(value)

    announcer = Announcer(cluster_of(Hanging(FileStore(tmp_path / "store")), tmp_path / "copies"), "collector-korea")
    announcer.offer([feed(0)])
    asked.wait()
    for frames in range(1, 100_000):
        announcer.offer([feed(frames)])
    released.set()
    until(lambda: announced and b"99999" in announced[-1])
    assert len(announced) <= 3, "of many offers the newest counts"
    announcer.close()


def test_the_status_gives_metrics() -> None:
    registry = CollectorRegistry()
    registry.register(StatusMetrics(lambda: [feed(7)]))
    text = generate_latest(registry).decode()
    assert 'coin_feed_frames_total{name="feed/upbit/ticker/0"} 7.0' in text
    assert 'coin_feed_age_seconds{name="feed/upbit/ticker/0"} 0.5' in text
    assert 'coin_feed_state{name="feed/upbit/ticker/0",state="live"} 1.0' in text
    assert "# HELP coin_feed_age_seconds seconds since the last frame; of a feed" in text


def test_gaps_have_their_cause_as_a_label_and_pairs_the_time_of_their_data() -> None:
    pairs = {
        "BTC-KRW": PairStatus(state="confirmed", last_time=1_700_000_000_500_000),
        "X-KRW": PairStatus(state="refused"),
    }
    numbers: dict[str, float | int] = {"gap_records": 3, "gaps_disconnect": 2, "gaps_silence": 1}
    status = Status(name="feed/a", kind=ComponentKind.FEED, state="live", numbers=numbers, pairs=pairs)
    registry = CollectorRegistry()
    registry.register(StatusMetrics(lambda: [status]))
    text = generate_latest(registry).decode()
    assert 'coin_feed_gaps_total{cause="disconnect",name="feed/a"} 2.0' in text
    assert 'coin_feed_gaps_total{cause="silence",name="feed/a"} 1.0' in text
    assert 'coin_feed_gap_records_total{name="feed/a"} 3.0' in text
    assert 'coin_feed_pair_last_data_seconds{name="feed/a",pair="BTC-KRW"} 1.7000000005e+09' in text
    assert "X-KRW" not in text
