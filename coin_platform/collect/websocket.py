"""One WebSocket that ends when its peer costs too much: bytes in memory, turns of the event loop, or time."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from coin_platform import __version__
from coin_platform.collect.outbound import Outbound

T = TypeVar("T")

MESSAGE_BYTES = 16 << 20  # of one message: two of these must fit into the budget of a raw partition
MESSAGES_WAITING = 64  # in the library; more stay with the operating system
UNREAD_BYTES = 1 << 20  # of ours that a peer may leave unread; what we send, pongs too, is far less
PINGS_PER_SECOND = 100  # exchanges ping a few times a minute
FRAMES_PER_SECOND = 50_000  # twice what we can store; a peer that sends more sends frames of a few bytes
SLICE_BYTES = 16 << 10  # of what has come, between two looks at the budgets
OPEN_SECONDS = 10.0  # from connecting to the end of the opening handshake
WRITE_SECONDS = 10.0  # for the network to take one message of ours
CLOSE_SECONDS = 2.0  # for the peer's side of the closing handshake


class TooCostly(ConnectionError):
    """The peer does not read what we send, or sends pings or frames without end."""


def open_socket(url: str, outbound: Outbound) -> connect:
    """Return the attempt to connect. It sends no pings: a connection sends its own, timed by its own clock."""
    return connect(
        url,
        **outbound.socket_options(url),
        compression=None,
        user_agent_header=f"coin-platform/{__version__}",
        create_connection=Socket,
        max_size=MESSAGE_BYTES,
        max_queue=MESSAGES_WAITING,
        open_timeout=OPEN_SECONDS,
        close_timeout=CLOSE_SECONDS,
        ping_interval=None,
    )


class Socket(ClientConnection):
    """A client's WebSocket with budgets.

    The library parses and answers all that has come before any other task has its turn. So a flood of pings or of
    empty messages would hold up all other exchanges of the region.
    """

    _pings = _frames = 0  # in the second that began at `_second`
    _second = 0.0

    def data_received(self, data: bytes) -> None:
        """Take bytes of the peer in slices: a small slice may hold thousands of messages."""
        if self.loop.time() - self._second > 1:
            self._pings, self._frames, self._second = 0, 0, self.loop.time()
        for start in range(0, len(data), SLICE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + SLICE_BYTES])
            if (unread := self.transport.get_write_buffer_size()) > UNREAD_BYTES:
                self.give_up(f"not read by the exchange: {unread:,} bytes of ours")
            elif self._pings > PINGS_PER_SECOND:
                self.give_up(f"more than {PINGS_PER_SECOND} pings in a second")
            elif self._frames > FRAMES_PER_SECOND:
                self.give_up(f"more than {FRAMES_PER_SECOND:,} frames in a second")

    def process_event(self, event: Event) -> None:
        """Count the frames."""
        if isinstance(event, Frame):
            self._frames += 1
            self._pings += event.opcode is Opcode.PING
        super().process_event(event)

    def give_up(self, reason: str) -> None:
        """End at once for this reason, without a closing handshake."""
        self.set_connection_exc(TooCostly(reason))
        self.transport.abort()

    async def written(self, writing: Awaitable[T]) -> T | None:
        """Return the result of `writing`. Return None if the socket has ended, or ends now because nothing is read."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                return await writing
        except TimeoutError:
            self.give_up(f"not read by the exchange for {WRITE_SECONDS:g} s")
        except ConnectionClosed:
            pass  # the task that reads gets the same error, and reports it
        return None

    async def close_in_time(self) -> None:
        """Close. End without a handshake if the peer does not read, or does not answer in time."""
        try:
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await self.close()
        except TimeoutError:
            self.transport.abort()
