"""A platform in a folder for tests: settings, a journal, a lake, and the command line."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from coin_platform.broker import LocalBroker
from coin_platform.cli import app
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, open_lake
from coin_platform.model import SECOND, Channel, Kind, Microseconds, Window
from coin_platform.records import Header
from coin_platform.selection import sources
from coin_platform.settings import Settings, load
from tests.kit.recordings import frames

MINUTE = 60 * SECOND
START = int(datetime(2026, 11, 2, 3, tzinfo=UTC).timestamp()) * SECOND
FIRST, THEN = Window(START, START + MINUTE), Window(START + MINUTE, START + 2 * MINUTE)


class Platform:
    """A folder with settings, a journal and a lake, and `coin`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.time: Microseconds = FIRST.start
        self.settings: Settings = load()
        folder = self.settings.path(self.settings.journal_dir)
        self.broker = LocalBroker(folder, clock=lambda: self.time, monotonic=lambda: self.time / SECOND)

    @property
    def lake(self) -> Path:
        """The folder of the tables."""
        return self.home / "data/lake"

    def opened(self) -> Lake:
        """Open the lake."""
        return open_lake(self.settings)

    def source(self, exchange: str, channel: Channel) -> Source:
        """Return the partition of a channel."""
        return next(source for source in sources(EXCHANGES[exchange], self.settings) if source.channel is channel)

    def log(
        self, exchange: str, channel: Channel, payloads: list[bytes], kind: Kind = Kind.SOCKET, first: int = 1
    ) -> None:
        """Append frames to a raw topic, 10 ms apart."""
        place = self.source(exchange, channel)
        for number, payload in enumerate(payloads, first):
            header = Header(kind, 1, f"{channel}-0", number, self.time - 5)
            self.broker.append(place.topic, place.partition, header.pack(), payload)
            self.time += 10_000
        self.broker.flush()

    def trim(self, exchange: str, channel: Channel, before: int) -> None:
        """Trim the oldest records of a topic, and wait until they are gone."""
        place = self.source(exchange, channel)
        self.broker.trim(place.topic, place.partition, before)
        while self.broker.begin_offset(place.topic, place.partition) < before:
            self.broker.flush()

    def coin(self, *arguments: object) -> Result:
        """Run a command."""
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


def recorded(exchange: str, stem: str) -> list[bytes]:
    """Return the payloads of a recording."""
    return [frame.payload for frame in frames(exchange, stem)]


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """Give a platform with two exchanges, windows of a minute, and an empty log."""
    for name in ("DAGSTER_HOME", "COIN_PAIRS"):
        monkeypatch.delenv(name, raising=False)
    values = {"HOME": tmp_path, "EXCHANGES": "upbit,okx", "CHANNELS": "ticker,orderbook", "START": "2026-11-02T00:00"}
    values |= {"WINDOW": "1m", "GRACE": "3s"}
    for name, value in values.items():
        monkeypatch.setenv(f"COIN_{name}", str(value))
    load.cache_clear()
    platform = Platform(tmp_path)
    try:
        yield platform
    finally:
        platform.broker.close()
        load.cache_clear()
