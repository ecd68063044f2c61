"""A raw partition of Upbit's tickers that can be lost, and a lake. The log is a journal or a topic of Kafka."""

import shutil
from abc import ABC, abstractmethod
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from kafka import KafkaAdminClient, KafkaProducer

from coin_platform.broker import Broker, LocalBroker
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.broker.kafka_producer import HEADER
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake
from coin_platform.model import Channel, Kind, Microseconds, Window
from coin_platform.orchestration.materialise import materialise_raw, materialise_rows
from coin_platform.orchestration.materialise_gaps import materialise_gaps
from coin_platform.records import Facts, Header
from coin_platform.selection import sources
from coin_platform.settings import Settings
from infra.stack import Kafka
from tests.kit.recordings import frames
from tests.kit.topics import fresh_topic

START = datetime(2026, 11, 2, tzinfo=UTC)
MINUTE = 60_000_000
WINDOWS = [
    Window(begin, begin + MINUTE) for begin in (int(START.timestamp()) * 1_000_000 + n * MINUTE for n in range(5))
]
FIRST, SECOND, THIRD, FOURTH, _ = WINDOWS
SETTINGS = Settings(start=START, window=timedelta(minutes=1), grace=timedelta(seconds=3))
UPBIT = EXCHANGES["upbit"]
TICKERS = [frame.payload for frame in frames("upbit", "ticker")]


class LogAndLake(ABC):
    """A raw partition of Upbit's tickers that can be lost, and a lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.epoch = 1
        [self.source] = [source for source in sources(UPBIT, SETTINGS) if source.channel is Channel.TICKER]

    broker: Broker

    @abstractmethod
    def append(self, time: Microseconds, header: str, value: bytes) -> None:
        """Log a record at this time."""

    @abstractmethod
    def begin_anew(self) -> None:
        """Lose the log."""

    def log(self, window: Window, count: int) -> None:
        """Log an opened connection and tickers, 10 ms apart."""
        time, value = window.start + 1_000, Facts(pairs=["BTC-KRW", "ETH-KRW"]).pack()
        self.append(time, Header(Kind.OPENED, self.epoch, "c", 0, time).pack(), value)
        for number in range(1, count):
            time += 10_000
            header = Header(Kind.SOCKET, self.epoch, "c", number, time)
            self.append(time, header.pack(), TICKERS[number % len(TICKERS)])
        self.broker.flush()  # the journal's clock is read when it writes
        self.epoch += 1

    def raw(self, window: Window, lake: Lake | None = None) -> "dg.MaterializeResult[Any]":
        """Make the raw table of a window."""
        return materialise_raw(self.source, window, self.broker, lake or self.lake, SETTINGS)

    def make(self, window: Window) -> "list[dg.MaterializeResult[Any]]":
        """Make the tables of a window."""
        raw = self.raw(window)
        rows = materialise_rows(self.source, window, self.broker, self.lake)
        return [raw, rows, materialise_gaps(UPBIT, [self.source], window, self.lake)]

    def rows(self, window: Window, table: str = "raw_ticker") -> int:
        """Return how many rows a table has."""
        return int((self.lake.provenance(table, "upbit", window) or {"rows": -1})["rows"])


class LocalLogAndLake(LogAndLake):
    """The log is a journal."""

    def __init__(self, folder: Path, lake: Lake) -> None:
        super().__init__(lake)
        self._folder, self._time = folder, 0
        self._open()

    def append(self, time: Microseconds, header: str, value: bytes) -> None:
        self._time = time
        self.broker.append(self.source.topic, self.source.partition, header, value)

    def begin_anew(self) -> None:
        self.broker.close()
        shutil.rmtree(self._folder)
        self._open()

    def _open(self) -> None:
        self.broker = LocalBroker(self._folder, clock=lambda: self._time, monotonic=lambda: self._time / 1e6)


class KafkaLogAndLake(LogAndLake):
    """The log is a topic of Kafka, whose records have the times that the test gives."""

    def __init__(self, server: Kafka, folder: Path, lake: Lake) -> None:
        super().__init__(lake)
        self._servers, self._server, self._folder = server.address.split(","), server, folder
        options = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
        self.source = self.source._replace(topic=fresh_topic(server, options))
        self._options = options
        self.broker = KafkaBroker(self._servers, folder)

    def append(self, time: Microseconds, header: str, value: bytes) -> None:
        with closing(KafkaProducer(bootstrap_servers=self._servers)) as producer:
            place = (self.source.topic, value, None, [(HEADER, header.encode())], self.source.partition, time // 1000)
            producer.send(*place).get(10)

    def begin_anew(self) -> None:
        self.broker.close()
        with closing(KafkaAdminClient(bootstrap_servers=self._servers)) as admin:
            admin.delete_topics([self.source.topic])
        fresh_topic(self._server, self._options, name=self.source.topic)
        self.broker = KafkaBroker(self._servers, self._folder)


def failed(result: "dg.MaterializeResult[Any]") -> dict[str, str]:
    """Return the failed checks with their descriptions."""
    return {str(check.check_name): check.description or "" for check in result.check_results or () if not check.passed}


def object_of(folder: Path, table: str, window: Window = FIRST) -> Path:
    """Return the file of a window."""
    minute = (window.start - FIRST.start) // MINUTE
    return folder / f"lake/{table}/exchange=upbit/date=2026-11-02/hour=00/minute={minute:02}/part.parquet"
