"""Preprocess all partitions of one region: raw topics -> processed records, dead letters and landing objects."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import psutil

from coin_platform.broker import Broker, Place
from coin_platform.clock import wall
from coin_platform.cluster import Cluster
from coin_platform.cluster.announcer import Announcer
from coin_platform.cluster.rates import Rates
from coin_platform.cluster.status import ANNOUNCE_SECONDS
from coin_platform.errors import BrokerUnreachable, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Lake
from coin_platform.model import Microseconds, Region
from coin_platform.preprocess.lander import Lander
from coin_platform.preprocess.latency import Ages, Stage
from coin_platform.preprocess.partition import Partition, commit
from coin_platform.preprocess.redis_feed import copied_to_redis
from coin_platform.preprocess.redrive import redrive
from coin_platform.preprocess.reports import worker_reports
from coin_platform.runtime.log_lines import named
from coin_platform.runtime.metrics import MEMORY_BYTES, metrics_served
from coin_platform.selection import sources
from coin_platform.settings import Settings

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.05  # to wait when no partition has a batch
UNSTORED_RECORDS = 2_000  # whose results may be on their way at once, which bounds memory while the worker is behind
PAUSE_SECONDS = 1.0  # to wait when the broker does not answer
PROBE_SECONDS = 10.0  # without an answer, until each topic is asked on its own
COMMIT_SECONDS = 1.0  # between two commits; after a crash so much is processed again and left out by its place
WATCH_SECONDS = 5.0  # between two looks at the partitions
SURVEY_SECONDS = 60.0  # between two looks for partitions that have come or gone
PROGRESS_SECONDS = 10.0  # between two lines of progress
DRAIN_SECONDS = 5.0  # for the records that wait at the end; the rest waits in its topics


class Worker:
    """Processes all partitions of one region, round by round."""

    def __init__(
        self,
        region: Region,
        exchanges: Sequence[Exchange],
        settings: Settings,
        broker: Broker,
        *,
        clock: Callable[[], Microseconds] = wall,
        announcer: Announcer | None = None,
    ) -> None:
        """Process the partitions of these exchanges, and tell the `announcer` once a second how that goes."""
        self._announcer, self._announced, self._rates = announcer, 0.0, Rates()
        self._region, self._broker = region, broker
        self._outputs = outputs_of(exchanges, settings)
        broker.own(self._outputs)
        self.partitions = [
            Partition(source, broker, settings, clock=clock)
            for exchange in exchanges
            for source in sources(exchange, settings)
        ]
        self._topics = list(dict.fromkeys(partition.source.topic for partition in self.partitions))
        self._vanished: set[str] = set()
        self._unknown: set[Place] = set()
        self._committed = self._watched = self._surveyed = self._reported = 0.0  # moments of the last time
        self._done = 0  # records since the last line of progress
        self._failing_since: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Process until `stop`, then drain. Raises `DeliveryError` when results cannot be stored.

        Wait while the broker does not answer: records wait in their topics then, not in memory.
        """
        self._watched = self._surveyed = self._reported = time.monotonic()
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
                stop.wait(IDLE_SECONDS)
        try:
            self.drain(time.monotonic() + DRAIN_SECONDS)
        except BrokerUnreachable as error:
            logger.warning("%s: ends, what waits stays in its topics: %s", self._region, error)

    def step(self, moment: float) -> int:
        """Process the batches that are due at `moment`, and return how many raw records that were.

        Raises `PartitionBusy` if another process has become the owner of the partitions.
        """
        self._own()
        ends = self._ends()
        worked = self._round(
            (
                partition
                for partition in self.partitions
                if partition.place in ends and partition.is_due(moment, ends[partition.place])
            ),
            ends,
        )
        if moment - self._committed >= COMMIT_SECONDS:
            self._committed = moment
            commit(self.partitions, self._broker)
        return worked

    def drain(self, deadline: float = float("inf")) -> None:
        """Process all records that wait now, until `deadline` on the monotonic clock at most."""
        self._own()
        ends = self._ends()
        while self._round(
            (partition for partition in self.partitions if partition.position < ends.get(partition.place, 0)), ends
        ):
            if time.monotonic() > deadline:
                break
        commit(self.partitions, self._broker)

    def look(self, moment: float) -> None:
        """Do the work that is due beside the records: watch, survey, report progress and status."""
        self._announce(moment)
        if moment - self._watched >= WATCH_SECONDS:
            self._watched = moment
            self.watch(moment)
        if moment - self._surveyed >= SURVEY_SECONDS:
            self._surveyed = moment
            self.survey()
        if moment - self._reported >= PROGRESS_SECONDS:
            logger.info("%s: %s", self._region, self.progress(moment - self._reported))
            self._reported = moment

    def watch(self, moment: float) -> None:
        """Begin stuck partitions anew, redrive dead letters that were asked for, and measure the memory."""
        ends = self._ends()
        for partition in self.partitions:
            if partition.place in ends:
                partition.watch(moment, ends[partition.place])
                redrive(partition.source, self._broker)
        MEMORY_BYTES.set(psutil.Process().memory_info().rss)

    def survey(self) -> None:
        """Find topics that are back, and partitions with records of exchanges that this code does not know."""
        for topic in sorted(filter(self._answers, self._vanished)):
            for partition in self.partitions:
                if partition.source.topic == topic:
                    partition.open()
            self._vanished.discard(topic)
            logger.warning("%s: is back", topic)
        next_partition = 1 + max(
            exchange.partition for exchange in EXCHANGES.values() if exchange.region is self._region
        )
        for topic in self._topics:
            if (
                topic not in self._vanished
                and (topic, next_partition) not in self._unknown
                and self._holds(topic, next_partition)
            ):
                self._unknown.add((topic, next_partition))
                logger.error(
                    "%s[%d]: has records, but no exchange that this code knows: they are not processed; is it older "
                    "than the collector's?",
                    *(topic, next_partition),
                )

    def probe(self, stop: threading.Event) -> None:
        """Find topics that have vanished: they do not answer twice while others do. The others go on."""
        asked = [topic for topic in self._topics if topic not in self._vanished]
        gone = [topic for topic in asked if not stop.is_set() and not self._answers(topic)]
        if len(gone) == len(asked) or stop.is_set():
            return
        for topic in gone:
            if not self._answers(topic):
                logger.error("%s: vanished, the others go on", topic)
                self._vanished.add(topic)

    def progress(self, seconds: float) -> str:
        """Return a line about the last `seconds`: the rate, the waiting records and their ages. Begin to count anew."""
        ends = self._ends()
        waiting = sum(
            max(0, ends[partition.place] - partition.position)
            for partition in self.partitions
            if partition.place in ends
        )
        rate, self._done = self._done / seconds, 0
        text = f"{rate:.0f} records/s processed, {waiting} wait"
        total, slowest, worst = {stage: Ages() for stage in Stage}, "", 0.0
        for partition in self.partitions:
            for stage, ages in partition.ages.items():
                total[stage].merge(ages)
            if (last := partition.ages.get(Stage.PROCESSED, Ages()).percentile(0.99)) > worst:
                worst, slowest = last, f"{partition.source.exchange.name} {partition.source.channel}"
            partition.ages = {}
        known = [f"{stage} {ages}" for stage, ages in total.items() if ages]
        if known:
            text += f"; p50/p95/p99 ms: {', '.join(known)}"
        return f"{text}; slowest: {slowest}, p99 {1000 * worst:.0f} ms" if slowest else text

    def _round(self, due: Iterable[Partition], ends: dict[Place, int]) -> int:
        """Process a batch of each partition and store it. Results of an earlier round are stored first."""
        self._settle()
        partitions = list(due)
        stops = (
            self._broker.prefetch({partition.place: partition.batch(ends[partition.place]) for partition in partitions})
            if partitions
            else {}
        )
        worked = unstored = 0
        for partition in partitions:
            with named(exchange=partition.source.exchange.name, channel=partition.source.channel.value):
                done = partition.work(stops[partition.place])
            worked, unstored = worked + done, unstored + done
            if unstored >= UNSTORED_RECORDS:
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
        unstored = [partition for partition in self.partitions if not partition.is_stored]
        if unstored and not self._broker.flush([place for partition in unstored for place in partition.source.outputs]):
            raise BrokerUnreachable("results still wait for kafka")
        for partition in unstored:
            partition.settle()

    def _own(self) -> None:
        """Claim once more that this process preprocesses the partitions that have not vanished."""
        self._broker.own({place: outs for place, outs in self._outputs.items() if place[0] not in self._vanished})

    def _ends(self) -> dict[Place, int]:
        return self._broker.end_offsets(
            [partition.place for partition in self.partitions if partition.source.topic not in self._vanished]
        )

    def _answers(self, topic: str) -> bool:
        try:
            self._broker.end_offsets(
                [partition.place for partition in self.partitions if partition.source.topic == topic]
            )
        except BrokerUnreachable:
            return False
        return True

    def _holds(self, topic: str, partition: int) -> bool:
        try:
            return self._broker.end_offset(topic, partition) > 0
        except SettingsError:  # there is no such partition, which is right
            return False

    def _fails(self, moment: float, error: BrokerUnreachable, stop: threading.Event) -> None:
        if self._failing_since is None:
            self._failing_since = moment
            logger.warning("%s: waits: %s", self._region, error)
        if time.monotonic() - self._failing_since >= PROBE_SECONDS:
            self.probe(stop)
        self._announce(time.monotonic(), str(error))
        stop.wait(PAUSE_SECONDS)

    def _announce(self, moment: float, failure: str = "") -> None:
        if self._announcer is not None and moment - self._announced >= ANNOUNCE_SECONDS:
            self._announced = moment
            reports = worker_reports(self._region, self.partitions, self._vanished, failure, self._rates, moment)
            self._announcer.offer(reports)

    def _goes_on(self, moment: float) -> None:
        if self._failing_since is not None:
            logger.warning("%s: goes on, after %.1f s", self._region, moment - self._failing_since)
            self._failing_since = None


def outputs_of(exchanges: Sequence[Exchange], settings: Settings) -> dict[Place, list[Place]]:
    """Return the raw partitions of exchanges, and the partitions of their results."""
    return {
        (source.topic, source.partition): source.outputs
        for exchange in exchanges
        for source in sources(exchange, settings)
    }


async def preprocess(
    region: Region,
    exchanges: Sequence[Exchange],
    settings: Settings,
    broker: Broker,
    lake: Lake,
    stop: asyncio.Event,
    cluster: Cluster | None = None,
) -> None:
    """Preprocess a region until `stop`. The start waits for a broker that does not answer, too.

    Raises `DeliveryError` when results cannot be stored.
    """
    halt = threading.Event()
    announcer = None if cluster is None else Announcer(cluster, f"worker-{region}")

    def make() -> tuple[Worker, Lander]:
        worker = Worker(region, exchanges, settings, broker, announcer=announcer)
        lander = Lander(region, exchanges, settings, broker, lake)
        lander.follow(worker.partitions)
        return worker, lander

    async def run() -> None:
        parts = await asyncio.to_thread(_made, make, region, halt)
        work = [asyncio.ensure_future(asyncio.to_thread(part.run, halt)) for part in parts]
        if work:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            halt.set()  # a failure of one ends the other, too
            await asyncio.gather(*work)

    with metrics_served(settings.metrics_port), copied_to_redis(region, exchanges, settings, cluster):
        await _until(run(), stop, halt)
    if announcer is not None:
        await asyncio.to_thread(announcer.close)


async def _until(work: Coroutine[Any, Any, None], stop: asyncio.Event, halt: threading.Event) -> None:
    """Await some work. Ask it to end by `halt` when `stop` comes."""
    running, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    halt.set()
    stopping.cancel()
    await running


def _made(
    make: Callable[[], tuple[Worker, Lander]], region: Region, stop: threading.Event
) -> tuple[Worker, Lander] | tuple[()]:
    """Return what `make` returns as soon as the broker answers; nothing if `stop` comes first."""
    while True:
        try:
            return make()
        except BrokerUnreachable as error:
            logger.warning("%s: start waits: %s", region, error)
            if stop.wait(PAUSE_SECONDS):
                return ()
