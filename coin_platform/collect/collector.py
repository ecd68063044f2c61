"""All connections of one region."""

import asyncio
import logging
import time
from collections.abc import Iterator

from coin_platform.broker import Broker
from coin_platform.collect.connection import Connection, Feed
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.rest import Rest
from coin_platform.errors import CoinPlatformError, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange, chunks
from coin_platform.model import Region
from coin_platform.pairs import wanted
from coin_platform.settings import Mode, Settings
from coin_platform.wire import raw_topic

logger = logging.getLogger(__name__)

PROGRESS = 10.0  # seconds between two lines of progress


def exchanges_of(region: Region | None, settings: Settings) -> list[Exchange]:
    """Return the enabled exchanges (of a region). Raises `SettingsError` for a name in COIN_EXCHANGES that is none."""
    unknown = [name for name in settings.exchanges if name not in EXCHANGES]
    if unknown:
        raise SettingsError(f"COIN_EXCHANGES={unknown[0]}: there is no such exchange; there are {', '.join(EXCHANGES)}")
    enabled = settings.exchanges or tuple(EXCHANGES)
    return [kind for name, kind in EXCHANGES.items() if name in enabled and region in (None, kind.region)]


class Collector:
    """The connections of one region, as long as they are wanted."""

    def __init__(self, region: Region, settings: Settings, broker: Broker) -> None:
        self.region = region
        self.connections: list[Connection] = []
        self._broker = broker
        self._rests: list[Rest] = []
        self._epoch = time.time_ns() // 1_000_000  # rises with every start; a leader's number takes its place
        for exchange in exchanges_of(region, settings):
            rest = Rest(exchange)
            self._rests.append(rest)
            self.connections += self._connect(exchange, settings, rest)

    def _connect(self, exchange: Exchange, settings: Settings, rest: Rest) -> Iterator[Connection]:
        host = f"127.0.0.1:{settings.simulator_port}" if settings.exchanges_mode is Mode.SIMULATED else None
        connects = TokenBucket(exchange.limits.connects_per_minute / 60, burst=len(settings.channels) + 1)
        for channel in settings.channels:
            if channel not in exchange.channels:
                continue
            for shard, pairs in enumerate(chunks(wanted(exchange, settings), exchange.limits.pairs_per_connection)):
                feed = Feed(
                    exchange=exchange,
                    channel=channel,
                    shard=shard,
                    url=exchange.socket_url(channel),
                    topic=raw_topic(settings.topic_prefix(self.region), channel),
                    epoch=self._epoch,
                    window=settings.window_length,
                    host=host,
                )
                yield Connection(feed, pairs, broker=self._broker, rest=rest, connects=connects)

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`, then store all that has come. Raises the first error that is not the network's."""
        ended = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                feeds = [group.create_task(connection.run(stop)) for connection in self.connections]
                group.create_task(self._progress(ended))
                await asyncio.gather(*feeds)
                ended.set()
        except* CoinPlatformError as errors:
            raise _first(errors) from None
        finally:
            for rest in self._rests:
                await rest.close()
            await asyncio.to_thread(self._broker.flush)

    async def _progress(self, ended: asyncio.Event) -> None:
        before = 0
        while not ended.is_set():
            try:
                await asyncio.wait_for(ended.wait(), PROGRESS)
            except TimeoutError:
                frames = sum(connection.status.frames for connection in self.connections)
                live = sum(connection.status.state == "live" for connection in self.connections)
                rate = (frames - before) / PROGRESS
                logger.info(
                    "%s: %d frames, %.0f a second, %d of %d connections live",
                    *(self.region, frames, rate, live, len(self.connections)),
                )
                before = frames


def _first(errors: BaseExceptionGroup[CoinPlatformError]) -> CoinPlatformError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
