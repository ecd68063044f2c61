"""How a command that serves comes to its end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from coin_platform.runtime.processes import ending_signals


def until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that ends when its event is set; Ctrl-C, SIGTERM and a closed terminal set it."""

    async def run() -> None:
        stop = asyncio.Event()
        for number in ending_signals():
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    asyncio.run(run())


class StopFlag:
    """Terminate, Ctrl-C, SIGTERM and a closed terminal set one event; Dagster's own handlers are put back on exit.

    Dagster's handler raises wherever Python happens to be; inside a task that would end one connection, not the run.
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
        """Catch the signals of the main thread; elsewhere (tests) only `set` works."""
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
