"""One raw partition, a lake that can refuse, and the landing between them."""

from datetime import UTC, datetime, timedelta

import polars as pl

from coin_platform.errors import LakeError
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Window
from coin_platform.preprocess.handoff import Handoff
from coin_platform.preprocess.lander import Lander, PartitionLanding
from coin_platform.preprocess.partition import Partition
from coin_platform.tables.dataframes import batch
from tests.kit.raw_log import SETTINGS, ConnectionLog

LENGTH = SETTINGS.window_length


class RefusingStore(MemoryStore):
    """A store in memory that refuses writes while `is_away`."""

    is_away = False

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        if self.is_away:
            raise LakeError("the lake is away")
        return super().put(key, data, if_match)


class LandingPlace:
    """One raw partition, a lake, and the landing between them."""

    def __init__(self, exchange: str = "upbit", channel: Channel = Channel.TICKER) -> None:
        self.log = ConnectionLog(exchange, channel)
        self.store = RefusingStore()
        self.lake = Lake(self.store, LENGTH)

    @property
    def end(self) -> int:
        """The offset of the next raw record."""
        return self.log.end

    def landing(self) -> PartitionLanding:
        """Return the landing as a process that begins now sees it."""
        return PartitionLanding(self.log.source, self.log.broker, self.lake, SETTINGS)

    def partition_and_landing(self) -> tuple[Partition, PartitionLanding]:
        """Return the worker's partition, and a landing that takes over its rows."""
        partition, landing = self.log.partition(), self.landing()
        partition.handoff = landing.handoff = Handoff()
        return partition, landing

    def lander(self) -> Lander:
        """Return a lander of the partition's exchange."""
        return Lander(self.log.region, [self.log.source.exchange], SETTINGS, self.log.broker, self.lake)

    def work(self, landing: PartitionLanding, moment: float = 0.0) -> None:
        """Land all that waits."""
        landing.work(moment, self.end)

    def scan(self) -> pl.DataFrame:
        """Return all rows that a reader of the lake sees."""
        start = datetime(2020, 1, 1, tzinfo=UTC)
        return self.lake.scan(self.log.source.channel.value, start=start, end=start + timedelta(days=4000)).collect()

    def commit(self, count: int) -> None:
        """Commit the window of the first records, as the asset does."""
        records = self.log.records()[:count]
        start = records[0].time // LENGTH * LENGTH
        source = self.log.source
        rows = batch(source, records).rows
        self.lake.commit(source.channel.value, source.exchange.name, Window(start, start + LENGTH), rows, {})
