"""Run the simulator on a free port of loopback, and connect to it as a collector does."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.model import Channel
from coin_platform.runtime.ports import free_port
from coin_platform.settings import Mode, Settings
from coin_platform.simulator.sent_log import digest, open_log
from coin_platform.simulator.server import Simulator
from tests.kit.venue_talk import pair_of

Work: TypeAlias = Callable[[int, Simulator], Awaitable[None]]
Lines: TypeAlias = list[dict[str, Any]]


def served(folder: Path, work: Work, *, rate: float = 100.0, outbox: int = 2000) -> tuple[Lines, Lines]:
    """Run the simulator while `work(port, simulator)` runs. Return the lines of sent.jsonl and of closed.jsonl."""

    async def run() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        settings = Settings(simulator_port=free_port(0), exchanges_mode=Mode.SIMULATED)
        with open_log(folder) as log:
            simulator = Simulator(settings, 7, log, rate=rate, outbox=outbox)
            running = asyncio.create_task(simulator.run(stop, ready))
            await ready.wait()
            try:
                async with asyncio.timeout(60):
                    await work(settings.simulator_port, simulator)
            finally:
                stop.set()
                await running

    asyncio.run(run())
    files = (folder / "sent.jsonl", folder / "closed.jsonl")
    sent, closed = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
    return sent, closed


def open_socket(port: int, name: str, channel: Channel = Channel.ORDERBOOK) -> connect:
    """Return a connection to a simulated exchange."""
    url = simulated_url(EXCHANGES[name].socket_url(channel), name, f"127.0.0.1:{port}")
    return connect(url, compression=None, proxy=None, close_timeout=2)


async def subscribe(socket: ClientConnection, name: str, channel: Channel = Channel.ORDERBOOK) -> None:
    """Subscribe to one pair."""
    for request in EXCHANGES[name].subscribe(channel, [pair_of(name)], id=1, time=0):
        await socket.send(request.payload)


async def hear(socket: ClientConnection, received: Counter[str]) -> None:
    """Count the hashes of all messages until the socket ends."""
    try:
        while True:
            received[digest(await socket.recv(decode=False))] += 1
    except ConnectionClosed:
        return
