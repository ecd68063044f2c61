"""Kraken on loopback, from its recordings. It answers, remembers what it sent, and misbehaves on request."""

import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from coin_platform.broker import MemoryBroker
from coin_platform.exchanges.base import Limits
from coin_platform.exchanges.kraken import Kraken
from coin_platform.model import Channel, Event, Frame, Kind, Refusal, Refused
from coin_platform.records import Header, unpack
from coin_platform.topic_names import raw_topic

DATA = Path(__file__).parent.parent / "data" / "kraken"
WANTS = re.compile(r"-\d+w-")  # in the name of the records of what a feed wants
HEARTBEAT = '{"channel":"heartbeat"}'
BOOKS = raw_topic("ne", Channel.ORDERBOOK)


def recorded(name: str) -> list[str]:
    """Return the payloads of a recording."""
    payloads = [json.loads(line)["payload"] for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    return [payload if isinstance(payload, str) else json.dumps(payload) for payload in payloads]


BOOK = [text for text in recorded("book_sequence_1")[:18] if '"channel":"book","type"' in text]
SNAPSHOT, UPDATES = BOOK[0], BOOK[1:]
TICKER = recorded("ticker")[1]
REFUSAL = recorded("error")[0]
CANDLES = recorded("rest_candle")[0].encode()
TRADE = recorded("trade")[0]
TRADES = recorded("rest_trades")[0].encode()


class Quick(Kraken):
    """Kraken that paces nothing, and to which no pings are sent."""

    limits = Limits(messages_per_second=1000, connects_per_minute=60_000, requests_per_second=1000)
    ping_every = 3600.0


class Refusing(Quick):
    """Kraken whose refusals are for good or for the moment, as a test wants."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal

    def read(self, frame: Frame) -> Iterator[Event]:
        for event in super().read(frame):
            is_refused = isinstance(event, Refused)
            yield msgspec.structs.replace(event, refusal=self.refusal) if is_refused else event


class FakeKraken:
    """The state of a fake Kraken: what its clients got, and how it behaves."""

    def __init__(self) -> None:
        self.port = 0
        self.sockets: list[ServerConnection] = []  # open ones
        self.opened: list[float] = []  # when, also for those that were refused
        self.sent: list[list[bytes]] = []  # per connection, in order
        self._numbers: dict[ServerConnection, int] = {}
        self.heard: list[dict[str, object]] = []
        self.unknown: set[str] = set()
        self.unanswered: set[str] = set()
        self.refusal: tuple[int, dict[str, str]] | None = None  # of the next upgrade
        self.is_down = False  # for sockets
        self.is_mute = False  # on sockets
        self.asked: list[str] = []  # over HTTP
        self.answers: list[tuple[int, bytes]] = []  # to the next requests over HTTP, status and body
        self.sends_snapshots = True
        self.closes_at_once = False

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def say(self, text: str, which: int = -1) -> None:
        """Send a message, and remember it if it was sent."""
        socket = self.sockets[which]
        await socket.send(text)
        self.sent[self._numbers[socket]].append(text.encode())

    async def push(self, symbol: str, texts: list[str], which: int = -1) -> None:
        """Send recorded book messages with another symbol."""
        for text in texts:
            await self.say(text.replace("BTC/USD", symbol), which)

    def methods(self, method: str) -> list[list[str]]:
        """Return the symbols of each request of this method, in order."""
        return [heard["params"]["symbol"] for heard in self.heard if heard["method"] == method]  # type: ignore[index]

    async def fall(self) -> None:
        """Break off all sockets, and accept none until a test resets `is_down`."""
        self.is_down = True
        for socket in self.sockets:
            socket.transport.abort()

    def _gate(self, socket: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" not in request.headers:
            self.asked.append(request.path)
            status, body = self.answers.pop(0) if self.answers else (200, self._answer(request.path))
            return _response(status, body, {})
        self.opened.append(time.monotonic())
        if self.is_down:
            return _response(502, b"<html>bad gateway</html>", {})
        if self.refusal is None:
            return None
        status, headers = self.refusal
        self.refusal = None
        return _response(status, b"<html>go away</html>", headers)

    def _answer(self, path: str) -> bytes:
        return TRADES if "/Trades" in path else CANDLES if "/OHLC" in path else depth("BTC/USD")

    async def _serve(self, socket: ServerConnection) -> None:
        if self.closes_at_once:
            return
        self.sockets.append(socket)
        self._numbers[socket] = len(self.sent)
        self.sent.append([])
        try:
            async for text in socket:
                message = json.loads(text)
                self.heard.append(message)
                if message["method"] == "subscribe" and not self.is_mute:
                    await self._subscribe(message, self.sockets.index(socket))
        finally:
            self.sockets.remove(socket)

    async def _subscribe(self, message: dict[str, dict[str, str]], which: int) -> None:
        params = message["params"]
        if "symbol" not in params:  # the list of markets: acknowledged, and never sent
            answer = {"method": "subscribe", "req_id": message["req_id"], "result": params, "success": True}
            await self.say(json.dumps(answer), which)
            return
        for symbol in params["symbol"]:
            if symbol in self.unanswered:
                continue
            if symbol in self.unknown:
                await self.say(REFUSAL.replace("XBT/USD", symbol), which)
                continue
            depth = {"depth": 10} if params["channel"] == "book" else {}  # as in the recording
            result = {**params, **depth, "symbol": symbol}
            answer = {"method": "subscribe", "req_id": message["req_id"], "result": result, "success": True}
            await self.say(json.dumps(answer), which)
            if params["channel"] == "ticker":
                await self.say(TICKER.replace("BTC/USD", symbol), which)
            elif params["channel"] == "trade":
                await self.say(TRADE.replace("BTC/USD", symbol), which)
            elif self.sends_snapshots:
                await self.push(symbol, [SNAPSHOT], which)


def _response(status: int, body: bytes, headers: dict[str, str]) -> Response:
    headers = {"Content-Length": str(len(body)), "Content-Type": "text/html", "Connection": "close", **headers}
    return Response(status, HTTPStatus(status).phrase, Headers(headers), body)


def depth(pair: str) -> bytes:
    """Return Kraken's REST answer with the recorded snapshot's levels."""
    [row] = json.loads(SNAPSHOT, parse_float=str)["data"]
    sides = {side: [[level["price"], level["qty"], 0] for level in row[side]] for side in ("bids", "asks")}
    return json.dumps({"error": [], "result": {pair: sides}}).encode()


@contextlib.asynccontextmanager
async def fake_kraken(fake: FakeKraken | None = None) -> AsyncIterator[FakeKraken]:
    """Serve a fake Kraken, or this one, on a free port of 127.0.0.1."""
    fake = fake or FakeKraken()
    async with serve(
        fake._serve, "127.0.0.1", 0, compression=None, process_request=fake._gate, close_timeout=1
    ) as server:
        fake.port = next(iter(server.sockets)).getsockname()[1]
        yield fake


def records(broker: MemoryBroker, topic: str = BOOKS, partition: int = 1) -> list[tuple[Header, bytes]]:
    """Return the records of connections and pollers, without those of what a feed wants."""
    stored = broker.read(topic, partition, 0, broker.end_offset(topic, partition))
    found = [(unpack(record.header), record.value) for record in stored]
    return [(header, value) for header, value in found if not WANTS.search(header.connection)]


def frames(stored: list[tuple[Header, bytes]]) -> Iterator[tuple[Header, bytes]]:
    """Yield the frames among these records."""
    return ((header, value) for header, value in stored if header.kind.is_frame)


def values(stored: list[tuple[Header, bytes]], kind: Kind) -> list[bytes]:
    """Return the values of the records of one kind."""
    return [value for header, value in stored if header.kind is kind]
