"""Blocking calls that the end of a program does not wait for."""

import asyncio
import threading

import pytest

from coin_platform.runtime.threads import in_own_thread
from tests.kit.waiting import until


async def test_a_call_returns_its_result_or_raises_its_error_and_has_the_name_of_its_thread() -> None:
    assert await in_own_thread(lambda: threading.current_thread().name, "asks") == "asks"
    with pytest.raises(ZeroDivisionError):
        await in_own_thread(lambda: 1 // 0, "divides")


def test_a_call_that_hangs_holds_up_no_end_and_what_it_says_later_is_dropped() -> None:
    hangs, released, over = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        released.wait()
        over.set()

    async def give_up() -> None:
        waiting = asyncio.create_task(in_own_thread(hang, "hangs"))
        while not hangs.is_set():
            await asyncio.sleep(0.005)
        waiting.cancel()

    try:
        asyncio.run(give_up())
        assert not over.is_set()
    finally:
        released.set()
    until(over.is_set)
