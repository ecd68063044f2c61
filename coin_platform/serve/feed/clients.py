"""The clients of the feed: bundles go to those that have room, and a slow client harms nobody but itself."""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from websockets.asyncio.connection import broadcast

from coin_platform.serve.feed.hub import Bundle, Hub, Snapshot, Stream

ROOM_BYTES = 64 << 10  # a client with so much unsent misses the next bundle
FULL_SECONDS = 5.0  # for which a client may have no room; then its connection is cut
MOST_WAITING = 200  # bundles that wait for a snapshot to be sent; all clients share them
_SLICE = 250  # clients that one step serves: the loop stays free for others in between


class FeedConnection(Protocol):
    """What is needed of a connection of the `websockets` library."""

    @property
    def transport(self) -> Any:
        """The transport below it, whose unsent bytes can be asked and which can be cut."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Take leave of the client."""


class ClientFacts(NamedTuple):
    """One client, as it is listed."""

    client: str  # the name of its key, or its address
    stream: str
    seconds: float  # since it came
    unsent_bytes: int
    missed_bundles: int


class FeedClient:
    """One connection and what it missed."""

    def __init__(self, connection: FeedConnection, stream: Stream, name: str, moment: float) -> None:
        self.connection, self.stream, self.name = connection, stream, name
        self.since = moment
        self.missed = 0  # bundles
        self.full_since: float | None = None  # it has had no room since
        self.snapshot: Snapshot | None = None  # that is being sent
        self.part = 0  # of it, the next one
        self.waiting: deque[bytes] = deque()  # bundles that came since the snapshot, until it is sent

    @property
    def unsent_bytes(self) -> int:
        """How much it has not taken yet, beyond what the kernel holds."""
        return int(self.connection.transport.get_write_buffer_size())


class Clients:
    """All clients of one server. One event loop owns them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._members: dict[Stream, dict[FeedClient, None]] = {}
        self._behind: dict[FeedClient, None] = {}
        self._filling: dict[FeedClient, None] = {}  # they get a snapshot, part by part, and then the bundles since
        self.sends = self.missed = self.cut = 0

    def __len__(self) -> int:
        return sum(map(len, self._members.values()))

    def join(self, connection: FeedConnection, stream: Stream, name: str, moment: float) -> FeedClient:
        """Take a client in, and send it the state as of the last bundle."""
        client = FeedClient(connection, stream, name, moment)
        self._members.setdefault(stream, {})[client] = None
        self._begin_snapshot(client)
        return client

    def leave(self, client: FeedClient) -> None:
        """Forget a client whose connection has ended, and its stream if it was the last one."""
        members = self._members.get(client.stream, {})
        members.pop(client, None)
        self._behind.pop(client, None)
        self._filling.pop(client, None)
        if not members and self._members.pop(client.stream, None) is not None:
            self._hub.forget(client.stream)

    async def send(self, moment: float) -> None:
        """Send what is new to all that have room, and a snapshot to those that missed something and have room again.

        A client without room misses the bundle. One that has no room for `FULL_SECONDS` is cut off.
        """
        rounds = [(bundle, list(self._members.get(bundle.stream, ()))) for bundle in self._hub.bundles()]
        for bundle, members in rounds:
            for part in _slices(members):
                self._send_to(part, bundle, moment)
                await asyncio.sleep(0)
        for client in list(self._behind):
            if client.unsent_bytes < ROOM_BYTES:
                del self._behind[client]
                client.full_since = None
                self._begin_snapshot(client)
            else:
                self._cut_if_stuck(client, moment)
        for client in list(self._filling):
            if client.unsent_bytes < ROOM_BYTES:
                client.full_since = None
                self._fill(client)
            elif client.full_since is None:
                client.full_since = moment
            else:
                self._cut_if_stuck(client, moment)

    def renew(self) -> None:
        """Send all clients the state, to each as it has room: the records come from another source now."""
        for client in self.all():
            if client not in self._behind and client not in self._filling:
                self._begin_snapshot(client)

    def all(self) -> list[FeedClient]:
        """Return the clients, the longest first."""
        clients = [client for members in self._members.values() for client in members]
        return sorted(clients, key=lambda client: client.since)

    def listed(self, moment: float) -> Iterator[ClientFacts]:
        """Yield the clients as they are listed, the longest first."""
        for client in self.all():
            yield ClientFacts(
                client.name, client.stream.name, moment - client.since, client.unsent_bytes, client.missed
            )

    def _send_to(self, members: tuple[FeedClient, ...], bundle: Bundle, moment: float) -> None:
        ready: list[Any] = []
        for client in members:
            if client in self._behind:
                self._miss(client)
            elif client in self._filling:
                self._queue(client, bundle, moment)
            elif client.unsent_bytes < ROOM_BYTES:
                ready.append(client.connection)
            else:
                self._behind[client] = None
                client.full_since = moment
                self._miss(client)
        broadcast(ready, bundle.text, text=True)
        self.sends += len(ready)

    def _miss(self, client: FeedClient) -> None:
        client.missed += 1
        self.missed += 1

    def _queue(self, client: FeedClient, bundle: Bundle, moment: float) -> None:
        """Keep a bundle for a client until its snapshot is sent. If that takes long, it gets a newer snapshot."""
        if len(client.waiting) < MOST_WAITING:
            client.waiting.append(bundle.text)
            return
        del self._filling[client]
        client.snapshot = None
        self.missed += len(client.waiting)
        client.missed += len(client.waiting)
        client.waiting.clear()
        self._behind[client] = None
        client.full_since = client.full_since or moment
        self._miss(client)

    def _begin_snapshot(self, client: FeedClient) -> None:
        client.snapshot, client.part = self._hub.snapshot(client.stream), 0
        self._filling[client] = None
        self._fill(client)

    def _fill(self, client: FeedClient) -> None:
        """Send a client what it waits for, as long as it has room."""
        while client.unsent_bytes < ROOM_BYTES:
            if client.snapshot is not None:
                self._send(client, client.snapshot.part(client.part))
                client.part += 1
                if client.part == len(client.snapshot):
                    client.snapshot = None
            elif client.waiting:
                self._send(client, client.waiting.popleft())
            else:
                del self._filling[client]
                return

    def _send(self, client: FeedClient, text: bytes) -> None:
        connection: Any = client.connection
        broadcast([connection], text, text=True)
        self.sends += 1

    def _cut_if_stuck(self, client: FeedClient, moment: float) -> None:
        if client.full_since is not None and moment - client.full_since > FULL_SECONDS:
            self.cut += 1
            client.connection.transport.abort()
            self.leave(client)


def _slices(members: list[FeedClient]) -> Iterator[tuple[FeedClient, ...]]:
    for begin in range(0, len(members), _SLICE):
        yield tuple(members[begin : begin + _SLICE])
