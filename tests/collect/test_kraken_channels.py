"""All channels of Kraken against the simulated exchange: pairs change while the sockets stay open."""

from pathlib import Path

from coin_platform.broker import MemoryBroker
from coin_platform.collect.collector import Collector
from coin_platform.collect.status import FeedStatus
from coin_platform.exchanges.kraken import Kraken
from coin_platform.model import Channel, Kind, Pair, Region
from coin_platform.records import unpack
from coin_platform.selection import sources
from coin_platform.settings import Mode, Settings
from coin_platform.simulator.server import Simulator
from coin_platform.tables.dataframes import Batch, batch
from tests.kit.collecting import running
from tests.kit.served_simulator import served
from tests.kit.waiting import eventually

BTC, ETH, SOL = (Pair(base, "USD") for base in ("BTC", "ETH", "SOL"))
KRAKEN = Kraken()
PONG = b'"method":"pong"'


def test_every_channel_of_kraken_follows_added_and_dropped_pairs_without_a_new_socket(tmp_path: Path) -> None:
    broker = MemoryBroker()
    made: dict[Channel, Batch] = {}
    dropped_at: dict[Channel, int] = {}
    feeds: dict[Channel, FeedStatus] = {}

    def end(channel: Channel) -> int:
        return broker.end_offset(topics[channel], KRAKEN.partition)

    def table(channel: Channel) -> Batch:
        return batch(by_channel[channel], broker.read(topics[channel], KRAKEN.partition, 0, end(channel)))

    def has(pair: Pair) -> bool:
        return all(str(pair) in table(channel).rows["pair"] for channel in Channel)

    settings = Settings(exchanges=("kraken",), pairs=(BTC, ETH), ping_every=0.2)
    by_channel = {source.channel: source for source in sources(KRAKEN, settings)}
    topics = {channel: source.topic for channel, source in by_channel.items()}

    async def work(port: int, _: Simulator) -> None:
        live = settings.model_copy(update={"exchanges_mode": Mode.SIMULATED, "simulator_port": port})
        collector = Collector(Region.NE, live, broker)
        async with running(collector):
            await eventually(lambda: has(BTC) and has(ETH), seconds=30)
            collector.follow("kraken", [BTC, SOL])
            await eventually(lambda: has(SOL), seconds=30)
            await eventually(lambda: all(feed.status.pairs == (BTC, SOL) for feed in collector.feeds))
            await eventually(lambda: not any(feed.status.unconfirmed for feed in collector.feeds))
            dropped_at.update((channel, end(channel)) for channel in Channel)
            grown = {channel: end(channel) + 5 for channel in Channel}
            await eventually(lambda: all(end(channel) >= most for channel, most in grown.items()), seconds=30)
            feeds.update((feed.route.channel, feed.status) for feed in collector.feeds)
            made.update((channel, table(channel)) for channel in Channel)

    served(tmp_path, work)
    assert {status.state for status in feeds.values()} == {"live"}
    assert {status.transport for status in feeds.values()} == {"ws"}
    assert {status.reconnects for status in feeds.values()} == {0}
    for channel, result in made.items():
        assert not result.transform.dead, channel
        records = list(broker.read(topics[channel], KRAKEN.partition, 0, end(channel)))
        opened = [record for record in records if unpack(record.header).kind is Kind.OPENED]
        assert len({unpack(record.header).connection for record in opened}) == 2, channel  # the feed and its one socket
        assert any(PONG in record.value for record in records), channel
        if channel is not Channel.INSTRUMENT:  # whose list is about all pairs
            late = result.rows.filter(result.rows["offset"] >= dropped_at[channel])
            assert set(late["pair"]) <= {str(BTC), str(SOL)}, channel


def test_kraken_is_pinged_every_five_seconds() -> None:
    assert (KRAKEN.ping, KRAKEN.ping_every) == ('{"method":"ping"}', 5.0)
