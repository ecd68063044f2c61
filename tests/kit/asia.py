"""Simulated exchanges of Asia and what collects them, as real processes, and what they left in the topics."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from coin_platform.broker import Broker, LocalBroker, kafka_client, kafka_topics
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import BookUpdate, Channel, Event, Gap, Kind, Microseconds, Ticker, Trade
from coin_platform.records import Record, frame, unpack, unpack_facts
from coin_platform.runtime.ports import free_ports
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.simulator.sent_log import digest
from coin_platform.tables.dataframes import batch
from coin_platform.tables.gap_table import Gaps, StoredFault, is_book
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import GAPS
from infra.stack import ROOT, is_listening
from tests.kit.history import Sent, Stored
from tests.kit.stored_history import gaps_from, sent_from, stored_from
from tests.kit.waiting import until

NAMES = ("okx", "bybit")


class Asia:
    """Simulated exchanges of Asia and what collects them, each in a process of its own."""

    def __init__(self, home: Path, environment: Mapping[str, str], **values: object) -> None:
        self.home, self.witness, self._environment = home, home / "read.txt", environment
        self.values: dict[str, Any] = {
            "home": home,
            "exchanges_mode": "simulated",
            "exchanges": ",".join(NAMES),
            "simulator_port": free_ports(1)[0],
            "topic_asia": f"asia{uuid.uuid4().hex}",
            **values,
        }
        self.settings = Settings(**self.values)
        is_local = self.settings.broker_url == "local:"
        folder = self.settings.path(self.settings.journal_dir)
        self.broker: Broker = (
            LocalBroker(folder) if is_local else KafkaBroker(kafka_client.servers(self.settings), home / "reader")
        )
        self.sources: list[Source] = [each for name in NAMES for each in sources(EXCHANGES[name], self.settings)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, *, is_ours: bool = True) -> dict[str, str]:
        """Return the environment of a process; the exchanges are not ours."""
        settings = {f"COIN_{key.upper()}": str(value) for key, value in self.values.items()}
        ours = self._environment if is_ours else {}
        return {**os.environ, **settings, "WITNESS": str(self.witness), **ours}

    def start(self, name: str, *arguments: str, module: str = "coin_platform", log: Path | None = None) -> None:
        """Start `coin NAME`; its log is in `home` unless said otherwise."""
        environment = self.environment(is_ours=name != "simulate")
        command = [sys.executable, "-W", "ignore", "-m", module, name, *arguments]
        with (log or self.home / f"{name}.log").open("ab") as file:
            self.processes[name] = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=file, stderr=file)

    def end(self, name: str, patience: float = 30) -> float:
        """End a process as its supervisor does; return how long that took. Raises `AssertionError` if not clean."""
        started = time.monotonic()
        self.processes[name].send_signal(signal.SIGTERM)
        code = self.processes[name].wait(patience)
        del self.processes[name]
        assert code == 0, f"{name} ended with {code}: {(self.home / f'{name}.log').read_text()[-2000:]}"
        return time.monotonic() - started

    def kill(self, name: str) -> Microseconds:
        """Kill a process and return when."""
        moment = time.time_ns() // 1000
        self.processes[name].kill()
        self.processes.pop(name).wait()
        return moment

    def count(self) -> int:
        """Return how many records there are."""
        return sum(self.broker.end_offsets([(each.topic, each.partition) for each in self.sources]).values())

    def until_more(self, patience: float = 40) -> None:
        """Wait until every source has a new frame."""
        before = {source: self.broker.end_offset(source.topic, source.partition) for source in self.sources}
        until(lambda: all(self._has_frame(source, start) for source, start in before.items()), patience)

    def until_all_heard(self, patience: float = 40) -> None:
        """Wait until every source has new data of every pair that is asked for."""
        before = {source: self.broker.end_offset(source.topic, source.partition) for source in self.sources}
        until(lambda: all(self.is_heard(source, start) for source, start in before.items()), patience)

    def is_heard(self, source: Source, start: int = 0) -> bool:
        """Whether every pair that was asked for has brought something over a socket, from an offset on."""
        pairs = {pair for _, pair in self._heard(source, start)}
        asked = {
            pair
            for record in self._records(source, start)
            if not unpack(record.header).kind.is_frame
            for pair in unpack_facts(record.value).pairs
        }
        return bool(asked) and asked <= pairs

    def served(self) -> Callable[[str, Channel, Microseconds], Microseconds]:
        """Return a function: when every pair of a feed has data again, for the time of the feed's first new frame."""
        times: dict[tuple[str, Channel], dict[str, list[Microseconds]]] = {}
        for source in self.sources:
            of_pairs = times.setdefault((source.exchange.name, source.channel), {})
            for moment, pair in self._heard(source, 0):
                of_pairs.setdefault(pair, []).append(moment)

        def served_again(exchange: str, channel: Channel, time: Microseconds) -> Microseconds:
            of_pairs = times[exchange, channel].values()
            return max(min((each for each in moments if each >= time), default=time) for moments in of_pairs)

        return served_again

    def _heard(self, source: Source, start: int) -> Iterator[tuple[Microseconds, str]]:
        """Yield when sockets brought data of which pair, from an offset on."""
        for record in self._records(source, start):
            header = unpack(record.header)
            if header.kind is Kind.SOCKET:
                decoded = source.exchange.decode(frame(source.exchange.name, source.channel, header, record.value))
                for event in decoded:
                    if isinstance(event, Ticker | Trade | BookUpdate):
                        yield header.received_time, str(event.pair)

    def _records(self, source: Source, start: int) -> list[Record]:
        place = source.topic, source.partition
        return [*self.broker.read(*place, start, self.broker.end_offset(*place))]

    def _has_frame(self, source: Source, start: int) -> bool:
        """Whether there is a frame from an offset on; the other records are ours."""
        return any(unpack(record.header).kind.is_frame for record in self._records(source, start))

    def stored(self) -> list[Stored]:
        return stored_from(self.broker, self.sources)

    def sent(self) -> list[Sent]:
        return sent_from(self.home / "data" / "simulator")

    def gaps(self) -> list[Gap]:
        """Return the ledger of all that is stored."""
        found: list[Gap] = []
        for source in self.sources:
            records = self._records(source, 0)
            rows = batch(source, records)
            faults = [StoredFault(offset, str(fault.pair), *fault[1:]) for offset, fault in rows.transform.faults]
            gaps = Gaps(source, None)
            gaps.read(records, rows.rows if is_book(source) else None, faults)
            found += gaps_from(source.exchange.name, gaps.table())
        return found

    def told_gaps(self) -> list[dict[str, str]]:
        """Return what topic `MarketGaps` says."""
        places = [(GAPS, EXCHANGES[name].gap_partition) for name in NAMES]
        return [
            json.loads(record.value)
            for place in places
            for record in self.broker.read(*place, 0, self.broker.end_offset(*place))
        ]


@contextmanager
def running(
    home: Path,
    broker_url: str,
    channels: str = "ticker,trade",
    *,
    rate: int = 50,
    more_pairs: int | str = 0,  # a test may pass its settings as one dictionary of texts
    environment: Mapping[str, str] | None = None,
    **settings: object,
) -> Iterator[Asia]:
    """Run the exchanges, `rate` steps of their market a second; whatever else was started is killed in the end.

    All but the exchanges have `environment`.
    """
    home.mkdir(parents=True, exist_ok=True)
    platform = Asia(home, environment or {}, broker_url=broker_url, channels=channels, **settings)
    if broker_url != "local:":
        kafka_topics.create(platform.settings)
    with closing(platform.broker):
        try:
            platform.start("simulate", "--seed", "7", "--rate", str(rate), "--more-pairs", str(more_pairs))
            until(lambda: is_listening(platform.settings.simulator_port), 40)  # or a gap would begin with each test
            yield platform
        finally:
            for process in platform.processes.values():
                process.kill()
                process.wait()


def key(record: Record, event: Event) -> object:
    """Return what makes two events the same."""
    match event:
        case Trade():
            return (event.pair, event.id)
        case BookUpdate():
            return (event.pair, event.last_sequence)
    return digest(record.value)


def events(platform: Asia, source: Source) -> tuple[set[object], Counter[object]]:
    """Return what was stored of a source, and how often each of it is a row."""
    transform, stored, told = Transform(source), set(), Counter[object]()
    end = platform.broker.end_offset(source.topic, source.partition)
    for record in platform.broker.read(source.topic, source.partition, 0, end):
        told.update(key(record, entry.event) for entry in transform.entries(record))
        header = unpack(record.header)
        if header.kind.is_frame:
            decoded = source.exchange.decode(frame(source.exchange.name, source.channel, header, record.value))
            stored |= {key(record, event) for event in decoded if isinstance(event, Ticker | Trade | BookUpdate)}
    return stored, told
