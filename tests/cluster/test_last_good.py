"""The last good values stay in force when the store is away, empty, read-only or holds nonsense."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coin_platform.cluster import ClusterEntry, HealthState
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.last_good import LastGood
from coin_platform.errors import ClusterError, VersionConflict
from tests.kit.clusters import FaultyStore, cluster_of

KEY = "pairs/upbit"
BTC = b'{"pairs":{"*":["BTC-KRW"]}}'
ETH = b'{"pairs":{"*":["ETH-KRW"]}}'


@pytest.fixture
def store(tmp_path: Path) -> FaultyStore:
    """Give an empty store that fails on demand."""
    return FaultyStore(FileStore(tmp_path / "store"))


@pytest.fixture
def cluster(store: FaultyStore, tmp_path: Path) -> Iterator[LastGood]:
    """Give a cluster with one set of pairs."""
    cluster = cluster_of(store, tmp_path / "copies")
    cluster.put(KEY, BTC, 0)
    yield cluster
    cluster.close()


def restarted(store: FaultyStore, tmp_path: Path) -> LastGood:
    """Return the cluster of another process of the same machine."""
    return cluster_of(store, tmp_path / "copies")


def test_C4_a_store_that_is_away_leaves_the_last_good_set_in_force_also_after_a_restart(
    store: FaultyStore, cluster: LastGood, tmp_path: Path
) -> None:
    good_since = cluster.health.since
    store.reads_fail = store.writes_fail = True
    for process in (cluster, restarted(store, tmp_path)):
        assert process.get(KEY) == ClusterEntry(1, BTC)
        assert process.entries("pairs/") == {KEY: ClusterEntry(1, BTC)}
        assert process.health.state is HealthState.DEGRADED
        assert process.health.since > good_since
        assert "away; start it" in process.health.reason
        with pytest.raises(ClusterError, match="away"):
            process.put(KEY, ETH, 1)
        with pytest.raises(ClusterError, match="away"):
            process.announce("status/a", b"", 5)
        with pytest.raises(ClusterError, match="away"):
            process.entries("status/")
    store.reads_fail = store.writes_fail = False
    assert cluster.put(KEY, ETH, 1) == 2
    assert cluster.get(KEY) == ClusterEntry(2, ETH)
    assert cluster.health.reason == ""


def test_C4_since_when_it_is_degraded_stays_while_the_reasons_change(store: FaultyStore, cluster: LastGood) -> None:
    store.writes_fail = True
    with pytest.raises(ClusterError):
        cluster.announce("status/a", b"", 5)
    since = cluster.health.since
    store.reads_fail = True
    cluster.get(KEY)
    store.writes_fail = False
    cluster.announce("status/a", b"", 5)
    assert cluster.health.since == since
    assert cluster.health.state is HealthState.DEGRADED


def test_C4_an_emptied_store_gets_its_values_back_with_their_versions(
    store: FaultyStore, cluster: LastGood, tmp_path: Path
) -> None:
    cluster.put(KEY, ETH, 1)
    store.store = FileStore(tmp_path / "anew")
    assert cluster.entries("pairs/") == {KEY: ClusterEntry(2, ETH)}
    assert store.read(KEY) == ClusterEntry(2, ETH)
    assert cluster.health.reason == ""


def test_C4_an_emptied_store_that_cannot_be_written_is_degraded_and_loses_no_pair(
    store: FaultyStore, cluster: LastGood, tmp_path: Path
) -> None:
    store.store, store.writes_fail = FileStore(tmp_path / "anew"), True
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert cluster.health.state is HealthState.DEGRADED
    assert "has lost" in cluster.health.reason
    store.writes_fail = False
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert store.read(KEY) == ClusterEntry(1, BTC)
    assert cluster.health.reason == ""


def test_C4_a_store_that_went_back_to_an_older_version_is_mended(
    store: FaultyStore, cluster: LastGood, tmp_path: Path
) -> None:
    cluster.put(KEY, ETH, 1)
    store.store = FileStore(tmp_path / "backup")
    store.swap(KEY, BTC, 0, 1)
    assert cluster.get(KEY) == ClusterEntry(2, ETH)
    assert store.read(KEY) == ClusterEntry(2, ETH)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"", b"null", b"[]", b"{}", b'{"pairs":[]}', b'{"pairs":{}}', b'{"pairs":{"*":[]}}',
        b'{"pairs":{"*":"BTC-KRW"}}',
        b'{"pairs":{"*":["BTC"]}}', b'{"pairs":{"books":["BTC-KRW"]}}', b'{"pairs":{"*":["BTC-KRW"]},"time":1e999}',
        b'{"pairs":{"*":["\xff-KRW"]}}', b'{"pairs":{"*":["BTC-KRW"]', b"\x80\x04garbage",
    ],
)  # fmt: skip
def test_C4_nonsense_never_unsubscribes_a_pair_and_a_new_put_replaces_it(
    store: FaultyStore, cluster: LastGood, tmp_path: Path, nonsense: bytes
) -> None:
    store.swap(KEY, nonsense, 1, 5)
    for process in (cluster, restarted(store, tmp_path)):
        assert process.get(KEY) == ClusterEntry(1, BTC)
        assert process.entries("pairs/") == {KEY: ClusterEntry(1, BTC)}
        assert process.health.state is HealthState.DEGRADED
        assert "not a set of pairs" in process.health.reason
    assert store.read(KEY) == ClusterEntry(5, nonsense), "what is not understood may be of a newer version: it stays"
    assert cluster.put(KEY, ETH, 1) == 6
    assert restarted(store, tmp_path).get(KEY) == ClusterEntry(6, ETH)
    assert cluster.health.reason == ""


def test_C4_a_set_that_is_explicitly_empty_holds(cluster: LastGood) -> None:
    empty = b'{"pairs":{"*":[]},"explicit":true}'
    cluster.put(KEY, empty, 1)
    assert cluster.get(KEY) == ClusterEntry(2, empty)
    assert cluster.health.reason == ""


def test_C4_machines_whose_copies_differ_agree_on_the_highest_version(
    store: FaultyStore, cluster: LastGood, tmp_path: Path
) -> None:
    late = cluster_of(store, tmp_path / "late")
    assert late.get(KEY) == ClusterEntry(1, BTC)
    cluster.put(KEY, ETH, 1)
    store.store = FileStore(tmp_path / "anew")
    assert late.get(KEY) == ClusterEntry(1, BTC)  # all that this machine knows
    assert cluster.get(KEY) == ClusterEntry(2, ETH)
    assert late.get(KEY) == ClusterEntry(2, ETH)


def test_a_put_on_the_set_in_force_mends_an_emptied_store(
    store: FaultyStore, cluster: LastGood, tmp_path: Path
) -> None:
    cluster.put(KEY, ETH, 1)
    store.store = FileStore(tmp_path / "anew")
    assert cluster.put(KEY, BTC, 2) == 3
    assert store.read(KEY) == ClusterEntry(3, BTC)


def test_a_put_on_an_older_version_is_a_conflict_also_when_the_store_was_emptied(
    store: FaultyStore, cluster: LastGood, tmp_path: Path
) -> None:
    cluster.put(KEY, ETH, 1)
    store.store = FileStore(tmp_path / "anew")
    with pytest.raises(VersionConflict):
        cluster.put(KEY, BTC, 1)


def test_a_damaged_file_is_named_and_the_copy_holds(cluster: LastGood, tmp_path: Path) -> None:
    (tmp_path / "store/pairs/upbit").write_bytes(b"half a fi")
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert str(tmp_path / "store/pairs/upbit") in cluster.health.reason
    assert "delete it" in cluster.health.reason
    (tmp_path / "store/pairs/upbit").unlink()
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert cluster.health.reason == ""


def test_copies_that_cannot_be_kept_are_degraded_and_stop_nothing(store: FaultyStore, tmp_path: Path) -> None:
    (tmp_path / "copies").write_text("a file is in the way")
    cluster = restarted(store, tmp_path)
    assert cluster.put(KEY, BTC, 0) == 1
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert cluster.health.state is HealthState.DEGRADED
    store.reads_fail = True
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
