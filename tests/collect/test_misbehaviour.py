"""Exchanges and networks refuse sockets, close them, break them off, and send nonsense or too much."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from coin_platform.broker import LocalBroker, MemoryBroker
from coin_platform.collect.feed import Feed
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.collect.session import ANSWER_SECONDS
from coin_platform.collect.status import FeedStatus
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Kind, Pair, Refusal
from coin_platform.records import unpack, unpack_facts
from infra.certificates import Authority
from tests.kit.access import quick_access
from tests.kit.bench import BTC, ETH, MINUTE, live_feed, running_feed
from tests.kit.clock import MovedClock
from tests.kit.kraken import HEARTBEAT, TICKER, Quick, frames
from tests.kit.waiting import eventually

FIFTY = [Pair(f"A{number}", "USD") for number in range(50)]

# B4


async def test_B4_one_refused_pair_of_fifty_one_that_is_not_answered_and_an_answer_for_a_stranger_harm_no_other() -> (
    None
):
    clock = MovedClock()

    class Patient(Quick):
        silence_seconds = mute_seconds = 1e6

        def request_url(self, channel: Channel, pair: Pair) -> str | None:
            return None  # nothing stands in meanwhile

    async with running_feed(*FIFTY, channel=Channel.TICKER, exchange=Patient(), clock=clock) as bench:
        bench.fake.unknown, bench.fake.unanswered = {"A7/USD"}, {"A9/USD"}
        await eventually(lambda: bench.feed.status.frames == 1 + 2 * 48)
        stranger = {"method": "subscribe", "success": True, "result": {"channel": "ticker", "symbol": "ZZZ/USD"}}
        await bench.fake.say(json.dumps(stranger))
        await bench.fake.say(TICKER.replace("BTC/USD", "ZZZ/USD"))
        await eventually(lambda: bench.feed.status.unasked == 1)
        assert bench.feed.status.unconfirmed == {FIFTY[9]}
        clock.monotonic += ANSWER_SECONDS + 1
        await eventually(lambda: len(bench.feed.status.refused) == 2)
        status = bench.feed.status
        refused = status.refused
        troubled = status.unconfirmed
        state = status.state
        unasked = status.unasked
        opened = len(bench.fake.opened)
    assert refused.keys() == {FIFTY[7], FIFTY[9]}
    assert refused[FIFTY[9]].reason == "no answer in 10 s: is it a pair of this exchange?"
    assert refused[FIFTY[9]].refusal is Refusal.TEMPORARY
    assert (troubled, state, unasked, opened) == (frozenset(), "live", 1, 1)


# B5


@pytest.mark.parametrize("header", ["1", ""])
def test_B5_a_refused_upgrade_is_named_and_tried_again_and_never_read_as_data(header: str) -> None:
    statuses = (429, 418, 403, 451, 503) if header else (451, 503)  # without a time the others forbid 10 s

    async def scenario(status: int) -> tuple[str, float, int]:
        async with running_feed() as bench:
            bench.fake.refusal = (status, {"Retry-After": header} if header else {})
            await eventually(lambda: bench.feed.status.last_error)
            error = bench.feed.status.last_error
            await bench.live()
            return error, bench.fake.opened[1] - bench.fake.opened[0], bench.feed.status.undecodable

    async def all_at_once() -> list[tuple[str, float, int]]:
        return await asyncio.gather(*map(scenario, statuses))

    for status, (error, pause, undecodable) in zip(statuses, asyncio.run(all_at_once()), strict=True):
        assert (error, undecodable) == (f"HTTP {status}", 0)
        assert pause >= (0.99 if header and status != 451 else 0.5)


# B6


async def _reset(server: ServerConnection) -> None:
    raw = server.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.transport.abort()


def _closing(code: int) -> Callable[[ServerConnection], Awaitable[None]]:
    async def close(server: ServerConnection) -> None:
        await server.close(code, "as we like")

    return close


def _raw(data: bytes) -> Callable[[ServerConnection], Awaitable[None]]:
    async def write(server: ServerConnection) -> None:
        server.transport.write(data)

    return write


ENDS: dict[str, Callable[[ServerConnection], Awaitable[None]]] = {
    **{str(code): _closing(code) for code in (*range(1000, 1004), *range(1007, 1015), 3000, 4000, 4999)},
    "no status": _raw(b"\x88\x00"),
    "protocol error": _raw(b"\x88\x02\x03\xf7"),  # 1015 must not be sent
    "no close frame": _reset,
    "reserved bits": _raw(b"\xf1\x00"),
    "continuation": _raw(b"\x80\x01a"),
}


def test_B6_however_a_socket_ends_the_end_is_in_the_log_and_a_new_one_follows() -> None:
    async def scenario(end: Callable[[ServerConnection], Awaitable[None]]) -> tuple[list[str], list[int], str]:
        async with live_feed() as bench:
            await end(bench.fake.sockets[0])
            await eventually(lambda: len(bench.fake.sent) == 2, 20)
            await bench.live()
            ended = [unpack_facts(value).reason for value in bench.values(Kind.CLOSED)]
            return ended, [header.number for header, _ in frames(bench.records())], bench.feed.status.state

    async def all_at_once() -> list[tuple[list[str], list[int], str]]:
        return await asyncio.gather(*map(scenario, ENDS.values()))

    for name, (ended, numbers, state) in zip(ENDS, asyncio.run(all_at_once()), strict=True):
        assert len(ended) == 1, name
        assert name in ended[0]
        assert (numbers[-2:], state) == ([1, 2], "live"), name


# B10, on a socket


async def test_B10_F7_nonsense_is_stored_counted_and_ends_nothing() -> None:
    nonsense: list[str | bytes] = [
        *("", "\ufeff{}", "[" * 2000 + "]" * 2000, "\x00", "{}{}", b"\xff\xfe", b"\x1f\x8b garbage"),
        *(
            zlib.compress(b"{}"),
            HEARTBEAT[:-1],
            '{"channel":"none"}',
            '{"channel":"book","type":"unheard of","data":[]}',
        ),
        '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/NOSUCH$","last":1.0}]}',
        b"9" * (15 << 20),
    ]

    async with live_feed(BTC, ETH) as bench:
        server = bench.fake.sockets[0]
        before = bench.feed.status.frames
        for message in nonsense:
            await server.send(message)
        await (await server.ping(b"p" * 125))  # answered
        await server.send(["[1", ",2]"])  # in pieces
        server.transport.write(b"\x81\x02\xff\xfe")  # a text that is none
        await eventually(lambda: bench.feed.status.frames == before + len(nonsense) + 2)
        undecodable = bench.feed.status.undecodable
        opened = len(bench.fake.opened)
        state = bench.feed.status.state
    stored = [value for _, value in frames(bench.records())]
    sent = [message.encode() if isinstance(message, str) else message for message in nonsense]
    assert stored[-len(sent) - 2 :] == [*sent, b"[1,2]", b"\xff\xfe"]
    assert (undecodable, opened, state) == (len(sent) + 2, 1, "live")


async def test_B10_what_is_larger_than_any_frame_ends_the_socket_with_its_reason() -> None:
    async with live_feed() as bench:
        with contextlib.suppress(Exception):
            await bench.fake.sockets[0].send(b"x" * (33 << 20))
        await eventually(lambda: len(bench.fake.sent) == 2)
        assert "1009 (message too big)" in unpack_facts(bench.values(Kind.CLOSED)[0]).reason


# B11


@pytest.mark.parametrize("name", EXCHANGES)
def test_B11_a_list_of_five_thousand_pairs_is_asked_for_in_pieces_and_none_in_nothing(name: str) -> None:
    exchange = EXCHANGES[name]
    pairs = [Pair(f"A{number}", exchange.quote) for number in range(5000)]
    for channel in exchange.channels - {Channel.INSTRUMENT}:  # a request for the list of markets names no pairs
        if not exchange.replaces_subscription:
            assert list(exchange.subscribe(channel, [], id=1, time=0)) == []
            asked = list(exchange.subscribe(channel, pairs, id=1, time=0))
            assert [pair for request in asked for pair in request.pairs] == pairs
            assert max(len(request.payload) for request in asked) < 1 << 14


# B13


@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.long)])
async def test_B13_a_burst_of_20000_frames_a_second_loses_nothing_and_is_made_up_for(
    seconds: int, tmp_path: Path
) -> None:
    rate, step = 20_000, 200

    broker = LocalBroker(tmp_path)
    memory = MemoryBroker()
    memory.append = broker.append  # type: ignore[method-assign]
    async with live_feed(BTC, ETH, channel=Channel.TICKER, broker=memory) as bench:
        server, sent = bench.fake.sockets[0], bench.fake.sent[0]
        start = time.monotonic()
        for number in range(rate * seconds):
            text = TICKER.replace("BTC/USD", "ETH/USD") if number % 10 == 0 else TICKER
            text = f'{text[:-1]},"n":{number}}}'
            await server.send(text)
            sent.append(text.encode())
            if number % step == 0:
                await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
        took = time.monotonic() - start
        await eventually(lambda: bench.feed.status.frames == len(sent), 90)
        lag = time.monotonic() - start - took
        assert len(bench.fake.opened) == 1
        topic = bench.feed.route.topic
    await asyncio.to_thread(broker.flush)
    stored = [(unpack(record.header), record.value) for record in broker.read(topic, 1, 0, broker.end_offset(topic, 1))]
    broker.close()
    assert [value for _, value in frames(stored)] == sent
    assert [header.number for header, _ in frames(stored)] == list(range(1, len(sent) + 1))
    print(f"{len(sent)} frames sent in {took:.1f} s, {len(sent) / took:.0f}/s, all stored {lag:.1f} s later")


# A24


class Direct(Quick):
    """Kraken at an address that a test chooses."""

    def __init__(self, url: str) -> None:
        self.url = url

    def socket_url(self, channel: Channel) -> str:
        return self.url


async def status_at(url: str, is_reached: Callable[[FeedStatus], object]) -> FeedStatus:
    """Run a feed at an address until its status is reached, and return the status."""
    stop, exchange = asyncio.Event(), Direct(url)
    rest = Rest(exchange)
    route = Route(exchange, Channel.ORDERBOOK, 0, "t", 7, MINUTE)
    feed = Feed(route, [BTC], quick_access(route.exchange, rest))
    running = asyncio.create_task(feed.run(stop))
    await eventually(lambda: is_reached(feed.status))
    status = feed.status
    stop.set()
    await running
    await rest.close()
    return status


async def trouble(url: str, attempts: int = 2) -> tuple[str, int]:
    """Return the error of an address that cannot be connected to, and the number of reconnects."""
    status = await status_at(url, lambda status: status.reconnects == attempts - 1 and status.last_error)
    return status.last_error, status.reconnects


async def subscribe_at(url: str) -> None:
    """Connect to an address that says nothing. Raises `TimeoutError` if that takes long."""
    await status_at(url, lambda status: status.state == "subscribing")


def test_A24_a_name_that_does_not_resolve_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)  # the resolver of the system
    error, reconnects = asyncio.run(trouble("wss://exchange.invalid/v2"))
    assert ("Name or service not known" in error, reconnects) == (True, 1)


async def test_A24_where_IPv6_is_refused_IPv4_is_used_and_where_both_are_both_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *kind, ("::1", port, 0, 0)),
            (socket.AF_INET, *kind, ("127.0.0.1", port)),
        ]

    async def hold(server: ServerConnection) -> None:
        await server.wait_closed()

    async with serve(hold, "127.0.0.1", 0, compression=None, close_timeout=1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        await subscribe_at(f"ws://both.invalid:{port}/v2")
    error, _ = await trouble(f"ws://both.invalid:{port}/v2", 1)
    assert "127.0.0.1" in error and "::1" in error


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority with three certificates: for localhost, an expired one, and one for another name."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    authority.issue("good", "DNS:localhost")
    authority.issue("expired", "DNS:localhost", days=-1)
    authority.issue("other", "DNS:other.test")
    return authority.folder


@contextlib.asynccontextmanager
async def secured(folder: Path, name: str) -> AsyncIterator[str]:
    """Serve an exchange with a certificate. It sends nothing. Yield its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")

    async def hold(server: ServerConnection) -> None:
        await server.wait_closed()

    async with serve(hold, "127.0.0.1", 0, ssl=context, compression=None, close_timeout=1) as server:
        yield f"wss://localhost:{next(iter(server.sockets)).getsockname()[1]}/v2"


@pytest.mark.parametrize(
    ("name", "is_known", "cause"),
    [
        ("expired", True, "certificate has expired"),
        ("other", True, "Hostname mismatch, certificate is not valid for 'localhost'"),
        ("good", False, "unable to get local issuer certificate"),
    ],
)
async def test_A24_a_certificate_that_proves_nothing_is_not_believed_and_says_why(
    certificates: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_known: bool, cause: str
) -> None:
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    async with secured(certificates, name) as url:
        error, reconnects = await trouble(url)
    assert (cause in error, reconnects) == (True, 1), error


async def test_A24_a_right_certificate_is_believed(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    async with secured(certificates, "good") as url:
        await subscribe_at(url)
