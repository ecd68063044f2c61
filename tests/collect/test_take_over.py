"""A collector that takes over from another one of this machine."""

import asyncio
import threading
from typing import Any

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.collect.collector import Collector
from coin_platform.collect.poll_plan import OUTAGE_SECONDS
from coin_platform.collect.timing import Timing
from coin_platform.errors import NotTakenOver
from coin_platform.model import Channel, Pair, Refusal, Region
from coin_platform.records import unpack_facts
from coin_platform.topic_names import raw_topic
from tests.kit.clock import MovedClock
from tests.kit.collecting import running, simulated, states
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.kraken import (
    Quick,
    Refusing,
    fake_kraken,
    records,
)
from tests.kit.waiting import eventually

BTC = Pair("BTC", "USD")
TICKERS = raw_topic("ne", Channel.TICKER)


class Patient(Refusing):
    """Kraken that may be silent for ever."""

    silence_seconds = mute_seconds = 1e9


def guest() -> FaultyBroker:
    """Return a broker beside process 1234, until a test ends that process."""
    broker = FaultyBroker()
    broker.host_pid = 1234
    return broker


def ending(broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch, *, obeys: bool = True) -> list[int]:
    """Return the processes that the collector asks to end."""
    asked: list[int] = []

    def kill(pid: int, number: int) -> None:
        asked.append(pid)
        broker.host_pid = None if obeys else pid

    monkeypatch.setattr("coin_platform.collect.take_over.os.kill", kill)
    return asked


async def test_F5_who_takes_over_ends_the_other_once_all_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = guest()
    asked = ending(broker, monkeypatch)
    async with fake_kraken() as fake:
        collector = Collector(Region.NE, simulated(fake, pairs=(BTC,)), broker, exchanges=[Quick()])
        async with running(collector):
            await eventually(lambda: asked == [1234])
            assert states(collector) == {"live"}
            await eventually(lambda: [facts.beside for facts in own(broker)][-1:] == [False])
            assert own(broker)[0].beside


@pytest.mark.parametrize("role", ["guest", "host"])
async def test_F5_beside_another_collector_nothing_is_asked_for_before_the_opening_has_its_place_in_the_log(
    monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """What the other one stores between the opening and its place in the log would count twice: as two events."""

    disk, waiting = threading.Event(), threading.Semaphore(0)
    broker = FaultyBroker()
    broker.host_pid, broker.guest_is_here = (1234, False) if role == "guest" else (None, True)

    def flush() -> None:
        waiting.release()
        disk.wait()

    broker.on_flush = flush
    ending(broker, monkeypatch)
    async with fake_kraken() as fake:
        collector = Collector(Region.NE, simulated(fake, pairs=(BTC,)), broker, exchanges=[Quick()])
        async with running(collector):
            try:
                assert await asyncio.to_thread(
                    waiting.acquire, timeout=30
                )  # the socket is open, and could have asked before
                assert fake.opened
                assert fake.heard == []
            finally:
                disk.set()
            await eventually(lambda: fake.heard != [])


def own(broker: MemoryBroker) -> list[Any]:
    """Return the facts in our own records."""
    return [unpack_facts(value) for header, value in records(broker, TICKERS) if not header.kind.is_frame]


async def test_F5_who_does_not_get_live_leaves_the_other_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = guest()
    asked = ending(broker, monkeypatch)
    async with fake_kraken() as fake:
        settings = simulated(fake, pairs=(BTC,))
        await fake.fall()
        timing = Timing(live_seconds=0.3, take_over_look_seconds=0.01)
        collector = Collector(Region.NE, settings, broker, exchanges=[Quick()], timing=timing)
        with pytest.raises(NotTakenOver, match=r"not live after 0\.3 s: kraken \w+ 0 is .*; process 1234"):
            await collector.run(asyncio.Event())
    assert asked == []


@pytest.mark.parametrize("refusal", [Refusal.FINAL, Refusal.TEMPORARY])
async def test_R2_who_is_refused_all_pairs_takes_nothing_over_although_REST_stands_in(
    monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    broker, clock = guest(), MovedClock()
    asked = ending(broker, monkeypatch)
    async with fake_kraken() as fake:
        fake.unknown.add("BTC/USD")
        exchange = Patient(refusal)
        collector = Collector(
            *(Region.NE, simulated(fake, pairs=(BTC,)), broker),
            exchanges=[exchange],
            clock=clock,
            timing=Timing(live_seconds=1.5, take_over_look_seconds=0.01),
        )
        running = asyncio.create_task(collector.run(asyncio.Event()))
        await eventually(lambda: all(status.refused for status in collector.status))
        clock.monotonic += OUTAGE_SECONDS
        await eventually(lambda: {status.transport for status in collector.status} == {"rest"})
        with pytest.raises(NotTakenOver, match=r"not live after 1\.5 s: kraken \w+ 0 is .*; process 1234"):
            await running
    assert asked == []


async def test_R2_who_is_refused_some_pairs_for_the_moment_waits_for_them_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker, clock = guest(), MovedClock()
    asked = ending(broker, monkeypatch)
    async with fake_kraken() as fake:
        fake.unknown.add("ETH/USD")
        pairs = (BTC, Pair("ETH", "USD"))
        collector = Collector(
            *(Region.NE, simulated(fake, pairs=pairs), broker),
            exchanges=[Patient(Refusal.TEMPORARY)],
            clock=clock,
            timing=Timing(live_seconds=1.5, take_over_look_seconds=0.01),
        )
        async with running(collector):
            await eventually(lambda: all(status.refused for status in collector.status))
            clock.monotonic += OUTAGE_SECONDS + 1
            await eventually(lambda: all(feed.is_served for feed in collector.feeds))
            assert asked == []
            await eventually(lambda: asked == [1234])


async def test_who_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = guest()
    ending(broker, monkeypatch, obeys=False)
    async with fake_kraken() as fake:
        timing = Timing(end_seconds=0.3, take_over_look_seconds=0.01)
        collector = Collector(Region.NE, simulated(fake, pairs=(BTC,)), broker, exchanges=[Quick()], timing=timing)
        with pytest.raises(NotTakenOver, match=r"process 1234 has not ended 0\.3 s after SIGTERM"):
            await collector.run(asyncio.Event())
