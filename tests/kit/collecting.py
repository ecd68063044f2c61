"""A collector of a fake Kraken, run for as long as a test needs it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from coin_platform.collect.collector import Collector
from coin_platform.model import Channel
from coin_platform.settings import Mode, Settings
from tests.kit.kraken import FakeKraken
from tests.kit.waiting import eventually


def simulated(fake: FakeKraken, **values: Any) -> Settings:
    """Return settings that lead every address to the fake, which knows two channels."""
    known = {"channels": (Channel.TICKER, Channel.ORDERBOOK), **values}
    return Settings(exchanges_mode=Mode.SIMULATED, simulator_port=fake.port, **known)


@contextlib.asynccontextmanager
async def running(collector: Collector) -> AsyncIterator[None]:
    """Run a collector until the block ends."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(collector.run(stop))
        try:
            yield
        finally:
            stop.set()


def states(collector: Collector) -> set[str]:
    """Return the states of all connections."""
    return {status.state for status in collector.status}


@contextlib.asynccontextmanager
async def live(collector: Collector) -> AsyncIterator[None]:
    """Run a collector, and begin the block once all its connections are live."""
    async with running(collector):
        await eventually(lambda: states(collector) == {"live"})
        yield
