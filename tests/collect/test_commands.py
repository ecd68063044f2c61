"""A feed replaces its connection when it is told to, and data goes on meanwhile."""

import asyncio
from pathlib import Path

from coin_platform.broker import MemoryBroker
from coin_platform.clock import wall
from coin_platform.cluster.commands import OBEYED_FOR, give, reconnect_key
from coin_platform.cluster.files import FileStore
from coin_platform.collect.collector import Collector
from coin_platform.collect.commands import FeedCommands
from coin_platform.errors import ClusterError
from coin_platform.model import Channel, Kind, Pair, Region
from coin_platform.records import unpack_facts
from coin_platform.topic_names import raw_topic
from tests.kit.clusters import FaultyStore, cluster_of
from tests.kit.collecting import live, simulated, states
from tests.kit.kraken import Quick, fake_kraken, records, values
from tests.kit.waiting import eventually

PAIRS = (Pair("BTC", "USD"), Pair("ETH", "USD"))
KEY = reconnect_key("kraken", Channel.TICKER, 0)


async def test_a_feed_told_to_reconnect_opens_a_successor_first(tmp_path: Path) -> None:
    broker = MemoryBroker()
    store = FaultyStore(FileStore(tmp_path / "store"))
    give(cluster_of(store, tmp_path / "api"), KEY, "before the start", wall())

    async with fake_kraken() as fake:
        settings = simulated(fake, pairs=PAIRS, channels=(Channel.TICKER,))
        cluster = cluster_of(store, tmp_path / "copies")
        collector = Collector(Region.NE, settings, broker, cluster, exchanges=[Quick()])
        async with live(collector):
            api = cluster_of(store, tmp_path / "api")
            give(api, KEY, "a test", wall())
            await eventually(lambda: len(fake.opened) == 2)
            await eventually(lambda: states(collector) == {"live"} and len(collector.feeds[0].connections) == 1)
            give(api, reconnect_key("kraken", Channel.TICKER, 1), "of no feed", wall())
            give(api, KEY, "too late", wall() - 2 * OBEYED_FOR)
            store.reads_fail = True
            await eventually(lambda: cluster.health.reason)
            store.reads_fail = False
            await eventually(lambda: not cluster.health.reason)
        assert len(fake.opened) == 2
    kinds = [
        unpack_facts(value).reason for value in values(records(broker, raw_topic("ne", Channel.TICKER)), Kind.CLOSED)
    ]
    assert kinds[0] == "replaced"


async def test_a_store_that_cannot_be_read_commands_nothing(tmp_path: Path) -> None:
    class Away:
        looks = 0

        def new(self) -> dict[str, object]:
            self.looks += 1
            raise ClusterError("redis: away; start it")

    commands = FeedCommands(cluster_of(FaultyStore(FileStore(tmp_path)), tmp_path / "copies"), list)
    away = commands._reader = Away()  # type: ignore[assignment]
    stop = asyncio.Event()
    task = asyncio.create_task(commands.run(stop, look_seconds=0.001))
    await eventually(lambda: away.looks > 2)
    stop.set()
    await task
