"""`/ws/kafka` and `/ws/redis` tell what one service has, and nothing else."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coin_platform.broker import MemoryBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.serve.feed.bound import BoundFeed
from coin_platform.serve.feed.distributor import Distributor, listen
from coin_platform.serve.feed.door import BOUND_PATHS, PATH, Door, DoorLimits
from coin_platform.serve.feed.hub import Hub
from coin_platform.serve.feed.ladder import Ladder, Service
from coin_platform.serve.feed.opening import bound_feeds, services_of
from coin_platform.serve.feed.redis_source import RedisSource
from coin_platform.serve.feed.source import FeedSource, places_of
from coin_platform.serve.feed.tail import Tail
from coin_platform.serve.keys import Keys
from coin_platform.settings import Settings
from coin_platform.topic_names import processed_topic
from tests.kit.feed import append_processed
from tests.kit.feed_server import connect_to, frame, records
from tests.kit.memory_streams import MemoryStreams
from tests.kit.waiting import eventually

UPBIT = EXCHANGES["upbit"]
TICKERS = processed_topic(UPBIT.region, Channel.TICKER), UPBIT.partition
PLACES = places_of(Settings(exchanges=("upbit",)))
REDIS_PATH = BOUND_PATHS[Service.REDIS]


class CountedSource(RedisSource):
    """A source that says whether it is open, and that reads once a test allows it."""

    opened = 0

    def __init__(self, streams: MemoryStreams, allowed: threading.Event) -> None:
        super().__init__(streams, streams, PLACES, 0)
        CountedSource.opened += 1
        self.read_when = allowed

    def read(self, positions):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
        self.read_when.wait(30)
        return super().read(positions)

    def close(self) -> None:
        CountedSource.opened -= 1


class Bound:
    """A distributor whose main feed reads nothing, and a feed of Redis."""

    def __init__(self) -> None:
        self.streams, self.broker, self.allowed = MemoryStreams(), MemoryBroker(), threading.Event()
        self.allowed.set()
        self.ladder = Ladder((Service.KAFKA, Service.REDIS))
        for service in (Service.KAFKA, Service.REDIS):
            self.ladder.note(service, 0.0, 0)
        self.redis = BoundFeed("run", Service.REDIS, self.ladder, self.source)
        door = Door(Keys([]), frozenset({"127.0.0.1"}), DoorLimits(), is_local=True, paths=[PATH, REDIS_PATH])
        read = Tail(self.broker, PLACES, 0).read
        self.distributor = Distributor(Hub("run"), door, read, bound={REDIS_PATH: self.redis})
        self.listening = listen("127.0.0.1", 0)
        self.address = f"ws://127.0.0.1:{self.listening.getsockname()[1]}"

    def source(self) -> FeedSource:
        return CountedSource(self.streams, self.allowed)

    def append(self, offset: int) -> None:
        append_processed(self.broker, "upbit", "BTC-KRW", offset=offset)
        self.streams.held[TICKERS] = list(self.broker.read(*TICKERS, 0, 1 << 40))

    def fail(self) -> None:
        for moment in (1.0, 2.0):
            self.ladder.note(Service.REDIS, moment, 0, "redis is away")


@contextlib.asynccontextmanager
async def bound() -> AsyncIterator[Bound]:
    CountedSource.opened = 0
    server, stop = Bound(), asyncio.Event()
    running = asyncio.create_task(server.distributor.run(server.listening, stop))
    try:
        yield server
    finally:
        server.allowed.set()
        stop.set()
        await running
    assert CountedSource.opened == 0


async def closed(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as ended:
        while True:
            await asyncio.wait_for(client.recv(), 60)
    assert ended.value.rcvd is not None
    return ended.value.rcvd.code, ended.value.rcvd.reason


async def test_a_client_of_one_service_gets_the_state_and_the_records_of_that_service() -> None:
    async with bound() as server:
        server.append(0)
        server.append(1)
        async with connect_to(f"{server.address}{REDIS_PATH}?type=ticker") as client:
            first = await frame(client)
            assert first["snapshot"] is True and first["stream"].startswith("run-redis-")
            got = [*first["records"], *(await records(client, 2 - len(first["records"])))]
            assert got[-1]["offset"] == 1
            server.append(2)
            assert [record["offset"] for record in await records(client, 1)] == [2]
            assert CountedSource.opened == 1
        await eventually(lambda: CountedSource.opened == 0, 60)
        async with connect_to(f"{server.address}{REDIS_PATH}") as again:
            assert (await frame(again))["seq"] in (0, 1), "it begins anew"


async def test_a_client_that_comes_first_waits_until_there_is_a_state() -> None:
    async with bound() as server:
        server.append(0)
        server.allowed.clear()
        async with connect_to(f"{server.address}{REDIS_PATH}") as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.recv(), 0.2)
            server.allowed.set()
            await records(client, 1)


async def test_C5_while_its_service_is_down_clients_are_closed_with_1013_and_the_whole_feed_goes_on() -> None:
    async with bound() as server, connect_to(f"{server.address}{PATH}") as whole:
        await frame(whole)
        async with connect_to(f"{server.address}{REDIS_PATH}") as client:
            await frame(client)
            server.fail()
            assert await closed(client) == (1013, "redis is down; GET /ws/info says what is up")
        async with connect_to(f"{server.address}{REDIS_PATH}") as late:
            assert (await closed(late))[0] == 1013
        server.append(0)
        assert [record["offset"] for record in await records(whole, 1)] == [0]
        await eventually(lambda: CountedSource.opened == 0, 60)
        for moment in (10.0, 20.0, 30.0):
            server.ladder.note(Service.REDIS, moment, 0)
        async with connect_to(f"{server.address}{REDIS_PATH}") as client:
            await records(client, 1)


async def test_what_is_not_configured_is_404_before_the_upgrade() -> None:
    async with bound() as server:
        with pytest.raises(InvalidStatus) as refused:
            async with connect_to(f"{server.address}/ws/kafka"):
                pass
        assert refused.value.response.status_code == 404


def test_the_services_follow_the_settings() -> None:
    kafka = Settings(broker_url="kafka://127.0.0.1:1")
    both = Settings(broker_url="kafka://127.0.0.1:1", redis_url="redis://127.0.0.1:1", redis_feed=True)
    assert list(services_of(Settings())) == [Service.LOCAL]
    assert list(services_of(kafka)) == [Service.KAFKA]
    assert list(services_of(both)) == [Service.KAFKA, Service.REDIS]
    assert list(bound_feeds(both, Ladder(services_of(both)), "run", 120)) == ["/ws/kafka", "/ws/redis"]
    assert bound_feeds(Settings(), Ladder([Service.LOCAL]), "run", 120) == {}
