"""What exchanges list, from the simulated exchange to the table: Kraken over its socket, Gate.io over REST."""

import logging
from pathlib import Path

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.collect.collector import Collector
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Pair
from coin_platform.preprocess.partition import Partition
from coin_platform.selection import sources
from coin_platform.settings import Mode, Settings
from coin_platform.simulator.server import Simulator
from coin_platform.tables import quality
from coin_platform.tables.dataframes import Batch, batch
from coin_platform.tables.gap_table import Gaps
from coin_platform.topic_names import processed_topic
from tests.kit.collecting import running
from tests.kit.served_simulator import served
from tests.kit.waiting import eventually

NOPE = "NOPE"


class Run:
    """A collector of the list of one simulated exchange."""

    def __init__(self, name: str, port: int) -> None:
        self.exchange, self.broker = EXCHANGES[name], MemoryBroker()
        self.settings = Settings(
            exchanges_mode=Mode.SIMULATED,
            simulator_port=port,
            exchanges=(name,),
            channels=(Channel.INSTRUMENT,),
            pairs=(self.pair("BTC"), self.pair("XRP")),
            ping_every=0.2,
        )
        self.collector = Collector(self.exchange.region, self.settings, self.broker)
        [self.source] = sources(self.exchange, self.settings)
        self.place = (self.source.topic, self.source.partition)

    def pair(self, base: str) -> Pair:
        return Pair(base, self.exchange.quote)

    def table(self) -> Batch:
        """Return the table of all records so far."""
        return batch(self.source, self.broker.read(*self.place, 0, self.broker.end_offset(*self.place)))

    def told(self) -> list[tuple[str, str, str | None]]:
        rows = self.table().rows.sort("offset", "index").select("pair", "state", "change").rows()
        return [(pair.partition("-")[0], state, change) for pair, state, change in rows]

    def gaps(self) -> set[str]:
        """Return the causes of the gaps so far."""
        gaps = Gaps(self.source, None)
        gaps.read(self.broker.read(*self.place, 0, self.broker.end_offset(*self.place)))
        return set(gaps.table()["cause"])

    async def follow(self, simulator: Simulator) -> None:
        """Collect, until a pair is added and a wanted pair has vanished from the list."""
        [feed] = self.collector.feeds
        listed = list(simulator.market.listings[self.exchange.name])
        async with running(self.collector):
            await eventually(lambda: len(self.told()) == len(listed))
            await eventually(lambda: feed.status.state == "live" and not feed.status.unconfirmed)
            assert feed.status.not_traded == {}
            simulator.faults[self.exchange.name].refuse = self.exchange.symbol(self.pair("XRP"))
            self.collector.follow(self.exchange.name, [self.pair("BTC"), self.pair("XRP"), self.pair(NOPE)])
            await eventually(lambda: ("XRP", "delisted", "delisted") in self.told())
            await eventually(lambda: set(feed.status.not_traded) == {self.pair("XRP"), self.pair(NOPE)})
            assert feed.status.refused == {}
            [_, report] = self.collector.reports()
            assert report.pairs[f"XRP-{self.exchange.quote}"].reason.startswith("not traded: ")
            assert report.texts["listing"] and report.numbers["pairs_listed"] == len(listed) - 1
            assert len(self.collector.feeds) == 1 and feed.status.reconnects == 0
            simulator.faults[self.exchange.name].refuse = ""
            self.collector.follow(self.exchange.name, [self.pair("BTC"), self.pair("XRP"), self.pair("ETH")])
            await eventually(lambda: ("XRP", "trading", "listed") in self.told())
            await eventually(lambda: feed.status.not_traded == {})


@pytest.mark.parametrize("name", ["kraken", "gateio"])
def test_what_an_exchange_lists_reaches_table_topic_status_and_log(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[Run] = []

    async def work(port: int, simulator: Simulator) -> None:
        runs.append(Run(name, port))
        await runs[0].follow(simulator)

    caplog.set_level(logging.INFO)
    served(tmp_path, work)
    [run] = runs
    made = run.table()
    bases = ["BTC", "ETH", "XRP", "SOL"]
    assert run.told() == [
        *((base, "trading", None) for base in bases),
        ("XRP", "delisted", "delisted"),
        ("XRP", "trading", "listed"),
    ]
    assert made.transform.dead == [] and quality.conservation(made.rows, made.counts).passed
    assert set(made.rows["transport"]) == {"ws" if name == "kraken" else "rest"}
    assert run.gaps() <= {"stopped"}  # at the end
    assert f"{name}: XRP-{run.exchange.quote} is wanted and not traded: " in caplog.text
    assert f"{name}: trades again: XRP-{run.exchange.quote}" in caplog.text
    partition = Partition(run.source, run.broker, run.settings)
    while partition.work(run.broker.end_offset(*run.place)):
        partition.settle()
    topic = processed_topic(run.exchange.region, Channel.INSTRUMENT)
    assert topic.endswith("_InstrumentPreprocessing")
    assert run.broker.end_offset(topic, run.source.partition) == made.rows.height
