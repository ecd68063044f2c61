"""The clients of the feed: bundles go to those that have room, and a slow client harms nobody but itself."""

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from websockets.asyncio.connection import broadcast

from coin_platform.serve.feed.hub import Bundle, Hub, Stream

ROOM_BYTES = 64 << 10  # a client with so much unsent misses the next bundle
FULL_SECONDS = 5.0  # for which a client may have no room; then its connection is cut
RENEW_BYTES = 8 << 20  # of snapshots in one round, after the source has changed
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
        self.full_since: float | None = None  # it has missed something since, and waits for a snapshot

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
        self._renewed: dict[FeedClient, None] = {}  # they are to get a snapshot, though they missed nothing
        self.sends = self.missed = self.cut = 0

    def __len__(self) -> int:
        return sum(map(len, self._members.values()))

    def join(self, connection: FeedConnection, stream: Stream, name: str, moment: float) -> FeedClient:
        """Take a client in, and send it the state as of the last bundle."""
        client = FeedClient(connection, stream, name, moment)
        self._members.setdefault(stream, {})[client] = None
        self._send_snapshot(client)
        return client

    def leave(self, client: FeedClient) -> None:
        """Forget a client whose connection has ended, and its stream if it was the last one."""
        members = self._members.get(client.stream, {})
        members.pop(client, None)
        self._behind.pop(client, None)
        self._renewed.pop(client, None)
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
                self._send_snapshot(client)
            elif client.full_since is not None and moment - client.full_since > FULL_SECONDS:
                self.cut += 1
                client.connection.transport.abort()
                self.leave(client)
        self._renew()

    def renew(self) -> None:
        """Send all clients the state, some in each round: the records come from another source now."""
        self._renewed |= {client: None for members in self._members.values() for client in members}

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
            elif client.unsent_bytes < ROOM_BYTES:
                ready.append(client.connection)
            else:
                self._behind[client] = None
                client.full_since = moment
                self._miss(client)
        broadcast(ready, bundle.text, text=True)
        self.sends += len(ready)

    def _renew(self) -> None:
        """Send snapshots to clients with room, as long as the round has bytes left."""
        left = RENEW_BYTES
        for client in list(self._renewed):
            if left <= 0:
                return
            if client in self._behind:  # it gets one anyhow
                del self._renewed[client]
            elif client.unsent_bytes < ROOM_BYTES:
                del self._renewed[client]
                left -= len(self._hub.snapshot(client.stream))
                self._send_snapshot(client)

    def _miss(self, client: FeedClient) -> None:
        client.missed += 1
        self.missed += 1

    def _send_snapshot(self, client: FeedClient) -> None:
        connection: Any = client.connection
        broadcast([connection], self._hub.snapshot(client.stream), text=True)
        self.sends += 1


def _slices(members: list[FeedClient]) -> Iterator[tuple[FeedClient, ...]]:
    for begin in range(0, len(members), _SLICE):
        yield tuple(members[begin : begin + _SLICE])
