"""A collector follows the active pairs of the cluster while it runs, whatever becomes of the store."""

import asyncio
import threading
from pathlib import Path

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.cluster import ClusterEntry
from coin_platform.cluster.commands import PREFIX as COMMANDS
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.last_good import LastGood
from coin_platform.cluster.pairs import PREFIX as PAIRS
from coin_platform.cluster.pairs import PairSet
from coin_platform.cluster.redis import RedisStore
from coin_platform.collect.collector import Collector
from coin_platform.model import Channel, Kind, Pair, Region
from coin_platform.records import unpack_facts
from coin_platform.topic_names import raw_topic
from infra.stack import Redis
from tests.kit.clusters import FaultyStore, cluster_of
from tests.kit.collecting import live, simulated, states
from tests.kit.kraken import BOOKS, HEARTBEAT, FakeKraken, Quick, fake_kraken, records, values
from tests.kit.waiting import eventually

BTC, ETH, SOL = (Pair(base, "USD") for base in ("BTC", "ETH", "SOL"))
KEY, TICKERS = "pairs/kraken", raw_topic("ne", Channel.TICKER)


@pytest.fixture
def store(tmp_path: Path) -> FaultyStore:
    """Give an empty store."""
    return FaultyStore(FileStore(tmp_path / "store"))


def machine(store: FaultyStore, tmp_path: Path) -> LastGood:
    """Return the cluster as a process of this machine has it."""
    return cluster_of(store, tmp_path / "copies")


def put(store: FaultyStore, tmp_path: Path, **pairs: list[Pair]) -> None:
    """Change the active pairs, as a command in another process does. `star` is `*`."""
    cluster = cluster_of(store, tmp_path / "commands")
    entry = cluster.get(KEY)
    pair_set = PairSet(pairs={name.replace("star", "*"): tuple(entries) for name, entries in pairs.items()})
    cluster.put(KEY, pair_set.encode("a test", 1), entry.version if entry else 0)


def collector_of(
    fake: FakeKraken, store: FaultyStore, tmp_path: Path, broker: MemoryBroker | None = None, **more: object
) -> Collector:
    settings = simulated(fake, pairs=(BTC, ETH), **more)
    return Collector(Region.NE, settings, broker or MemoryBroker(), machine(store, tmp_path), exchanges=[Quick()])


def carried(collector: Collector) -> dict[str, tuple[Pair, ...]]:
    return {status.channel.value: status.pairs for status in collector.status}


async def test_only_the_difference_is_sent_and_a_record_of_the_log_marks_it(store: FaultyStore, tmp_path: Path) -> None:
    broker = MemoryBroker()

    async with fake_kraken() as fake:
        collector = collector_of(fake, store, tmp_path, broker, channels=(Channel.TICKER,))
        async with live(collector):
            put(store, tmp_path, star=[ETH, SOL])
            await eventually(lambda: len(fake.methods("subscribe")) == 2 and fake.methods("unsubscribe"))
            await eventually(lambda: states(collector) == {"live"})
            assert len(fake.opened) == 1
            assert carried(collector) == {"ticker": (ETH, SOL)}
    assert sorted(fake.methods("subscribe")) == [["BTC/USD", "ETH/USD"], ["SOL/USD"]]
    assert fake.methods("unsubscribe") == [["BTC/USD"]]
    logged = [unpack_facts(value).pairs for value in values(records(broker, TICKERS), Kind.PAIRS)]
    assert ["ETH-USD", "SOL-USD"] in logged


@pytest.mark.redis
def test_changes_in_redis_are_followed_by_their_hints_and_its_loss_unsubscribes_nothing(
    redis_server: Redis, tmp_path: Path
) -> None:
    redis_server.client().flushall()
    store = FaultyStore(RedisStore(redis_server.address, "coin:followed"))

    async def scenario() -> FakeKraken:
        async with fake_kraken() as fake:
            collector = collector_of(fake, store, tmp_path, channels=(Channel.TICKER,))
            async with live(collector):
                for pairs in ([BTC, ETH, SOL], [ETH, SOL], [SOL]):
                    await asyncio.to_thread(put, store, tmp_path, star=pairs)
                    await eventually(lambda pairs=pairs: carried(collector) == {"ticker": tuple(pairs)})  # type: ignore[misc]
                redis_server.client().flushall()
                redis_server.stop()
                await asyncio.sleep(1.5)  # in which the collector tries to read
                assert carried(collector) == {"ticker": (SOL,)}
                redis_server.start()
                await asyncio.to_thread(put, store, tmp_path, star=[SOL, BTC])
                await eventually(lambda: carried(collector) == {"ticker": (SOL, BTC)}, RedisStore.look_seconds + 8)
        return fake

    try:
        fake = asyncio.run(scenario())
    finally:
        redis_server.start()
    assert fake.methods("unsubscribe") == [["BTC/USD"], ["ETH/USD"]]
    assert fake.methods("subscribe")[-1] == ["BTC/USD"]


async def test_a_channel_follows_its_own_entry_and_the_others_the_star(store: FaultyStore, tmp_path: Path) -> None:
    async with fake_kraken() as fake:
        collector = collector_of(fake, store, tmp_path)
        async with live(collector):
            put(store, tmp_path, star=[BTC, ETH], orderbook=[BTC])
            await eventually(lambda: carried(collector) == {"ticker": (BTC, ETH), "orderbook": (BTC,)})
            await eventually(lambda: fake.methods("unsubscribe"))
            put(store, tmp_path, star=[BTC], orderbook=[BTC, SOL])
            await eventually(lambda: carried(collector) == {"ticker": (BTC,), "orderbook": (BTC, SOL)})
            await eventually(lambda: len(fake.methods("unsubscribe")) == 2)
    assert fake.methods("unsubscribe") == [["ETH/USD"], ["ETH/USD"]]
    assert sorted(fake.methods("subscribe")) == [["BTC/USD", "ETH/USD"], ["BTC/USD", "ETH/USD"], ["SOL/USD"]]


def test_after_a_restart_the_set_is_what_it_was(store: FaultyStore, tmp_path: Path) -> None:
    put(store, tmp_path, star=[SOL])

    async def scenario(store: FaultyStore) -> FakeKraken:
        async with fake_kraken() as fake:
            collector = collector_of(fake, store, tmp_path, channels=(Channel.TICKER,))
            async with live(collector):
                pass
        return fake

    assert asyncio.run(scenario(store)).methods("subscribe") == [["SOL/USD"]]
    store.reads_fail = store.writes_fail = True
    fake = asyncio.run(scenario(store))
    assert fake.methods("subscribe") == [["SOL/USD"]], "the store is away: the copy on this disk counts"


@pytest.mark.parametrize("fault", ["away", "emptied", "nonsense", "an empty set"])
async def test_C4_the_last_good_set_stays_in_force_when_the_store_fails(
    store: FaultyStore, tmp_path: Path, fault: str
) -> None:
    put(store, tmp_path, star=[ETH, SOL])
    async with fake_kraken() as fake:
        collector = collector_of(fake, store, tmp_path, channels=(Channel.TICKER,))
        cluster = machine(store, tmp_path)
        async with live(collector):
            if fault == "away":
                store.reads_fail = True
            elif fault == "emptied":
                store.store = FileStore(tmp_path / "anew")
            elif fault == "nonsense":
                store.swap(KEY, b"nonsense", 1, 2)
            else:
                store.swap(KEY, b'{"pairs":{"*":[]}}', 1, 2)
            assert cluster.get(KEY) is not None
            for _ in range(3):  # each with a look of the collector
                await asyncio.sleep(0.6)
                await fake.say(HEARTBEAT)
            assert carried(collector) == {"ticker": (ETH, SOL)}
    assert fake.methods("unsubscribe") == []
    assert fake.methods("subscribe") == [["ETH/USD", "SOL/USD"]]


def test_C4_a_store_that_hangs_holds_up_no_frame_and_no_end(store: FaultyStore, tmp_path: Path) -> None:
    hangs, released = threading.Event(), threading.Event()
    hanging: set[str] = set()
    broker = MemoryBroker()

    class Hanging(FaultyStore):
        def read_all(self, prefix: str) -> dict[str, ClusterEntry]:
            if hangs.is_set():
                hanging.add(prefix)
                released.wait()
            return super().read_all(prefix)

    async def scenario() -> None:
        async with fake_kraken() as fake:
            collector = collector_of(fake, Hanging(store), tmp_path, broker)
            async with live(collector):
                hangs.set()
                frames = collector.status[0].frames
                await eventually(lambda: {PAIRS, COMMANDS} <= hanging, 30)
                for _ in range(20):
                    await fake.say(HEARTBEAT, which=0)
                await eventually(lambda: sum(status.frames for status in collector.status) >= frames + 20)

    try:
        asyncio.run(scenario())
    finally:
        released.set()
    assert values(records(broker, BOOKS), Kind.CLOSED)


async def test_a_pair_that_the_exchange_refuses_is_named_in_the_status(store: FaultyStore, tmp_path: Path) -> None:
    async with fake_kraken() as fake:
        fake.unknown.add("SOL/USD")
        collector = collector_of(fake, store, tmp_path, channels=(Channel.TICKER,))
        async with live(collector):
            put(store, tmp_path, star=[BTC, ETH, SOL])
            await eventually(lambda: SOL in collector.status[0].refused)
            assert states(collector) == {"live"}
