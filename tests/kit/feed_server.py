"""A distributor on a free port of this machine, whose records a test appends to a broker in memory."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from coin_platform.serve.feed.distributor import Distributor, listen
from coin_platform.serve.feed.door import Door, DoorLimits
from coin_platform.serve.feed.hub import Hub
from coin_platform.serve.feed.ladder import Ladder, Service
from coin_platform.serve.feed.source import places_of
from coin_platform.serve.feed.tail import Tail
from coin_platform.serve.keys import Key, Keys, Scope, digest_of
from coin_platform.settings import Settings
from tests.kit.faulty_broker import FaultyBroker

READ_KEY = "read-" + "k" * 40


class FeedServer:
    """A running distributor."""

    def __init__(self, limits: DoorLimits, *, is_local: bool) -> None:
        self.broker = FaultyBroker()
        tail = Tail(self.broker, places_of(Settings()), 0)
        self.door = Door(
            Keys([Key(Scope.READ, digest_of(READ_KEY))]), frozenset({"127.0.0.1"}), limits, is_local=is_local
        )
        self.distributor = Distributor(Hub("run"), self.door, tail.read)
        self.ladder = Ladder([Service.KAFKA])
        self.ladder.note(Service.KAFKA, 0.0, 0)
        self.listening = listen("127.0.0.1", 0)
        self.port = self.listening.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/ws/exchange"
        self.stop = asyncio.Event()

    def connect(self, query: str = "", **options: Any) -> connect:
        """Return a client's connection, to be entered."""
        return connect_to(f"{self.url}{query}", **options)


@contextlib.asynccontextmanager
async def feed_server(limits: DoorLimits = DoorLimits(), *, is_local: bool = True) -> AsyncIterator[FeedServer]:  # noqa: B008
    """Run a distributor."""
    server = FeedServer(limits, is_local=is_local)
    running = asyncio.create_task(server.distributor.run(server.listening, server.stop))
    try:
        yield server
    finally:
        server.stop.set()
        await running


def connect_to(url: str, **options: Any) -> connect:
    """Return a client's connection to a feed, to be entered."""
    return connect(url, **{"compression": None, "max_size": None, "proxy": None, **options})


async def frame(connection: ClientConnection) -> dict[str, Any]:
    """Return the next frame of the feed."""
    read: dict[str, Any] = json.loads(await asyncio.wait_for(connection.recv(), 60))
    return read


async def records(connection: ClientConnection, count: int) -> list[dict[str, Any]]:
    """Return the next records, and check that no bundle is missing among them."""
    got: list[dict[str, Any]] = []
    seq: int | None = None
    while len(got) < count:
        bundle = await frame(connection)
        assert seq is None or bundle["seq"] == seq + 1
        seq = bundle["seq"]
        got += bundle["records"]
    return got
