"""The live twin of the assets: the raw topics of one region -> processed records, dead letters, landing objects."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from wsgiref.simple_server import WSGIServer

import psutil
from prometheus_client import Gauge, start_http_server

from coin_platform.broker import Broker, Place
from coin_platform.clock import wall
from coin_platform.errors import BrokerUnreachable, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Lake
from coin_platform.model import Microseconds, Region
from coin_platform.preprocess.lander import Lander
from coin_platform.preprocess.latency import Ages, Stage
from coin_platform.preprocess.partition import Partition, commit
from coin_platform.preprocess.redrive import redrive
from coin_platform.selection import sources
from coin_platform.settings import Settings

logger = logging.getLogger(__name__)

IDLE = 0.05  # seconds to wait when no partition has a batch
UNSTORED = 2_000  # records whose results may be on their way at once: bounds memory while we are behind
PAUSE = 1.0  # seconds to wait when the broker does not answer
PROBE = 10.0  # seconds without an answer after which we look who is missing
COMMIT = 1.0  # seconds between two commits: what a crash repeats is left out by its place
WATCH = 5.0  # seconds between two looks at the partitions
SURVEY = 60.0  # seconds between two looks for partitions that have come or gone
PROGRESS = 10.0  # seconds between two lines of progress
DRAIN = 5.0  # seconds for what waits at the end; the rest waits in its topics
MEMORY = Gauge("coin_memory_bytes", "resident memory of this process")


class Worker:
    """All partitions of one region, as long as they are wanted."""

    def __init__(
        self,
        region: Region,
        exchanges: Sequence[Exchange],
        settings: Settings,
        broker: Broker,
        *,
        clock: Callable[[], Microseconds] = wall,
    ) -> None:
        self._region, self._broker = region, broker
        self._outputs = outputs_of(exchanges, settings)
        broker.own(self._outputs)
        self.lanes = [
            Partition(source, broker, settings, clock=clock) for kind in exchanges for source in sources(kind, settings)
        ]
        self._topics = list(dict.fromkeys(lane.source.topic for lane in self.lanes))
        self._vanished: set[str] = set()
        self._unknown: set[Place] = set()
        self._committed = self._watched = self._surveyed = self._told = 0.0  # when
        self._done = 0  # records since we told
        self._failing_since: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Process until `stop`, then what is left. Raises `DeliveryError` when results cannot be stored.

        A broker that does not answer is waited for: nothing is lost meanwhile, and nothing piles up here.
        """
        self._watched = self._surveyed = self._told = time.monotonic()
        while not stop.is_set():
            moment = time.monotonic()
            try:
                worked = self.step(moment)
                self.look(moment)
            except BrokerUnreachable as error:
                self._fails(moment, error, stop)
                continue
            self._goes_on(moment)
            if not worked:
                stop.wait(IDLE)
        try:
            self.drain(time.monotonic() + DRAIN)
        except BrokerUnreachable as error:
            logger.warning("%s: ends, what waits stays in its topics: %s", self._region, error)

    def step(self, moment: float) -> int:
        """Process the batches that are due at `moment`; return how many raw records those were.

        Raises `PartitionBusy` if another process has become the one that preprocesses.
        """
        self._own()
        ends = self._ends()
        worked = self._round(
            (lane for lane in self.lanes if lane.place in ends and lane.is_due(moment, ends[lane.place])), ends
        )
        if moment - self._committed >= COMMIT:
            self._committed = moment
            commit(self.lanes, self._broker)
        return worked

    def drain(self, deadline: float = float("inf")) -> None:
        """Process all that waits now, but no longer than until `deadline` on the monotonic clock."""
        self._own()
        ends = self._ends()
        while self._round((lane for lane in self.lanes if lane.position < ends.get(lane.place, 0)), ends):
            if time.monotonic() > deadline:
                break
        commit(self.lanes, self._broker)

    def look(self, moment: float) -> None:
        """Do what is due beside the records: watch the partitions, tell how it goes."""
        if moment - self._watched >= WATCH:
            self._watched = moment
            self.watch(moment)
        if moment - self._surveyed >= SURVEY:
            self._surveyed = moment
            self.survey()
        if moment - self._told >= PROGRESS:
            logger.info("%s: %s", self._region, self.progress(moment - self._told))
            self._told = moment

    def watch(self, moment: float) -> None:
        """Look after partitions that are stuck, dead letters that are to be tried again, and our memory."""
        ends = self._ends()
        for lane in self.lanes:
            if lane.place in ends:
                lane.watch(moment, ends[lane.place])
                redrive(lane.source, self._broker)
        MEMORY.set(psutil.Process().memory_info().rss)

    def survey(self) -> None:
        """Look for topics that are back, and for partitions with records that are no exchange's of ours."""
        for topic in sorted(filter(self._answers, self._vanished)):
            for lane in self.lanes:
                if lane.source.topic == topic:
                    lane.open()
            self._vanished.discard(topic)
            logger.warning("%s: is back", topic)
        next_one = 1 + max(kind.partition for kind in EXCHANGES.values() if kind.region is self._region)
        for topic in self._topics:
            if topic not in self._vanished and (topic, next_one) not in self._unknown and self._holds(topic, next_one):
                self._unknown.add((topic, next_one))
                logger.error(
                    "%s[%d]: has records, but no exchange that this code knows: they are not processed; is it older "
                    "than the collector's?",
                    *(topic, next_one),
                )

    def probe(self, stop: threading.Event) -> None:
        """Look whether topics have vanished: those that do not answer, twice, while others do. The others go on."""
        asked = [topic for topic in self._topics if topic not in self._vanished]
        gone = [topic for topic in asked if not stop.is_set() and not self._answers(topic)]
        if len(gone) == len(asked) or stop.is_set():
            return
        for topic in gone:
            if not self._answers(topic):
                logger.error("%s: vanished, the others go on", topic)
                self._vanished.add(topic)

    def progress(self, seconds: float) -> str:
        """Say what became of the last `seconds`, and forget it: the rate, what waits, and how old records get."""
        ends = self._ends()
        waiting = sum(max(0, ends[lane.place] - lane.position) for lane in self.lanes if lane.place in ends)
        rate, self._done = self._done / seconds, 0
        text = f"{rate:.0f} records/s processed, {waiting} wait"
        total, slowest, worst = {stage: Ages() for stage in Stage}, "", 0.0
        for lane in self.lanes:
            for stage, ages in lane.ages.items():
                total[stage].merge(ages)
            if (last := lane.ages.get(Stage.PROCESSED, Ages()).percentile(0.99)) > worst:
                worst, slowest = last, f"{lane.source.exchange.name} {lane.source.channel}"
            lane.ages = {}
        known = [f"{stage} {ages}" for stage, ages in total.items() if ages]
        if known:
            text += f"; p50/p95/p99 ms: {', '.join(known)}"
        return f"{text}; slowest: {slowest}, p99 {1000 * worst:.0f} ms" if slowest else text

    def _round(self, due: Iterable[Partition], ends: dict[Place, int]) -> int:
        """Process a batch of each lane and see it stored; what an earlier round left on its way comes first."""
        self._settle()
        lanes = list(due)
        stops = self._broker.prefetch({lane.place: lane.batch(ends[lane.place]) for lane in lanes}) if lanes else {}
        worked = unstored = 0
        for lane in lanes:
            done = lane.work(stops[lane.place])
            worked, unstored = worked + done, unstored + done
            if unstored >= UNSTORED:
                self._settle()
                unstored = 0
        self._settle()
        self._done += worked
        return worked

    def _settle(self) -> None:
        """Store the results that have been appended.

        Raises `BrokerUnreachable` while they are only on their way. Until then nothing more is read, or results would
        pile up here.
        """
        unstored = [lane for lane in self.lanes if not lane.is_stored]
        if unstored and not self._broker.flush([place for lane in unstored for place in lane.source.outputs]):
            raise BrokerUnreachable("results still wait for kafka")
        for lane in unstored:
            lane.settle()

    def _own(self) -> None:
        """Go on being the one that preprocesses what is there."""
        self._broker.own({place: outs for place, outs in self._outputs.items() if place[0] not in self._vanished})

    def _ends(self) -> dict[Place, int]:
        return self._broker.end_offsets([lane.place for lane in self.lanes if lane.source.topic not in self._vanished])

    def _answers(self, topic: str) -> bool:
        try:
            self._broker.end_offsets([lane.place for lane in self.lanes if lane.source.topic == topic])
        except BrokerUnreachable:
            return False
        return True

    def _holds(self, topic: str, partition: int) -> bool:
        try:
            return self._broker.end_offset(topic, partition) > 0
        except SettingsError:  # there is none, as it should be
            return False

    def _fails(self, moment: float, error: BrokerUnreachable, stop: threading.Event) -> None:
        if self._failing_since is None:
            self._failing_since = moment
            logger.warning("%s: waits: %s", self._region, error)
        if time.monotonic() - self._failing_since >= PROBE:
            self.probe(stop)
        stop.wait(PAUSE)

    def _goes_on(self, moment: float) -> None:
        if self._failing_since is not None:
            logger.warning("%s: goes on, after %.1f s", self._region, moment - self._failing_since)
            self._failing_since = None


def outputs_of(exchanges: Sequence[Exchange], settings: Settings) -> dict[Place, list[Place]]:
    """Return the raw partitions of exchanges, and the partitions in which their results are."""
    return {
        (source.topic, source.partition): source.outputs for kind in exchanges for source in sources(kind, settings)
    }


async def preprocess(
    region: Region, exchanges: Sequence[Exchange], settings: Settings, broker: Broker, lake: Lake, stop: asyncio.Event
) -> None:
    """Preprocess a region until `stop`; also its start waits for a broker that does not answer.

    Raises `DeliveryError` when results cannot be stored.
    """
    metrics = _metrics(settings.metrics_port) if settings.metrics_port else None
    halt = threading.Event()

    def make() -> tuple[Worker, Lander]:
        worker, lander = Worker(region, exchanges, settings, broker), Lander(region, exchanges, settings, broker, lake)
        lander.follow(worker.lanes)
        return worker, lander

    async def run() -> None:
        parts = await asyncio.to_thread(_made, make, region, halt)
        work = [asyncio.ensure_future(asyncio.to_thread(part.run, halt)) for part in parts]
        if work:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            halt.set()  # one that failed ends the other, too
            await asyncio.gather(*work)

    running, stopping = asyncio.ensure_future(run()), asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    halt.set()
    stopping.cancel()
    try:
        await running
    finally:
        if metrics is not None:
            server, thread = metrics
            server.shutdown()
            server.server_close()
            thread.join()


def _metrics(port: int) -> tuple[WSGIServer, threading.Thread] | None:
    """Serve the metrics of this process; where the port is taken warn and go without: records matter more."""
    try:
        return start_http_server(port, "127.0.0.1")
    except OSError as error:
        logger.warning(
            "no metrics: COIN_METRICS_PORT=%d cannot be listened on: %s; give each process a port", port, error
        )
        return None


def _made(
    make: Callable[[], tuple[Worker, Lander]], region: Region, stop: threading.Event
) -> tuple[Worker, Lander] | tuple[()]:
    """Return what is made as soon as the broker answers; nothing if `stop` comes first."""
    while True:
        try:
            return make()
        except BrokerUnreachable as error:
            logger.warning("%s: start waits: %s", region, error)
            if stop.wait(PAUSE):
                return ()
