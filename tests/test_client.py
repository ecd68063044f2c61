"""The client of the live feed outlives its servers, tells each record once, and says where some may be missing."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from coin_platform import client as client_module
from coin_platform.client import connect
from coin_platform.errors import FeedRefused
from coin_platform.model import Channel
from coin_platform.runtime.ports import free_ports
from tests.kit.feed import append_processed
from tests.kit.feed_server import READ_KEY, feed_server
from tests.kit.waiting import eventually


def bundle(seq: int, *offsets: int, stream: str = "run-1", snapshot: bool = False) -> dict[str, Any]:
    """Return a frame of tickers."""
    keys = {"type": "ticker", "exchange": "upbit", "pair": "BTC-KRW", "epoch": 1, "index": 0}
    frame = {"stream": stream, "seq": seq, "records": [keys | {"offset": offset} for offset in offsets]}
    return frame | ({"snapshot": True} if snapshot else {})


@contextlib.asynccontextmanager
async def scripted(*connections: Sequence[dict[str, Any]], reason: str = "") -> AsyncIterator[str]:
    """Serve these frames to one connection after the other, and close each. Yield the address."""
    scripts = iter(connections)

    async def attend(socket: ServerConnection) -> None:
        for frame in next(scripts, ()):
            await socket.send(json.dumps(frame))
        await socket.close(1012, reason)

    async with serve(attend, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws/exchange"


@contextlib.asynccontextmanager
async def info(body: dict[str, Any], status: int = 200) -> AsyncIterator[str]:
    """Serve `/ws/info`. Yield the address of the API."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # a client may go before it has its answer
            await respond(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        text = json.dumps(body).encode()
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(text), text))
        await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def told(url: str, count: int, **options: Any) -> list[int | str | tuple[Any, ...]]:
    """Return the offsets of the next records; a hole is its reason and the number of bundles."""
    got: list[int | str | tuple[Any, ...]] = []
    async with asyncio.timeout(60), connect(url, **options) as feed:
        async for entry in feed:
            hole = (entry["reason"], entry["missed_bundles"]) if entry["type"] == "hole" else entry["offset"]
            got.append(hole)
            if len(got) == count:
                break
    return got


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Wait for nothing, and tell how long the client wanted to wait."""
    wanted: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        wanted.append(seconds)
        await sleep(0)

    monkeypatch.setattr(client_module, "asyncio", type("Loop", (), {"sleep": staticmethod(note)}))
    return wanted


async def test_W5_a_hole_is_told_and_what_a_snapshot_repeats_is_not(pauses: list[float]) -> None:
    first = [bundle(0, 1, snapshot=True), bundle(1, 2), bundle(2, 3), bundle(5, 6, snapshot=True), bundle(6, 7)]
    second = [bundle(0, 7, stream="run-2", snapshot=True), bundle(1, 8, stream="run-2")]
    async with scripted(first, second) as url:
        assert await told(url, 8) == [1, 2, 3, ("slow", 3), 6, 7, ("reconnected", None), 8]


async def test_W5_a_snapshot_of_a_server_that_reads_elsewhere_now_is_no_hole(pauses: list[float]) -> None:
    frames = [bundle(0, 1, snapshot=True), bundle(1, 2), bundle(1, 2, snapshot=True), bundle(2, 3)]
    async with scripted(frames) as url:
        assert await told(url, 3) == [1, 2, 3]


async def test_W5_a_state_in_parts_is_told_without_a_hole(pauses: list[float]) -> None:
    other = {"exchange": "okx", "type": "ticker", "pair": "BTC-USDT", "epoch": 1, "offset": 9, "index": 0}
    parts = [
        {**bundle(4, 1, snapshot=True), "part": 1, "parts": 2},
        {**bundle(4, snapshot=True), "part": 2, "parts": 2, "records": [other]},
    ]
    async with scripted([*parts, bundle(5, 2)]) as url:
        assert await told(url, 3) == [1, 9, 2]


async def test_it_comes_back_at_the_moment_that_the_server_names_else_after_longer_and_longer_pauses(
    pauses: list[float],
) -> None:
    async with scripted([bundle(0, 1)], [bundle(0, 2)], reason="retry in 3.5 s") as url:
        assert await told(url, 3) == [1, ("reconnected", None), 2]
    assert pauses == [3.5]
    pauses.clear()
    async with scripted([], [], [], [], [], [], [], [bundle(0, 1)]) as url:
        assert await told(url, 1) == [1]
    assert len(pauses) == 7
    longest = [min(10.0, 0.2 * 2**number) for number in range(7)]
    assert all(0 <= pause <= most for pause, most in zip(pauses, longest, strict=True))


async def test_it_asks_where_the_servers_are_and_falls_back_to_the_next(pauses: list[float]) -> None:
    nobody = f"ws://127.0.0.1:{free_ports(1)[0]}/ws/exchange"
    async with scripted([bundle(0, 1)]) as good:
        servers = [{"address": address, "state": "live"} for address in (nobody, good)]
        async with info({"servers": servers}) as url:
            assert await told(url, 1) == [1]
    assert pauses == []


@pytest.mark.parametrize("status", [401, 403])
async def test_C1_a_refusal_is_an_error_with_the_remedy_and_is_not_tried_again(status: int) -> None:
    async with info({"detail": "this needs a key"}, status) as url:
        with pytest.raises(FeedRefused, match=f"/ws/info: answer {status}: .*this needs a key"):
            await told(url, 1)
    async with feed_server(is_local=False) as server:
        with pytest.raises(FeedRefused, match="this needs a key of scope read"):
            await told(server.url, 1)


async def test_an_api_that_does_not_answer_is_asked_again(pauses: list[float]) -> None:
    async with info({}, 503) as url:
        asking = asyncio.create_task(told(url, 1))
        await eventually(lambda: len(pauses) > 2, 60)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_it_filters_at_the_server_and_shows_its_key() -> None:
    async with feed_server(is_local=False) as server:
        broker = server.broker
        options: dict[str, Any] = {"exchanges": ["upbit"], "types": ["trade"], "key": READ_KEY}
        async with asyncio.timeout(60), connect(server.url, **options, pairs=["BTC-KRW"]) as feed:
            append_processed(broker, "okx", "BTC-USDT", channel=Channel.TRADE, offset=1)
            append_processed(broker, "upbit", "BTC-KRW", offset=2)
            append_processed(broker, "upbit", "BTC-KRW", channel=Channel.TRADE, offset=3)
            assert (await anext(feed))["offset"] == 3
    with pytest.raises(FeedRefused, match="exchange=nowhere: there are"):
        async with feed_server() as server:
            await told(server.url, 1, exchanges=["nowhere"])
