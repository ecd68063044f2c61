"""The clocks of this machine, and waits that an event cuts short."""

import asyncio

from coin_platform.clock import elapsed, now, steady, unless, wall


def test_the_clocks_of_this_machine_go_on() -> None:
    assert steady()() <= wall() and elapsed() <= elapsed()
    assert now().monotonic <= now().monotonic


async def test_work_goes_on_unless_the_event_comes_first() -> None:
    async def answer() -> int:
        return 7

    event = asyncio.Event()
    assert await unless(event, answer()) == 7
    event.set()
    never = asyncio.get_running_loop().create_future()
    assert await unless(event, never) is None
    assert never.cancelled()
