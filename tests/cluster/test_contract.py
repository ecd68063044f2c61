"""What every cluster does: on files, and on a real Redis."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coin_platform.cluster import Cluster, ClusterEntry, HealthState
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.redis import RedisStore
from coin_platform.cluster.store import ClusterStore
from coin_platform.errors import BadArgument, VersionConflict
from infra.stack import Redis
from tests.kit.clusters import cluster_of
from tests.kit.waiting import until

KEY = "pairs/upbit"
BTC = b'{"pairs":{"*":["BTC-KRW"]}}'
ETH = b'{"pairs":{"*":["ETH-KRW"]}}'


@pytest.fixture(params=["files", pytest.param("redis", marks=pytest.mark.redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ClusterStore:
    """Give an empty store."""
    if request.param == "files":
        return FileStore(tmp_path / "store")
    server: Redis = request.getfixturevalue("redis_server")
    server.client().flushall()
    return RedisStore(server.address, "coin:test")


@pytest.fixture
def cluster(store: ClusterStore, tmp_path: Path) -> Iterator[Cluster]:
    """Give the cluster of one process."""
    cluster = cluster_of(store, tmp_path / "copies")
    yield cluster
    cluster.close()


def test_a_value_is_read_as_it_was_put_and_its_version_rises(cluster: Cluster) -> None:
    assert cluster.get(KEY) is None
    assert cluster.put(KEY, BTC, 0) == 1
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert cluster.put(KEY, ETH, 1) == 2
    assert cluster.entries("pairs/") == {KEY: ClusterEntry(2, ETH)}
    assert cluster.health.state is HealthState.GOOD


def test_a_put_on_an_older_version_changes_nothing_and_names_the_newer_one(cluster: Cluster) -> None:
    cluster.put(KEY, BTC, 0)
    cluster.put(KEY, ETH, 1)
    for version in (0, 1, 3):
        with pytest.raises(VersionConflict, match=r"pairs/upbit.*version 2") as conflict:
            cluster.put(KEY, BTC, version)
        assert conflict.value.version == 2
    assert cluster.get(KEY) == ClusterEntry(2, ETH)


def test_any_bytes_come_back_as_they_are(cluster: Cluster) -> None:
    value = bytes(range(256)) + b"\n1 0\n"
    cluster.put("other/any.name-1", value, 0)
    cluster.put("other/empty", b"", 0)
    assert cluster.entries("other/") == {
        "other/any.name-1": ClusterEntry(1, value),
        "other/empty": ClusterEntry(1, b""),
    }


def test_of_eight_writers_of_one_version_one_wins_each_round(store: ClusterStore, tmp_path: Path) -> None:
    lost: list[int] = []

    def write(number: int) -> None:
        cluster, done = cluster_of(store, tmp_path / f"copies-{number}"), 0
        while done < 10:
            entry = cluster.get("other/count") or ClusterEntry(0, b"0")
            try:
                cluster.put("other/count", b"%d" % (int(entry.value) + 1), entry.version)
            except VersionConflict:
                lost.append(number)
            else:
                done += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("other/count") == ClusterEntry(80, b"80"), f"{len(lost)} lost"


def test_an_announced_value_is_gone_after_its_time_or_at_once(cluster: Cluster) -> None:
    cluster.announce("status/a", b"here", 60)
    cluster.announce("status/b", b"soon gone", 0.2)
    cluster.announce("status/c", b"ended", 60)
    cluster.announce("status/c", b"", 0)
    until(lambda: "status/b" not in cluster.entries("status/"))
    assert cluster.entries("status/") == {"status/a": ClusterEntry(0, b"here")}
    cluster.announce("status/a", b"again", 60)
    assert cluster.get("status/a") == ClusterEntry(0, b"again")


@pytest.mark.parametrize(
    "key", ["pairs", "pairs/", "/upbit", "pairs/../x", "pairs/a/b", "pairs/.lock", "pairs/a\nb", ""]
)
def test_a_key_that_could_leave_its_place_is_refused(cluster: Cluster, key: str) -> None:
    with pytest.raises(BadArgument, match="is not a key"):
        cluster.put(key, BTC, 0)


def test_status_is_announced_and_all_else_is_put(cluster: Cluster) -> None:
    with pytest.raises(BadArgument, match="are announced"):
        cluster.put("status/a", b"", 0)
    with pytest.raises(BadArgument, match="are put"):
        cluster.announce(KEY, BTC, 5)
    with pytest.raises(BadArgument, match="more than"):
        cluster.put(KEY, bytes((4 << 20) + 1), 0)


def test_a_change_by_another_process_wakes_its_followers(store: ClusterStore, cluster: Cluster, tmp_path: Path) -> None:
    seen: list[ClusterEntry | None] = []
    changes = cluster.changes()

    def follow() -> None:
        seen.append(cluster.get(KEY))
        while ClusterEntry(2, ETH) not in seen:
            changes.wait(3600)
            seen.append(cluster.get(KEY))

    thread = threading.Thread(target=follow)
    thread.start()
    other = cluster_of(store, tmp_path / "others")
    other.put(KEY, BTC, 0)
    until(lambda: ClusterEntry(1, BTC) in seen)
    other.put(KEY, ETH, 1)
    thread.join(20)
    assert ClusterEntry(2, ETH) in seen


def test_closing_the_hints_ends_the_wait_of_another_thread(cluster: Cluster) -> None:
    changes = cluster.changes()
    thread = threading.Thread(target=changes.wait, args=(3600,))
    thread.start()
    time.sleep(0.05)  # until it waits
    changes.close()
    thread.join(20)
    assert not thread.is_alive()
