"""The budgets of one peer: bytes that wait for the disk, bytes that it leaves unread, and time."""

import asyncio
import base64
import contextlib
import hashlib
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve

from coin_platform.broker import LocalBroker, MemoryBroker
from coin_platform.collect import connection, websocket
from coin_platform.collect.actions import Fetch
from coin_platform.collect.feed import Feed
from coin_platform.collect.poller import Poller
from coin_platform.collect.recorder import WAITING_BYTES, Recorder
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.collect.traffic import Traffic
from coin_platform.end_reasons import End
from coin_platform.exchanges.base import Exchange
from coin_platform.journal.writer import BUFFER_BYTES
from coin_platform.model import SECOND, Cause, Channel, Kind, Pair
from coin_platform.records import Transport, unpack_facts
from coin_platform.tables.gaps import GapLedger
from coin_platform.topic_names import raw_topic
from tests.kit.access import quick_access
from tests.kit.bench import BTC, ETH, MINUTE, live_feed, running_feed
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.kraken import BOOKS, CANDLES, TICKER, Quick, frames, records, values
from tests.kit.waiting import eventually

FLOOD = b'{"channel":"flood","x":"' + b"x" * (1 << 20) + b'"}'


async def test_D17_who_brings_more_than_the_disk_takes_is_left_with_a_gap_and_served_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        broker = FaultyBroker()
        broker.hold_back()
        async with live_feed(channel=Channel.TICKER, broker=broker) as bench:
            topic = bench.feed.route.topic
            server = bench.fake.sockets[0]
            with contextlib.suppress(Exception):
                for _ in range(60):
                    await server.send(FLOOD)
            await eventually(lambda: bench.values(Kind.CLOSED))
            waiting = broker.waiting_bytes(topic, 1)
            broker.dry()
            await eventually(lambda: len(bench.fake.sent) == 2)
            await bench.live()
    assert WAITING_BYTES - 2 * len(FLOOD) < waiting <= WAITING_BYTES <= BUFFER_BYTES // 2
    stored = records(broker, topic)
    [first, _] = values(stored, Kind.CLOSED)
    assert unpack_facts(first).reason.startswith("over its budget: 1,048,602 bytes came while 3")
    lines = [line.getMessage() for line in caplog.records if line.name.startswith("coin_platform")]
    assert lines == [f"kraken ticker 0: ended, {unpack_facts(first).reason}"]
    ledger, gaps = GapLedger(Quick(), Channel.TICKER), []
    for header, value in stored:
        gaps += ledger.record(header, value)
    last = next(header for header, value in reversed(stored) if value == FLOOD)
    news = TICKER.encode()
    again = next(header for header, value in stored if header.connection != last.connection and value == news)
    assert [(gap.pair, gap.start, gap.stop, gap.cause) for gap in gaps][:2] == [
        (BTC, last.received_time, None, Cause.BUDGET),
        (BTC, last.received_time, again.received_time, Cause.BUDGET),
    ]


async def test_D17_another_partition_does_not_notice() -> None:
    broker = FaultyBroker()
    broker.hold_back((raw_topic("ne", Channel.TICKER), 1))
    async with (
        running_feed(channel=Channel.TICKER, broker=broker) as flooded,
        running_feed(channel=Channel.ORDERBOOK, broker=broker) as other,
    ):
        await flooded.live()
        await other.live()
        with contextlib.suppress(Exception):
            for _ in range(60):
                await flooded.fake.sockets[0].send(FLOOD)
        await eventually(lambda: values(flooded.records(), Kind.CLOSED))
        for _ in range(60):
            await other.fake.sockets[0].send(FLOOD)
        await eventually(lambda: [value for _, value in other.records()].count(FLOOD) == 60)
        assert (other.feed.status.reconnects, len(values(other.records(), Kind.CLOSED))) == (0, 0)


async def test_D17_an_answer_over_REST_that_finds_no_room_is_asked_for_again() -> None:
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        return httpx.Response(200, content=CANDLES)

    class Brisk(Quick):
        channels = frozenset(Channel) - {Channel.CANDLE}

    broker, exchange, topic = FaultyBroker(), Brisk(), raw_topic("ne", Channel.CANDLE)
    broker.waiting = lambda: WAITING_BYTES if len(calls) < 2 else 0
    rest = Rest(exchange, httpx.MockTransport(answer))
    route = Route(exchange, Channel.CANDLE, 0, topic, 7, 60 * SECOND)
    access = quick_access(exchange, rest, broker)
    poller = Poller([BTC, ETH], Recorder(route, access, Traffic(), Transport.REST), access)
    async with asyncio.TaskGroup() as group:
        group.create_task(poller.run())
        await eventually(lambda: poller.last_error)
        error, state = poller.last_error, poller.state
        await eventually(lambda: poller.state == "live")
        poller.end("stopped")
    await rest.close()
    kinds = [header.kind for header, _ in records(broker, topic)]
    assert error.startswith("over its budget: ")
    assert (state, kinds) == ("connecting", [Kind.OPENED, Kind.REST, Kind.CLOSED])


def fill_at_first(broker: FaultyBroker, requests: Sequence[str]) -> None:
    """Have no room for the first answer over REST."""
    broker.waiting = lambda: WAITING_BYTES if len(requests) == 1 else 0


async def test_D17_a_past_that_finds_no_room_is_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        broker = FaultyBroker()
        async with running_feed(channel=Channel.TRADE, broker=broker) as bench:
            fill_at_first(broker, bench.fake.asked)
            await eventually(lambda: [header for header, _ in bench.records() if header.kind is Kind.REST])
            stored = bench.records()
    assert "no past of BTC-USD over REST, over its budget: " in caplog.text
    assert not values(stored, Kind.CLOSED)


async def test_D17_a_book_over_REST_that_finds_no_room_costs_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        broker = FaultyBroker()
        async with live_feed(broker=broker) as bench:
            fill_at_first(broker, bench.fake.asked)
            bench.feed.connections[0]._perform([Fetch(BTC, "https://api.kraken.com/0/public/Depth?pair=BTC/USD")])
            await eventually(lambda: "not fetched" in caplog.text)
            stored = bench.records()
    assert "book of BTC-USD not fetched, over its budget: " in caplog.text
    assert {header.kind for header, _ in stored} & {Kind.REST, Kind.CLOSED} == set()


async def test_D17_a_message_larger_than_half_the_budget_ends_its_socket() -> None:
    assert 2 * websocket.MESSAGE_BYTES <= WAITING_BYTES

    async with live_feed() as bench:
        with contextlib.suppress(Exception):
            await bench.fake.sockets[0].send(b"x" * (websocket.MESSAGE_BYTES + 1))
        await eventually(lambda: len(bench.fake.sent) == 2)
        assert "1009 (message too big)" in unpack_facts(bench.values(Kind.CLOSED)[0]).reason


@pytest.mark.long
async def test_D17_a_flood_of_large_messages_ends_no_feed_of_another_exchange_and_no_collector(tmp_path: Path) -> None:
    """Use a real journal, and messages that come faster than the disk takes them."""
    huge = b"x" * (15 << 20)

    async def flood(server: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            while True:
                await server.send(huge)

    local = LocalBroker(tmp_path)
    memory = MemoryBroker()
    memory.append = local.append  # type: ignore[method-assign]
    memory.waiting_bytes = local.waiting_bytes  # type: ignore[method-assign]
    async with serve(flood, "127.0.0.1", 0, compression=None) as server:
        host = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        exchange, stop = Quick(), asyncio.Event()
        rest = Rest(exchange)
        route = Route(exchange, Channel.TICKER, 0, "flooded", 7, MINUTE, host)
        feed = Feed(route, [BTC], quick_access(route.exchange, rest, memory))
        async with running_feed(broker=memory) as other:
            running = asyncio.create_task(feed.run(stop))
            await other.live()
            async with asyncio.timeout(60):
                while feed.traffic.frames <= 2:
                    await other.fake.say('{"channel":"heartbeat"}')
                    await asyncio.sleep(0.01)
            state = (other.feed.status.reconnects, feed.traffic.frames, local.waiting_bytes("flooded", 1))
            stop.set()
            await running
        await rest.close()
    await asyncio.to_thread(local.close)
    reconnects, flooded, waiting = state
    assert (reconnects, flooded > 2, waiting <= WAITING_BYTES) == (0, True, True)


# Peers that do not read.


@contextlib.asynccontextmanager
async def deaf(talk: Callable[[asyncio.StreamWriter], Awaitable[None]], *, reads: bool = False) -> AsyncIterator[str]:
    """Serve sockets that accept the upgrade and then only talk. They read if `reads`. Yield the address."""
    tasks: set[asyncio.Task[Any]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        proof = hashlib.sha1(key.split(b":")[1].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(proof) + b"\r\n\r\n"
        )
        if reads:
            reading = asyncio.create_task(reader.read())
            tasks.add(reading)
        else:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await talk(writer)
        writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for task in tasks:
            task.cancel()
        server.close()


async def pings(writer: asyncio.StreamWriter) -> None:
    """Send pings without a pause."""
    burst = (b"\x89\x7d" + b"p" * 125) * 500
    while True:
        writer.write(burst)
        await writer.drain()


def flood(frame: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Return a talk that repeats one frame, in pieces as large as those of a network."""

    async def talk(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(frame * ((256 << 10) // len(frame)))
            await writer.drain()

    return talk


async def nothing(writer: asyncio.StreamWriter) -> None:
    """Send nothing, and hold the connection."""
    await asyncio.Event().wait()


class Alone(Quick):
    """Kraken without REST, so that nothing is polled."""

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        return None


class Chatty(Alone):
    """Kraken that asks for a text as a ping, at every look. The text is far larger than that of any exchange."""

    ping = "p" * (4 << 20)
    ping_every = 0.1


@contextlib.asynccontextmanager
async def feeding(host: str, exchange: Exchange) -> AsyncIterator[tuple[Feed, MemoryBroker, asyncio.Event]]:
    """Run a feed of books against a host until the block ends. Raises `TimeoutError` if its end takes 20 s."""
    broker, stop, rest = MemoryBroker(), asyncio.Event(), Rest(exchange)
    route = Route(exchange, Channel.ORDERBOOK, 0, BOOKS, 7, MINUTE, host)
    feed = Feed(route, [BTC], quick_access(route.exchange, rest, broker))
    running = asyncio.create_task(feed.run(stop))
    try:
        yield feed, broker, stop
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await running
        await rest.close()


async def test_D18_a_peer_that_pings_and_does_not_read_is_left_and_our_memory_is_flat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "PINGS_PER_SECOND", 1_000_000)  # as if they had come over hours

    async with deaf(pings) as host, feeding(host, Alone()) as (_, broker, _):
        tracemalloc.start()
        await eventually(lambda: values(records(broker), Kind.CLOSED), 30)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    reason = unpack_facts(values(records(broker), Kind.CLOSED)[0]).reason
    assert reason.startswith("not read by the exchange: 1,")
    assert peak < 24 << 20
    assert not list(frames(records(broker)))


@pytest.mark.parametrize("is_blocked", [False, True])
async def test_D18_a_stop_ends_the_connection_to_a_peer_that_does_not_read(
    is_blocked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = asyncio.Event()

    class Watched(websocket.Socket):
        def pause_writing(self) -> None:
            super().pause_writing()
            blocked.set()

    monkeypatch.setattr(websocket, "Socket", Watched)
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.2)

    exchange = Chatty() if is_blocked else Alone()
    async with deaf(nothing) as host, feeding(host, exchange) as (feed, broker, stop):
        await eventually(lambda: feed.connections and feed.connections[0].is_open)
        if is_blocked:
            await blocked.wait()  # the buffers of the system are full
        stop.set()
        await eventually(lambda: not feed.connections)
        assert [unpack_facts(value).reason for value in values(records(broker), Kind.CLOSED)] == [End.STOPPED]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x89\x00", "more than 100 pings in a second"),
        (b"\x89\x7d" + b"p" * 125, "more than 100 pings in a second"),
        (b"\x81\x00", "more than 5,000 frames in a second"),
        (b"\x8a\x00", "more than 5,000 frames in a second"),
    ],
    ids=["pings", "long pings", "empty messages", "pongs"],
)
async def test_D18_a_flood_of_small_frames_is_left_though_the_peer_reads(
    frame: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "FRAMES_PER_SECOND", 5_000)

    async with deaf(flood(frame), reads=True) as host, feeding(host, Alone()) as (_, broker, _):
        await eventually(lambda: values(records(broker), Kind.CLOSED), 30)
    assert unpack_facts(values(records(broker), Kind.CLOSED)[0]).reason == reason


async def test_D18_many_messages_at_once_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TURN_SECONDS", 0.0)
    turns: list[int] = []

    async with live_feed(channel=Channel.TICKER) as bench:
        before = bench.feed.status.frames

        async def watch() -> None:
            while True:
                turns.append(bench.feed.status.frames - before)
                await asyncio.sleep(0)

        for number in range(40):
            await bench.fake.say(f'{{"channel":"heartbeat","n":{number}}}')
        watching = asyncio.create_task(watch())
        await eventually(lambda: bench.feed.status.frames >= before + 40)
        watching.cancel()
    assert max(later - earlier for earlier, later in pairwise(turns)) <= 2


async def test_D18_what_we_say_is_taken_in_time_or_the_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "WRITE_SECONDS", 0.3)

    async with deaf(nothing) as host, feeding(host, Chatty()) as (_, broker, _):
        await eventually(lambda: values(records(broker), Kind.CLOSED), 30)
        assert unpack_facts(values(records(broker), Kind.CLOSED)[0]).reason == "not read by the exchange for 0.3 s"
