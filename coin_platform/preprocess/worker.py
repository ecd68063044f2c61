"""The live twin of the assets: the raw topics of one region -> processed records, dead letters, landing objects."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence

import psutil
from prometheus_client import Gauge, start_http_server

from coin_platform.broker import Broker
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Lake
from coin_platform.model import Region
from coin_platform.preprocess.lander import Lander
from coin_platform.preprocess.lane import Lane
from coin_platform.preprocess.redrive import redrive
from coin_platform.settings import Settings
from coin_platform.sources import sources

logger = logging.getLogger(__name__)

IDLE = 0.05  # seconds to wait when no partition has a batch
COMMIT = 1.0  # seconds between two commits: what a crash repeats is left out by its place
WATCH = 5.0  # seconds between two looks at the partitions
MEMORY = Gauge("coin_memory_bytes", "resident memory of this process")


class Worker:
    """All partitions of one region, as long as they are wanted."""

    def __init__(self, region: Region, exchanges: Sequence[Exchange], settings: Settings, broker: Broker) -> None:
        self._region, self._broker = region, broker
        self._committed = 0.0  # when
        self.lanes = [Lane(source, broker, settings) for kind in exchanges for source in sources(kind, settings)]

    def run(self, stop: threading.Event) -> None:
        """Process until `stop`, then what is left. Raises `DeliveryError` when results cannot be stored."""
        watched, done = time.monotonic(), 0
        while not stop.is_set():
            worked = self.step(time.monotonic())
            done += worked
            if not worked:
                stop.wait(IDLE)
            if (moment := time.monotonic()) - watched >= WATCH:
                logger.info("%s: %.0f records/s processed", self._region, done / (moment - watched))
                watched, done = moment, 0
                self.watch(moment)
        while self.step(None):
            pass

    def step(self, moment: float | None) -> int:
        """Process the batches that are due at `moment`, or all that waits; return how many raw records those were."""
        ends = self._broker.end_offsets([lane.place for lane in self.lanes])
        due = [
            lane
            for lane in self.lanes
            if (ends[lane.place] > lane.position if moment is None else lane.is_due(moment, ends[lane.place]))
        ]
        worked = sum(lane.work(ends[lane.place]) for lane in due)
        if due:
            self._broker.flush()
        if moment is None or moment - self._committed >= COMMIT:
            self._committed = moment or 0.0
            for lane in self.lanes:
                lane.commit()
        return worked

    def watch(self, moment: float) -> None:
        """Look after partitions that are stuck, dead letters that are to be tried again, and our memory."""
        ends = self._broker.end_offsets([lane.place for lane in self.lanes])
        for lane in self.lanes:
            lane.watch(moment, ends[lane.place])
            redrive(lane.source, self._broker)
        MEMORY.set(psutil.Process().memory_info().rss)


async def preprocess(
    region: Region, exchanges: Sequence[Exchange], settings: Settings, broker: Broker, lake: Lake, stop: asyncio.Event
) -> None:
    """Preprocess a region until `stop`. Raises `DeliveryError` when results cannot be stored."""
    metrics = start_http_server(settings.metrics_port, "127.0.0.1") if settings.metrics_port else None
    halt = threading.Event()
    worker = Worker(region, exchanges, settings, broker)
    lander = Lander(region, exchanges, settings, broker, lake)
    work = [asyncio.ensure_future(asyncio.to_thread(part.run, halt)) for part in (worker, lander)]
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([*work, stopping], return_when=asyncio.FIRST_COMPLETED)
    halt.set()
    stopping.cancel()
    try:
        await asyncio.gather(*work)
    finally:
        if metrics is not None:
            server, thread = metrics
            server.shutdown()
            server.server_close()
            thread.join()
