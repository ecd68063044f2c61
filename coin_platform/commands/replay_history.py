"""Serve what a lake holds of a time that has passed as a live feed, with the control API and the monitor page."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from dotenv import dotenv_values

from coin_platform.broker import Broker, connect
from coin_platform.clock import elapsed, unless
from coin_platform.errors import ServerEnded
from coin_platform.lake import open_lake
from coin_platform.model import SECOND, Window
from coin_platform.preprocess.history import HistoricRecord, history
from coin_platform.runtime import guard
from coin_platform.runtime.ports import free_port
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import Settings
from coin_platform.times import minute_text

logger = logging.getLogger(__name__)

_NOT_OURS = ("COIN_REDIS_URL", "COIN_REDIS_FEED", "COIN_ZOOKEEPER")  # the real deployment's, which must not be told
_START_SECONDS = 60.0  # for the servers to answer
_LOOK_SECONDS = 0.2
_PROGRESS_SECONDS = 10.0
_LAST_SECONDS = 1.0  # for the last records to reach the clients


class HistoryServer:
    """A deployment of its own, in a folder that is deleted at the end: `coin serve`, and a journal that we write.

    So clients and the page meet the same servers as ever, and the real deployment never hears of it.
    """

    def __init__(self, settings: Settings, home: Path) -> None:
        self._real, self.home = settings, home
        self.port, self.feed_port = free_port(settings.serve_port), free_port(settings.feed_port)

    def environment(self) -> dict[str, str]:
        """Return the environment of `coin serve`: that of the real deployment, in another home."""
        stored = {name: text for name, text in dotenv_values(self._real.home / ".env").items() if text is not None}
        own = {
            "COIN_HOME": str(self.home),
            "COIN_BROKER_URL": "local:",
            "COIN_LAKE_URL": _lake_of(self._real),
            "COIN_SERVE_PORT": str(self.port),
            "COIN_FEED_PORT": str(self.feed_port),
        }
        kept = {name: text for name, text in {**stored, **os.environ}.items() if name not in _NOT_OURS}
        return {**kept, **own}

    def broker(self) -> Broker:
        """Return the journal that the servers read."""
        return connect(self._real.model_copy(update={"home": self.home, "broker_url": "local:", "redis_url": None}))

    def is_ready(self) -> bool:
        """Return whether the feed can be had."""
        with suppress(OSError, ValueError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ws/info") as answer:
            return json.load(answer)["address"] is not None
        return False


async def serve_history(
    settings: Settings, exchange_names: list[str], asked: Window, speed: float, stop: asyncio.Event
) -> None:
    """Serve a range of log time at `speed` times its pace, and return after its last record, or at `stop`.

    Raises `ServerEnded` if the servers do not answer, or end.
    """
    chosen = settings.model_copy(update={"exchanges": tuple(exchange_names)})
    with tempfile.TemporaryDirectory(prefix="coin-replay-") as folder:
        server = HistoryServer(chosen, Path(folder))
        log = settings.path(Path("data/logs/replay-serve.log"))
        process = guard.start([sys.executable, "-m", "coin_platform", "serve"], log, server.environment())
        try:
            await _wait(server, process, log, stop)
            logger.info("live feed: ws://%s:%d/ws/exchange", settings.serve_host, server.feed_port)
            logger.info("control API and monitor: http://%s:%d/", settings.serve_host, server.port)
            lake = open_lake(chosen)
            all_sources = [source for exchange in exchanges_of(None, chosen) for source in sources(exchange, chosen)]
            with closing(server.broker()) as broker:
                await _play(history(lake, all_sources, asked), broker, asked, speed, stop)
            await unless(stop, asyncio.sleep(_LAST_SECONDS))
        finally:
            await asyncio.to_thread(guard.end, process)


def _lake_of(settings: Settings) -> str:
    """Return the address of the lake from any folder."""
    scheme, _, place = settings.lake_url.partition(":")
    return f"file:{settings.path(Path(place))}" if scheme == "file" else settings.lake_url


async def _wait(server: HistoryServer, process: "subprocess.Popen[bytes]", log: Path, stop: asyncio.Event) -> None:
    deadline = elapsed() + _START_SECONDS
    while not stop.is_set() and not await asyncio.to_thread(server.is_ready):
        if process.poll() is not None or elapsed() > deadline:
            raise ServerEnded(f"the servers of the replay did not start; their log is {log}")
        await unless(stop, asyncio.sleep(_LOOK_SECONDS))


async def _play(
    records: Iterable[HistoricRecord], broker: Broker, asked: Window, speed: float, stop: asyncio.Event
) -> None:
    """Append the records at their pace. Time without any record passes at the same pace."""
    begun = said = elapsed()
    count = 0
    for record in records:
        due = begun + (record.time - asked.start) / SECOND / speed
        if due > elapsed():
            broker.flush()
            await unless(stop, asyncio.sleep(due - elapsed()))
        if stop.is_set():
            return
        broker.append(record.topic, record.partition, record.header, record.value)
        count += 1
        if elapsed() - said > _PROGRESS_SECONDS:
            said = elapsed()
            logger.info("%s: %d records so far, %.1f s late", minute_text(record.time), count, max(0.0, said - due))
            await asyncio.sleep(0)
    broker.flush()
    logger.info("%d records from %s to %s were told", count, minute_text(asked.start), minute_text(asked.stop))
