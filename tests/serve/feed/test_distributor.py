"""The distributor over real sockets: whoever reads gets all, and whoever does not harms nobody."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from coin_platform.errors import BrokerUnreachable
from coin_platform.model import Channel
from coin_platform.serve.feed import distributor as distributor_module
from coin_platform.serve.feed import feed as feed_module
from coin_platform.serve.feed.door import FEED_PROTOCOL, KEY_PROTOCOL, DoorLimits
from coin_platform.serve.feed.feed import PERIODS, next_period
from tests.kit.feed import append_gap, append_processed
from tests.kit.feed_server import READ_KEY, FeedServer, feed_server, frame, records
from tests.kit.waiting import eventually


def serving(work: Callable[[FeedServer], Awaitable[None]], **options: Any) -> None:
    """Run a client's work while a distributor serves."""

    async def run() -> None:
        async with feed_server(**options) as server:
            await work(server)

    asyncio.run(run())


def test_W5_a_client_gets_the_state_and_then_every_record_once_and_in_order() -> None:
    async def work(server: FeedServer) -> None:
        append_processed(server.broker, "upbit", "BTC-KRW", offset=1)
        async with server.connect() as early:
            await records(early, 1)
            async with server.connect() as late:
                assert [record["offset"] for record in (await frame(late))["records"]] == [1]
                for offset in range(2, 30):
                    append_processed(server.broker, "upbit", "BTC-KRW", channel=Channel.TRADE, offset=offset)
                append_gap(server.broker, "okx", None)
                for client in (early, late):
                    got = await records(client, 29)
                    assert [record["offset"] for record in got if record["type"] == "trade"] == [*range(2, 30)]
                    assert [record["exchange"] for record in got if record["type"] == "gap"] == ["okx"]

    serving(work)


def test_clients_get_what_their_filter_wants() -> None:
    async def work(server: FeedServer) -> None:
        async with server.connect("?exchange=okx&type=ticker") as okx, server.connect("?pair=BTC-KRW") as bitcoin:
            for client in (okx, bitcoin):
                assert (await frame(client))["snapshot"] is True
            append_processed(server.broker, "upbit", "BTC-KRW", offset=1)
            append_processed(server.broker, "okx", "BTC-USDT", offset=2)
            append_processed(server.broker, "okx", "BTC-USDT", channel=Channel.TRADE, offset=3)
            assert [record["offset"] for record in await records(okx, 1)] == [2]
            assert [record["offset"] for record in await records(bitcoin, 1)] == [1]

    serving(work)


def test_W2_a_client_that_never_reads_is_cut_and_the_others_miss_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(server: FeedServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 10)
        peer = writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.write(
            b"GET /ws/exchange HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with server.connect() as good:
            await frame(good)
            await eventually(lambda: len(server.distributor.clients) == 2, 60)
            offset = 0
            got: list[int] = []
            while server.distributor.clients.cut == 0:
                for _ in range(20):
                    offset += 1
                    append_processed(
                        server.broker, "upbit", "BTC-KRW", channel=Channel.TRADE, offset=offset, note="x" * 20_000
                    )
                got += [record["offset"] for record in await records(good, offset - len(got))]
            assert got == [*range(1, offset + 1)]
            await eventually(lambda: len(server.distributor.clients) == 1, 60)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        assert reader is not None

    monkeypatch.setattr("coin_platform.serve.feed.clients.FULL_SECONDS", 0.2)
    serving(work)


def test_W6_at_the_end_clients_are_told_to_come_back_at_different_moments() -> None:
    async def work(server: FeedServer) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(server.connect()) for _ in range(10)]
            server.stop.set()
            reasons = []
            for client in clients:
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await asyncio.wait_for(client.recv(), 60)
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
                reasons.append(closed.value.rcvd.reason)
            assert all(reason.startswith("retry in ") for reason in reasons) and len(set(reasons)) > 1

    serving(work)


def test_C1_refusals_come_before_the_upgrade_and_a_key_may_come_as_a_subprotocol() -> None:
    async def status(server: FeedServer, query: str = "", **options: Any) -> int:
        with pytest.raises(InvalidStatus) as refused:
            async with server.connect(query, **options):
                pass
        return refused.value.response.status_code

    async def work(server: FeedServer) -> None:
        assert await status(server) == 401
        assert await status(server, additional_headers={"X-API-Key": "wrong"}) == 401
        assert await status(server, additional_headers={"X-API-Key": READ_KEY}, origin="https://evil.example") == 403
        assert await status(server, "?type=x", additional_headers={"X-API-Key": READ_KEY}) == 400
        async with server.connect(subprotocols=[FEED_PROTOCOL, KEY_PROTOCOL + READ_KEY]) as client:
            assert client.subprotocol == FEED_PROTOCOL, "the key is not sent back"
        assert server.door.refused[401] == 2

    serving(work, is_local=False)


def test_too_many_connections_are_cut_and_those_that_are_there_stay() -> None:
    async def work(server: FeedServer) -> None:
        async with server.connect() as first, server.connect():
            with pytest.raises((InvalidHandshake, OSError)):
                async with server.connect():
                    pass
            append_processed(server.broker, "upbit", "BTC-KRW", offset=1)
            assert [record["offset"] for record in await records(first, 1)] == [1]
        await eventually(lambda: len(server.distributor.clients) == 0, 60)
        async with server.connect() as again:
            assert (await frame(again))["snapshot"] is True

    serving(work, limits=DoorLimits(clients_per_address=2))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x05hello", 1002),  # not masked
        (b"\xc1\x80\x00\x00\x00\x00", 1002),  # a reserved bit
        (b"\x81\x82\x00\x00\x00\x00\xff\xff", 1007),  # not UTF-8
        (b"\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00", 1009),  # a gigabyte to come
    ],
)
def test_W4_what_breaks_the_protocol_ends_its_own_connection_and_no_other(sent: bytes, code: int) -> None:
    async def work(server: FeedServer) -> None:
        async with server.connect() as good:
            await frame(good)
            async with server.connect() as bad:
                await frame(bad)
                bad.transport.write(sent)
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await asyncio.wait_for(bad.recv(), 60)
                assert closed.value.rcvd is not None and closed.value.rcvd.code == code
            append_processed(server.broker, "upbit", "BTC-KRW", offset=1)
            assert [record["offset"] for record in await records(good, 1)] == [1]

    serving(work)


def test_a_client_that_talks_too_much_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributor_module, "MOST_MESSAGES", 3)

    async def work(server: FeedServer) -> None:
        async with server.connect() as client:
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await client.send("hello")
                    await asyncio.sleep(0)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008

    serving(work)


def test_while_the_log_does_not_answer_the_feed_says_so_and_goes_on_after_that(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed_module, "AWAY_SECONDS", 0.01)

    async def work(server: FeedServer) -> None:
        async with server.connect() as client:
            await frame(client)
            server.broker.refuse("end_offsets", BrokerUnreachable("kafka is away"))
            await eventually(lambda: server.distributor.failure == "kafka is away", 60)
            append_processed(server.broker, "upbit", "BTC-KRW", offset=1)
            server.broker.allow("end_offsets")
            assert [record["offset"] for record in await records(client, 1)] == [1]
            assert server.distributor.failure == ""

    serving(work)
    assert caplog.text.count("the feed stands still: kafka is away") == 1


def test_a_round_that_takes_long_makes_bundles_rarer_and_an_easy_one_more_frequent() -> None:
    short, middle, long = PERIODS
    assert (next_period(short, 0.05), next_period(short, 0.09), next_period(middle, 0.3)) == (short, middle, long)
    assert (next_period(long, 5), next_period(long, 0.2), next_period(long, 0.05)) == (long, long, middle)
    assert (next_period(middle, 0.05), next_period(middle, 0.03)) == (middle, short)


def test_the_frames_of_a_bundle_are_json_of_utf8(tmp_path: Any) -> None:
    async def work(server: FeedServer) -> None:
        async with server.connect() as client:
            await frame(client)
            append_processed(server.broker, "upbit", "비트-KRW", offset=1)
            text = await asyncio.wait_for(client.recv(), 60)
            assert json.loads(text)["records"][0]["pair"] == "비트-KRW"

    serving(work)
