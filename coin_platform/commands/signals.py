"""How a command that serves comes to its end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from coin_platform.processes import ending_signals


def until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that ends when its event is set; Ctrl-C, SIGTERM and a closed terminal set it."""

    async def run() -> None:
        stop = asyncio.Event()
        for number in ending_signals():
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    asyncio.run(run())
