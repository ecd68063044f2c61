"""A21: whatever becomes of Redis, a collector goes on with its pairs, and follows again once Redis is right."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from coin_platform.broker import MemoryBroker
from coin_platform.clock import wall
from coin_platform.cluster import Cluster, ClusterEntry
from coin_platform.cluster.pairs import PairSet
from coin_platform.cluster.redis import RedisStore
from coin_platform.cluster.status import statuses
from coin_platform.collect.collector import Collector
from coin_platform.errors import ClusterError, VersionConflict
from coin_platform.model import Channel, Pair, Region
from infra.stack import Redis
from tests.kit.clusters import cluster_of
from tests.kit.collecting import running, simulated, states
from tests.kit.kraken import HEARTBEAT, FakeKraken, Quick, fake_kraken
from tests.kit.waiting import eventually

pytestmark = pytest.mark.redis
BTC, ETH, SOL = (Pair(base, "USD") for base in ("BTC", "ETH", "SOL"))
KEY, HASH = "pairs/kraken", "coin:test:pairs"
PAUSE_MS = 3_000


class Fault(NamedTuple):
    """Something that happens to a Redis server, and what mends it."""

    happens: Callable[[Redis], object]
    is_mended: Callable[[Redis], object] = lambda server: None


def _fill(server: Redis) -> None:
    client = server.client()
    client.config_set("maxmemory", "1mb")
    with pytest.raises(redis.exceptions.ResponseError, match="maxmemory"):
        for number in range(100):
            client.set(f"other-{number}", bytes(100_000))


def _empty(server: Redis) -> None:
    client = server.client()
    client.config_set("maxmemory", "64mb")
    client.flushall()


def _misuse(server: Redis) -> None:
    client = server.client()
    client.delete(HASH)
    client.sadd(HASH, "other")


FAULTS = {
    "gone": Fault(lambda server: server.stop(), lambda server: server.start()),
    "restarted empty": Fault(_empty),
    "read-only": Fault(
        lambda server: server.client().replicaof("127.0.0.1", 1), lambda server: server.client().replicaof("no", "one")
    ),
    "full": Fault(_fill, _empty),
    "another type": Fault(_misuse, lambda server: server.client().delete(HASH)),
    "slow": Fault(lambda server: server.client().client_pause(PAUSE_MS)),
}


@pytest.fixture
def server(redis_server: Redis) -> Iterator[Redis]:
    """Give an empty server, and leave one that runs and is writable."""
    redis_server.client().flushall()
    yield redis_server
    redis_server.start()
    redis_server.client().replicaof("no", "one")
    _empty(redis_server)


class Looked(RedisStore):
    """A store that counts the looks of the collector, which come often."""

    look_seconds = 0.2
    looks = 0

    def read_all(self, prefix: str) -> dict[str, ClusterEntry]:
        try:
            return super().read_all(prefix)
        finally:
            self.looks += 1


def change(cluster: Cluster, *pairs: Pair) -> bool:
    """Change the active pairs as a command on another machine does. Return whether Redis took the change."""
    entry = cluster.get(KEY)
    try:
        cluster.put(KEY, PairSet(pairs={"*": pairs}).encode("a test", 1), entry.version if entry else 0)
    except (ClusterError, VersionConflict):
        return False
    return True


@pytest.mark.parametrize("name", FAULTS)
def test_C4_A21_a_collector_keeps_its_pairs_and_its_frames_through_a_fault_of_redis_and_follows_after_it(
    server: Redis, tmp_path: Path, name: str
) -> None:
    fault = FAULTS[name]
    store = Looked(server.address, "coin:test")
    cluster = cluster_of(store, tmp_path / "copies")
    commands = cluster_of(RedisStore(server.address, "coin:test"), tmp_path / "commands")
    assert change(commands, ETH, SOL)

    async def scenario() -> tuple[FakeKraken, Any]:
        async with fake_kraken() as fake:
            settings = simulated(fake, pairs=(BTC, ETH), channels=(Channel.TICKER,))
            collector = Collector(Region.NE, settings, MemoryBroker(), cluster, exchanges=[Quick()])
            async with running(collector):
                await eventually(lambda: states(collector) == {"live"} and store.looks > 1, 30)
                await asyncio.to_thread(fault.happens, server)
                looks, frames = store.looks, collector.status[0].frames
                await fake.say(HEARTBEAT)
                await eventually(lambda: collector.status[0].frames > frames)
                await eventually(lambda: store.looks >= looks + 2, 60)
                during = (collector.status[0].pairs, fake.methods("unsubscribe"), len(fake.opened))
                await asyncio.to_thread(fault.is_mended, server)
                while not await asyncio.to_thread(change, commands, ETH, SOL, BTC):
                    await asyncio.sleep(0.1)
                await eventually(lambda: set(collector.status[0].pairs) == {ETH, SOL, BTC}, 60)
                await eventually(lambda: states(collector) == {"live"}, 30)
                await eventually(lambda: _is_announced(commands), 60)
        return fake, during

    fake, during = asyncio.run(scenario())
    assert during == ((ETH, SOL), [], 1)
    assert fake.methods("subscribe") == [["ETH/USD", "SOL/USD"], ["BTC/USD"]]
    assert (fake.methods("unsubscribe"), len(fake.opened)) == ([], 1)
    cluster.close()
    commands.close()


def _is_announced(cluster: Cluster) -> bool:
    return any(status.name == "collector/ne" and status.state == "live" for status in statuses(cluster, wall()))
