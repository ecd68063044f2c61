"""How a command that serves comes to its end."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any


def until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that ends when its event is set; SIGINT and SIGTERM set it."""

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    asyncio.run(run())
