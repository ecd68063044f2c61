"""Calls that may block for ever, in threads that the end of the program does not wait for."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(call: Callable[[], T], name: str) -> T:
    """Return what a blocking call returns, or raise what it raises.

    `asyncio.run` waits at its end for all calls of `asyncio.to_thread`, so one that hangs would hold up the end. This
    one runs in a thread called `name`, and is left alone if the caller is cancelled.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # it cannot be cancelled any more

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await asyncio.wrap_future(outcome)
