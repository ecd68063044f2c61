"""One server on loopback for all simulated exchanges: `ws://127.0.0.1:PORT/<exchange>/…` and the same over HTTP."""

import asyncio
import errno
import hashlib
import json
import logging
import time
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import IO

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from coin_platform.errors import SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Microseconds
from coin_platform.pairs import wanted
from coin_platform.settings import Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.base import Out, Venue
from coin_platform.simulator.market import Market

logger = logging.getLogger(__name__)

_STEP = 0.1  # seconds
_OUTBOX = 5_000  # messages a slow reader may be behind before it is cut off


def digest(payload: bytes) -> str:
    """Return the short hash by which the log of what was sent names a message."""
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


class Simulator:
    """The simulated exchanges, and the log of what they really sent.

    The log has a line `{"exchange", "connection", "number", "kind", "hash"}` for each message handed to an open socket.
    """

    def __init__(self, settings: Settings, seed: int, log: IO[str], names: tuple[str, ...] = ()) -> None:
        self._names = names or tuple(VENUES)
        pairs = {name: wanted(EXCHANGES[name], settings.model_copy(update={"pairs": ()})) for name in self._names}
        self.market = Market(seed, pairs)
        self._port = settings.simulator_port
        self._log = log
        self._numbers = count(1)
        self._clients: dict[int, tuple[Venue, asyncio.Queue[Out]]] = {}
        self.sent = 0

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until `stop`. Raises `SettingsError` when the port is taken."""
        try:
            async with serve(
                self._client, "127.0.0.1", self._port, compression=None, process_request=self._http, close_timeout=2
            ):
                logger.info("simulated exchanges on 127.0.0.1:%d: %s", self._port, " ".join(self._names))
                if ready is not None:
                    ready.set()
                await self._steps(stop)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            line = f"COIN_SIMULATOR_PORT={self._port}: the port is in use; end what listens there, or choose another"
            raise SettingsError(line) from error
        finally:
            self._log.flush()

    async def _steps(self, stop: asyncio.Event) -> None:
        due = time.monotonic()
        while not stop.is_set():
            self.market.step()
            for venue, outbox in list(self._clients.values()):
                for out in venue.step(_now()):
                    self._put(outbox, out)
            self._log.flush()
            due = max(due + _STEP, time.monotonic() - 1)
            try:
                await asyncio.wait_for(stop.wait(), max(0.0, due - time.monotonic()))
            except TimeoutError:
                continue

    def _put(self, outbox: "asyncio.Queue[Out]", out: Out) -> None:
        if outbox.full():
            raise ConnectionError("a client reads too slowly")
        outbox.put_nowait(out)

    async def _client(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        name = socket.request.path.split("/")[1]
        number, venue, outbox = next(self._numbers), VENUES[name](self.market), asyncio.Queue[Out](_OUTBOX)
        self._clients[number] = venue, outbox
        sender = asyncio.create_task(self._send(socket, number, venue, outbox))
        try:
            async for message in socket:
                text = message if isinstance(message, str) else message.decode()
                for out in venue.received(text, _now()):
                    self._put(outbox, out)
        finally:
            del self._clients[number]
            sender.cancel()

    async def _send(self, socket: ServerConnection, number: int, venue: Venue, outbox: "asyncio.Queue[Out]") -> None:
        for index in count(1):
            out = await outbox.get()
            payload = out.payload.encode()
            try:
                await socket.send(payload if venue.is_binary else out.payload)
            except ConnectionClosed:
                return
            kind = "data" if out.is_data else "control"
            line = {
                "exchange": venue.name,
                "connection": number,
                "number": index,
                "kind": kind,
                "hash": digest(payload),
            }
            self._log.write(json.dumps(line) + "\n")
            self.sent += 1

    def _http(self, socket: ServerConnection, request: Request) -> Response | None:
        name, _, path = request.path.lstrip("/").partition("/")
        if name not in self._names:
            return _response(HTTPStatus.NOT_FOUND, f"no such exchange: {name[:40]}\n".encode())
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return None
        body = VENUES[name](self.market).rest("/" + path, _now())
        return _response(HTTPStatus.NOT_FOUND, b"not simulated\n") if body is None else _response(HTTPStatus.OK, body)


def open_log(folder: Path) -> IO[str]:
    """Open the log of what is sent, `sent.jsonl`, in a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "sent.jsonl").open("a", encoding="utf-8")


def _now() -> Microseconds:
    return time.time_ns() // 1000


def _response(status: HTTPStatus, body: bytes) -> Response:
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status.value, status.phrase, headers, body)
