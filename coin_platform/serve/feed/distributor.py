"""The distributor: a server of WebSockets that sends the feed to thousands of clients."""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from coin_platform.clock import elapsed
from coin_platform.serve.feed.clients import Clients
from coin_platform.serve.feed.door import FEED_PROTOCOL, PATH, Admitted, Door, EntryRefused
from coin_platform.serve.feed.feed import FeedDown, ServedFeed
from coin_platform.serve.feed.hub import Hub
from coin_platform.serve.feed.records import FeedRecord
from coin_platform.serve.listening import listen as listen_plainly

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 5.0
CLOSE_SECONDS = 8.0  # for all clients to take their leave at the end
RETRY_SECONDS = 10.0  # within which clients are told to come back, each at another moment
MOST_MESSAGES = 60  # that a client may send a minute: there is nothing to say
_USER_TIMEOUT_MS = 6_000  # a peer that acknowledges nothing for so long is gone
_SEND_BUFFER_BYTES = 128 << 10
_LIMITS: dict[str, Any] = {"compression": None, "max_size": 4096, "max_queue": 4, "write_limit": 32_768}

_quiet = logging.getLogger(f"{__name__}.websockets")
_quiet.setLevel(logging.CRITICAL)  # its lines hold headers, and each bad client would write a traceback


class Distributor:
    """Serves one feed or several. One event loop owns it."""

    def __init__(
        self,
        hub: Hub,
        door: Door,
        read: Callable[[], list[FeedRecord]],
        *,
        moves: Callable[[], int] = lambda: 0,
        bound: Mapping[str, ServedFeed] | None = None,
    ) -> None:
        """Serve the feed of `read` at `/ws/exchange`, and other feeds at the paths of `bound`.

        `hub`, `read` and `moves` are those of `ServedFeed`. The `door` knows the paths, too.
        """
        self._door = door
        self.feed = ServedFeed(hub, read, moves)
        self._feeds = {PATH: self.feed, **(bound or {})}

    @property
    def clients(self) -> Clients:
        """The clients of `/ws/exchange`."""
        return self.feed.clients

    @property
    def all_clients(self) -> list[Clients]:
        """The clients of each feed."""
        return [feed.clients for feed in self._feeds.values()]

    @property
    def failure(self) -> str:
        """Why the log does not answer; empty if it does."""
        return self.feed.failure

    @property
    def period(self) -> float:
        """Seconds between two bundles."""
        return self.feed.period

    @property
    def records(self) -> int:
        """How many records were read."""
        return self.feed.records

    @property
    def streams(self) -> int:
        """How many different filters are in use."""
        return sum(len(feed.hub.streams) for feed in self._feeds.values())

    @property
    def refused(self) -> int:
        """How many connections were refused or cut at the door."""
        return self._door.refused.total()

    async def run(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop`, then close all connections: each client is told to come back at a moment of its own."""
        feeds = self._feeds.values()
        reading = [asyncio.create_task(feed.read_on(stop)) for feed in feeds]
        try:
            async with self._serving(listening):
                others = [
                    *(asyncio.create_task(feed.send_on(stop)) for feed in feeds),
                    asyncio.create_task(stop.wait()),
                ]
                await asyncio.wait((*reading, *others), return_when=asyncio.FIRST_COMPLETED)
                stop.set()
                await asyncio.gather(*others)
        finally:
            stop.set()
            await asyncio.gather(*reading)  # raises what ended it

    @contextlib.asynccontextmanager
    async def _serving(self, listening: socket.socket) -> AsyncIterator[Server]:
        server = await serve(
            self._attend,
            sock=listening,
            process_request=self._admit,
            select_subprotocol=_subprotocol,
            open_timeout=HANDSHAKE_SECONDS,
            close_timeout=2,
            ping_interval=20,
            ping_timeout=20,
            server_header=None,
            logger=_quiet,
            create_connection=_counted(self._door),
            **_LIMITS,
        )
        logger.info("the feed listens at ws://%s:%s", *listening.getsockname()[:2])
        try:
            yield server
        finally:
            server.close(close_connections=False)
            await self._dismiss(server)
            await server.wait_closed()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            admitted = self._door.admit(request.path, request.headers, _address(connection), self.streams)
        except EntryRefused as refusal:
            return connection.respond(refusal.status, f"{refusal}\n")
        except Exception:
            logger.exception("a request could not be looked at")  # the library answers 500, and tells nobody
            raise
        connection.admitted = admitted  # type: ignore[attr-defined]
        return None

    async def _attend(self, connection: ServerConnection) -> None:
        """Keep a client until it goes. Nothing that it sends is looked at."""
        admitted: Admitted = connection.admitted  # type: ignore[attr-defined]
        feed = self._feeds[admitted.path]
        try:
            await feed.arrive()
            await self._serve(connection, feed, admitted)
        except FeedDown as down:
            await connection.close(down.code, str(down))
        finally:
            feed.depart()

    async def _serve(self, connection: ServerConnection, feed: ServedFeed, admitted: Admitted) -> None:
        client = feed.clients.join(connection, feed.hub.join(admitted.wanted), admitted.name, elapsed())
        begun, count = elapsed(), 0
        try:
            async for _ in connection:
                if elapsed() - begun > 60:
                    begun, count = elapsed(), 0
                count += 1
                if count > MOST_MESSAGES:
                    await connection.close(1008, "this feed takes no messages")
        except ConnectionClosed:
            pass  # a client may end as it likes
        finally:
            feed.clients.leave(client)

    async def _dismiss(self, server: Server) -> None:
        """Close all connections with code 1012, each with another moment to come back; cut those that do not answer."""
        connections = list(server.connections)
        closing = [
            asyncio.create_task(connection.close(1012, f"retry in {random.uniform(0, RETRY_SECONDS):.1f} s"))
            for connection in connections
        ]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_SECONDS)
        for connection in list(server.all_connections):
            connection.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket whose connections have limits of the kernel, too. Raises `SettingsError`."""
    listening = listen_plainly(host, port, setting="FEED_PORT", backlog=1024)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return listening


def _subprotocol(_: ServerConnection, offered: Any) -> Any:
    return FEED_PROTOCOL if FEED_PROTOCOL in offered else None


def _address(connection: ServerConnection) -> str:
    peer = connection.remote_address
    return str(peer[0]) if peer else "unknown"


def _counted(door: Door) -> type[ServerConnection]:
    """Return a class of connections that are counted from their first byte on, and cut if there are too many."""

    class CountedConnection(ServerConnection):
        address = ""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.address = _address(self)
            if not door.arrives(self.address):
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            door.leaves(self.address)

    return CountedConnection
