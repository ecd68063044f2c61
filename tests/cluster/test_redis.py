"""The cluster on a real Redis that is stopped, emptied, filled, frozen and misused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coin_platform.cluster import ClusterEntry, HealthState, open_cluster
from coin_platform.cluster.last_good import LastGood
from coin_platform.cluster.redis import RedisStore
from coin_platform.errors import ClusterError, VersionConflict
from coin_platform.settings import Settings
from infra.stack import Redis
from tests.kit.clusters import cluster_of
from tests.kit.proxy import Proxy, Toxics
from tests.kit.waiting import until

pytestmark = pytest.mark.redis
KEY, HASH = "pairs/upbit", "coin:test:pairs"
BTC = b'{"pairs":{"*":["BTC-KRW"]}}'
ETH = b'{"pairs":{"*":["ETH-KRW"]}}'


@pytest.fixture
def server(redis_server: Redis) -> Iterator[Redis]:
    """Give an empty server, and leave one that runs and is writable."""
    redis_server.client().flushall()
    yield redis_server
    redis_server.start()
    client = redis_server.client()
    client.replicaof("no", "one")
    client.config_set("maxmemory", "64mb")


@pytest.fixture
def cluster(server: Redis, tmp_path: Path) -> Iterator[LastGood]:
    """Give a cluster with one set of pairs."""
    cluster = cluster_of(RedisStore(server.address, "coin:test"), tmp_path / "copies")
    cluster.put(KEY, BTC, 0)
    yield cluster
    cluster.close()


def restarted(server: Redis, tmp_path: Path) -> LastGood:
    """Return the cluster of another process of the same machine."""
    return cluster_of(RedisStore(server.address, "coin:test"), tmp_path / "copies")


def test_C4_A21_redis_gone_and_back(server: Redis, cluster: LastGood, tmp_path: Path) -> None:
    server.stop()
    for process in (cluster, restarted(server, tmp_path)):
        assert process.get(KEY) == ClusterEntry(1, BTC)
        assert process.entries("pairs/") == {KEY: ClusterEntry(1, BTC)}
        assert process.health.state is HealthState.DEGRADED
        assert "start it, or check COIN_REDIS_URL" in process.health.reason
        with pytest.raises(ClusterError, match="start it"):
            process.put(KEY, ETH, 1)
    server.start()
    assert cluster.put(KEY, ETH, 1) == 2
    assert cluster.get(KEY) == ClusterEntry(2, ETH)
    assert cluster.health.reason == ""


def test_C4_A21_redis_restarted_empty(server: Redis, cluster: LastGood, tmp_path: Path) -> None:
    cluster.put(KEY, ETH, 1)
    server.client().flushall()
    assert restarted(server, tmp_path).entries("pairs/") == {KEY: ClusterEntry(2, ETH)}
    assert RedisStore(server.address, "coin:test").read(KEY) == ClusterEntry(2, ETH), "it was put back"
    assert cluster.get(KEY) == ClusterEntry(2, ETH)
    assert cluster.health.reason == ""


def test_C4_A21_redis_read_only(server: Redis, cluster: LastGood) -> None:
    server.client().replicaof("127.0.0.1", 1)
    with pytest.raises(ClusterError, match="primary server"):
        cluster.put(KEY, ETH, 1)
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert cluster.health.state is HealthState.DEGRADED
    server.client().replicaof("no", "one")
    assert cluster.put(KEY, ETH, 1) == 2
    assert cluster.health.reason == ""


def test_C4_A21_redis_full(server: Redis, cluster: LastGood) -> None:
    server.client().config_set("maxmemory", "1mb")
    filled = server.client()
    with pytest.raises(Exception, match="maxmemory"):
        for number in range(100):
            filled.set(f"other-{number}", bytes(100_000))
    with pytest.raises(ClusterError, match="give it more memory"):
        cluster.put(KEY, ETH, 1)
    with pytest.raises(ClusterError, match="give it more memory"):
        cluster.announce("status/a", b"", 5)
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert cluster.health.state is HealthState.DEGRADED


@pytest.mark.parametrize("is_empty", [True, False])
def test_C4_A21_something_else_keeps_our_key(server: Redis, cluster: LastGood, is_empty: bool) -> None:
    server.client().delete(HASH)
    server.client().sadd(HASH, "other")
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert f"something else keeps the key {HASH}; delete it there" in cluster.health.reason
    with pytest.raises(ClusterError, match="something else keeps the key"):
        cluster.put(KEY, ETH, 1)
    server.client().delete(HASH)
    assert cluster.get(KEY) == ClusterEntry(1, BTC)
    assert cluster.health.reason == ""


@pytest.mark.parametrize(
    "nonsense", [b"", b"BTC-KRW", b"x 0 -\n{}", b"2 0 -\n{}", b"\xff\xfe", b"99999999999999999999 0 -\n"]
)
def test_C4_A21_redis_answers_nonsense(server: Redis, cluster: LastGood, tmp_path: Path, nonsense: bytes) -> None:
    cluster.put("pairs/okx", ETH, 0)
    server.client().hset(HASH, "upbit", nonsense)
    for process in (cluster, restarted(server, tmp_path)):
        assert process.get(KEY) == ClusterEntry(1, BTC)
        assert process.entries("pairs/") == {KEY: ClusterEntry(1, BTC), "pairs/okx": ClusterEntry(1, ETH)}
        assert process.health.state is HealthState.DEGRADED
        assert "pairs/upbit" in process.health.reason or f"{HASH} upbit" in process.health.reason
    assert server.client().hget(HASH, "upbit") == nonsense
    assert cluster.put("pairs/okx", BTC, 1) == 2, "one nonsense holds up no other exchange"
    server.client().hdel(HASH, "upbit")
    assert cluster.put(KEY, ETH, 1) == 2


def test_C4_A21_redis_does_not_answer(server: Redis, tmp_path: Path) -> None:
    with Proxy(f"127.0.0.1:{server.port}") as proxy:
        cluster = cluster_of(RedisStore(f"redis://{proxy.address}/0", "coin:test"), tmp_path / "copies")
        cluster.put(KEY, BTC, 0)
        proxy.up = Toxics(timeout=0)
        assert cluster.get(KEY) == ClusterEntry(1, BTC)
        assert cluster.health.state is HealthState.DEGRADED
        proxy.up = Toxics()
        until(lambda: cluster.get(KEY) and not cluster.health.reason)
        cluster.close()


def test_a_put_whose_answer_was_lost_is_not_a_conflict(server: Redis, tmp_path: Path) -> None:
    with Proxy(f"127.0.0.1:{server.port}") as proxy:
        cluster = cluster_of(RedisStore(f"redis://{proxy.address}/0", "coin:test"), tmp_path / "copies")
        cluster.put(KEY, BTC, 0)
        stored = RedisStore(server.address, "coin:test")
        proxy.down = Toxics(timeout=0)  # Redis stores, and nobody hears of it
        with pytest.raises(ClusterError):
            cluster.put(KEY, ETH, 1)
        assert stored.read(KEY) == ClusterEntry(2, ETH)
        proxy.down = Toxics()
        cluster.close()


def test_a_call_that_the_client_repeats_meets_its_own_entry(server: Redis) -> None:
    store = RedisStore(server.address, "coin:test")
    swap = store._swap

    def answered_twice(*arguments: object) -> object:
        swap(*arguments)
        return swap(*arguments)

    store._swap = answered_twice
    store.swap(KEY, BTC, 0, 1)
    with pytest.raises(VersionConflict):
        store.swap(KEY, BTC, 0, 1)


def test_hints_go_on_after_a_restart_of_redis(server: Redis, cluster: LastGood) -> None:
    changes = cluster.changes()
    changes.wait(10)  # subscribed
    server.stop()
    server.start()
    while cluster.get(KEY) is None or cluster.health.reason:
        changes.wait(1)
    changes.wait(1)  # the new connection
    cluster.put(KEY, ETH, 1)
    changes.wait(60)
    assert cluster.get(KEY) == ClusterEntry(2, ETH)
    changes.close()
    changes.wait(60)


def test_C3_a_password_is_neither_in_errors_nor_in_the_place(server: Redis, tmp_path: Path) -> None:
    url = f"redis://user:xK9-hidden@127.0.0.1:{server.port}/0"
    cluster = open_cluster(Settings(home=tmp_path, redis_url=url))
    assert cluster.entries("pairs/") == {}
    assert "check the user and the password in COIN_REDIS_URL" in cluster.health.reason
    assert "xK9-hidden" not in cluster.health.reason
    with pytest.raises(ClusterError) as error:
        cluster.put(KEY, BTC, 0)
    assert "xK9-hidden" not in str(error.value)
    cluster.close()


def test_deployments_and_stores_are_apart(server: Redis, tmp_path: Path) -> None:
    def opened(**values: object) -> LastGood:
        cluster = open_cluster(Settings(home=tmp_path, **values))  # type: ignore[arg-type]
        assert isinstance(cluster, LastGood)
        return cluster

    one, two = opened(redis_url=server.address), opened(redis_url=server.address, deployment="two")
    files = opened()
    one.put(KEY, BTC, 0)
    assert (two.get(KEY), files.get(KEY)) == (None, None)
    files.put(KEY, ETH, 0)
    files.put(KEY, ETH, 1)
    assert opened(redis_url=server.address).get(KEY) == ClusterEntry(1, BTC)
    assert sorted(server.client().keys()) == [b"coin:default:pairs"]
    for cluster in (one, two, files):
        cluster.close()
