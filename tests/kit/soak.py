"""Runs ten simulated exchanges, collectors, workers, Kafka and S3 together, and makes random faults."""

import itertools
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from coin_platform.broker import kafka_client, kafka_topics
from coin_platform.broker.kafka import KafkaBroker, spool_folder
from coin_platform.broker.spool import waiting
from coin_platform.clock import wall
from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Microseconds, Region
from coin_platform.runtime.ports import free_ports
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.simulator import VENUES
from coin_platform.topic_names import group
from infra.stack import Kafka, SeaweedFS, Service
from infra.stack import settings as addresses
from tests.kit.exchanges import Exchanges
from tests.kit.fleet import Fleet, member


class Disturbance(NamedTuple):
    """A fault of an exchange, and the exchanges that may have it."""

    exchanges: tuple[str, ...]
    seconds: float
    fields: dict[str, Any]  # of the simulator's faults
    cut: bool = False  # all its connections end first


PROGRESS_SECONDS = 10.0  # between two lines
QUIET_SECONDS = 20.0  # before the end, without a new fault
STANDSTILL_SECONDS = 120.0  # in which at the end none of the records that are left arrives: they never will
LAST_SECOND = 50  # of a minute, at which a soak ends, so that its last window closes soon after
PROMPT_EXCHANGES = ("kraken", "coinbase")  # whose silence is noticed within 15 s
PROVED_EXCHANGES = ("okx", "bybit", "gateio", "binance", "kraken")  # whose book messages prove that none is missing
DISTURBANCES = {
    "close": Disturbance(tuple(VENUES), 4.0, {"close": True}, cut=True),
    "refuse": Disturbance(tuple(VENUES), 5.0, {"status": 429, "retry_after": "4"}, cut=True),
    "silence": Disturbance(PROMPT_EXCHANGES, 18.0, {"silent": True}),
    "drop": Disturbance(PROVED_EXCHANGES, 8.0, {"drop": 0.02}),
    "swap": Disturbance(PROVED_EXCHANGES, 8.0, {"swap": 0.02}),
}
FAULTS = ("collector", "worker", "deploy", "restart", "freeze", "kafka", "lake", *DISTURBANCES)


class Plan(NamedTuple):
    """The settings of a soak."""

    minutes: float
    seed: int
    rate: float  # steps of the market a second
    every: float  # seconds between two faults
    faults: tuple[str, ...]  # names among `FAULTS`; if empty, no faults are made
    all_first: bool = False  # begin with all faults of all exchanges, one after the other: 206 s


class Event(NamedTuple):
    """A fault of an exchange, a member of the fleet, or a service. Times are UTC, µs."""

    fault: str
    victim: str
    start: Microseconds
    stop: Microseconds

    def __str__(self) -> str:
        return f"{self.fault} {self.victim}"


class Soak:
    """One run. All its files are in the folder `home`."""

    def __init__(self, plan: Plan, home: Path) -> None:
        self.plan, self.home = plan, home
        self.kafka, self.lake = Kafka(home / "kafka"), SeaweedFS(home / "seaweedfs")
        self.environment = _environment(home, (self.kafka, self.lake))
        values: dict[str, Any] = {name.removeprefix("COIN_").lower(): text for name, text in self.environment.items()}
        self.settings = Settings(_env_file=None, **values)
        self.sources = [source for name in VENUES for source in sources(EXCHANGES[name], self.settings)]
        self.exchanges = Exchanges(self.settings, home / "exchanges", seed=plan.seed, rate=plan.rate)
        self.fleet = Fleet(
            [
                member(f"{work}-{region}", [work, "--region", region.value], self.environment, home / "logs")
                for work in ("collect", "preprocess")
                for region in Region
            ]
        )
        self.events: list[Event] = []
        self.started = self.seconds = 0.0
        self._random = random.Random(plan.seed)
        self._under_way = ""
        self._is_over = threading.Event()
        self._deck: list[str] = []
        self._makers: dict[str, Callable[[], tuple[str, Iterator[float]]]] = {
            "collector": lambda: self._signal("collect-", signal.SIGKILL),
            "worker": lambda: self._signal("preprocess-", signal.SIGKILL),
            "deploy": self._deploy,
            "restart": lambda: self._signal("", signal.SIGTERM),
            "freeze": lambda: self._signal("", signal.SIGSTOP, signal.SIGCONT),
            "kafka": lambda: self._away(self.kafka),
            "lake": lambda: self._away(self.lake),
            **{name: partial(self._disturb_one, disturbance) for name, disturbance in DISTURBANCES.items()},
        }

    def run(self) -> None:
        """Start everything, make faults, and wait until all that was sent is stored where it belongs.

        The services keep running until `close`.
        """
        for service in (self.kafka, self.lake):
            service.launch()
        for service in (self.kafka, self.lake):
            service.start()
        kafka_topics.create(self.settings)
        with ExitStack() as stack:
            stack.enter_context(self.exchanges)
            stack.enter_context(self.fleet)
            progress = threading.Thread(target=self._progress, name="progress")
            progress.start()
            stack.callback(progress.join)
            stack.callback(self._is_over.set)
            self._let_happen()
            self._drain()

    def close(self) -> None:
        """End the services."""
        self.kafka.stop()
        self.lake.stop()

    def _let_happen(self) -> None:
        self.started = time.time()
        end = round((self.started + 60 * self.plan.minutes - LAST_SECOND) / 60) * 60 + LAST_SECOND
        if self.plan.all_first:
            chosen = {name: DISTURBANCES[name] for name in self.plan.faults if name in DISTURBANCES}
            pairs = [(name, exchange) for name, disturbance in chosen.items() for exchange in disturbance.exchanges]
            for name, exchange in self._random.sample(pairs, len(pairs)):
                self._make(name, exchange, self._disturb(chosen[name], exchange))
        for due in itertools.count(1 + int((time.time() - self.started) / self.plan.every)):
            quiet = min(end, self.started + due * self.plan.every)
            time.sleep(max(0.0, quiet - time.time()))
            if time.time() > end - QUIET_SECONDS:
                break
            self._happen()
        time.sleep(max(0.0, end - time.time()))

    def _happen(self) -> None:
        """Make the next fault. Each comes once, in random order, before any comes again."""
        if not self.plan.faults:
            return
        self._deck = self._deck or self._random.sample(self.plan.faults, len(self.plan.faults))
        fault = self._deck.pop()
        self._make(fault, *self._makers[fault]())

    def _make(self, fault: str, victim: str, steps: Iterator[float]) -> None:
        start, self._under_way = wall(), f"{fault} {victim}"
        for pause in steps:
            time.sleep(pause)
        self.events.append(Event(fault, victim, start, wall()))
        self._under_way = ""

    def _signal(self, prefix: str, *numbers: signal.Signals) -> tuple[str, Iterator[float]]:
        name = self._random.choice(sorted(name for name in self.fleet.members if name.startswith(prefix)))

        def steps() -> Iterator[float]:
            for number in numbers:
                self.fleet.members[name].send(number)
                yield 5.0

        return name, steps()

    def _deploy(self) -> tuple[str, Iterator[float]]:
        name = self._random.choice(sorted(name for name in self.fleet.members if name.startswith("collect-")))

        def steps() -> Iterator[float]:
            self.fleet.members[name].hand_over()
            yield 10.0

        return name, steps()

    def _away(self, service: Service) -> tuple[str, Iterator[float]]:
        def steps() -> Iterator[float]:
            service.stop()
            yield 6.0
            service.start()

        return service.name, steps()

    def _disturb_one(self, disturbance: Disturbance) -> tuple[str, Iterator[float]]:
        exchange = self._random.choice(disturbance.exchanges)
        return exchange, self._disturb(disturbance, exchange)

    def _disturb(self, disturbance: Disturbance, exchange: str) -> Iterator[float]:
        self.exchanges.fault(exchange, **disturbance.fields)
        if disturbance.cut:
            self.exchanges.disconnect(exchange)
        yield disturbance.seconds
        self.exchanges.fault(exchange, **{name: type(value)() for name, value in disturbance.fields.items()})

    def _drain(self) -> None:
        """End the collectors, and end the workers once they have processed all that was collected."""
        start, self._under_way = wall(), "end"
        self.seconds = time.time() - self.started
        work = {
            name: [member for member in self.fleet.members if member.startswith(name)]
            for name in ("collect", "preprocess")
        }
        self.fleet.end(*work["collect"])
        least, moved = math.inf, time.monotonic()
        with closing(self.broker()) as broker:
            while left := self._spooled() + self._behind(broker):
                if left < least:
                    least, moved = left, time.monotonic()
                assert time.monotonic() - moved < STANDSTILL_SECONDS, f"{left} records do not arrive"
                time.sleep(0.5)
        self.fleet.end(*work["preprocess"])
        self.events.append(Event("end", "", start, wall()))

    def broker(self) -> KafkaBroker:
        """Return a broker of the topics."""
        return KafkaBroker(kafka_client.servers(self.settings), self.home / "witness")

    def _spooled(self) -> int:
        return sum(waiting(spool_folder(self.settings)).values())

    def _behind(self, broker: KafkaBroker) -> int:
        """Return how many raw records no worker has committed yet."""
        ends = broker.end_offsets([(source.topic, source.partition) for source in self.sources])
        groups = {
            (source.topic, source.partition): group(source.exchange.region, source.channel) for source in self.sources
        }
        return sum(end - (broker.committed(groups[place], *place) or 0) for place, end in ends.items())

    def _progress(self) -> None:
        """Print a line of progress from time to time, until the soak is over."""
        before = 0
        with closing(self.broker()) as broker:
            while not self._is_over.wait(PROGRESS_SECONDS):
                sent, stored, behind = self.exchanges.sent, "?", "?"
                with suppress(BrokerUnreachable):
                    places = [(source.topic, source.partition) for source in self.sources]
                    stored, behind = f"{sum(broker.end_offsets(places).values()):,}", f"{self._behind(broker):,}"
                print(
                    f"{time.time() - self.started:5.0f} s: {sent:,} sent, {(sent - before) / PROGRESS_SECONDS:,.0f}/s; "
                    f"{stored} stored, {self._spooled():,} in spools, {behind} not processed; {self._under_way}",
                    flush=True,
                )
                before = sent


def _environment(home: Path, services: Sequence[Service]) -> dict[str, str]:
    """Return the settings of a soak: all simulated exchanges, minute windows from now on."""
    return {
        "COIN_HOME": str(home),
        "COIN_EXCHANGES_MODE": "simulated",
        "COIN_EXCHANGES": ",".join(VENUES),
        "COIN_WINDOW": "1m",
        "COIN_GRACE": "3s",
        "COIN_START": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z"),
        "COIN_SIMULATOR_PORT": str(free_ports(1)[0]),
        **addresses(services),
    }
