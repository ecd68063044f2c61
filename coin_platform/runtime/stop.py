"""Turn the signals that end a process into one event."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from coin_platform.runtime.processes import ending_signals


def until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that ends when its event is set. Ctrl-C, SIGTERM and a closed terminal set the event."""

    async def run() -> None:
        stop = asyncio.Event()
        for number in ending_signals():
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    asyncio.run(run())


class StopFlag:
    """An event that Dagster's Terminate, Ctrl-C, SIGTERM and a closed terminal set, with the first reason.

    It replaces Dagster's own signal handlers while it is installed. Those raise wherever Python happens to be: inside
    a task that would end one connection and not the run.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.reason = ""

    def set(self, reason: str) -> None:
        """Ask the run to end."""
        self.reason = self.reason or reason
        self.event.set()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Catch the signals of the main thread. In another thread only `set` works."""
        loop, numbers = asyncio.get_running_loop(), ending_signals()
        old = {number: signal.getsignal(number) for number in numbers}
        with contextlib.suppress(ValueError, RuntimeError):
            for number in numbers:
                loop.add_signal_handler(number, self.set, number.name)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError, RuntimeError):
                for number, handler in old.items():
                    loop.remove_signal_handler(number)
                    signal.signal(number, handler)
