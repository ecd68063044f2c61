"""Serve one client: send it the market's messages, answer its requests, and note each message that was sent."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from coin_platform.clock import wall
from coin_platform.model import Microseconds
from coin_platform.simulator.faults import Mischief
from coin_platform.simulator.sent_log import SentLog, digest
from coin_platform.simulator.venue import Message, Venue

logger = logging.getLogger(__name__)

OUTBOX_MESSAGES = 2_000  # that may wait for a slow reader before it is cut off: 50 s of four books


class Client:
    """One connection to a simulated exchange: its socket, the messages that wait, and how many were sent."""

    def __init__(
        self,
        socket: ServerConnection,
        number: int,
        venue: Venue,
        mischief: Mischief,
        log: SentLog,
        capacity: int = OUTBOX_MESSAGES,
    ) -> None:
        self.exchange = venue.name
        self._socket, self._venue, self._mischief, self._log = socket, venue, mischief, log
        self._names: dict[str, str | int] = {"exchange": venue.name, "connection": number, "path": venue.path}
        self._outbox: deque[Message] = deque()
        self._capacity = capacity
        self._wakeup = asyncio.Event()
        self._code: int | None = None  # to close with; None: the connection goes on
        self._sent = 0
        self._time: Microseconds = 0

    async def run(self) -> None:
        """Serve the client until one side closes the socket. Then note the end."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send())
                await self._read()
                self.end(1000)
        finally:
            self._log.closed(**self._names, code=self._socket.close_code, sent=self._sent)

    def step(self, time: Microseconds) -> None:
        """Queue the messages that the market's step at `time` gives this client. All clients get the same time."""
        self._time = max(time, self._time)
        self._offer(self._mischief.step(self._venue.step(self._time)))
        if self._mischief.gives_notice():
            self._offer(self._mischief.answers(self._venue.notice(self._now())))
        if self._mischief.ends():
            self.end(1012)

    def end(self, code: int) -> None:
        """Close the socket with this code, and send nothing more."""
        self._code = self._code or code
        self._wakeup.set()

    async def _read(self) -> None:
        self._offer(self._mischief.answers(self._venue.opened(self._now())))
        try:
            while True:
                text = await self._socket.recv(decode=True)
                self._venue.refused = self._mischief.faults.refuse
                self._offer(self._mischief.answers(self._venue.received(text, self._now())))
        except ConnectionClosed:
            return
        except (ValueError, LookupError, TypeError) as error:
            logger.warning("%s: the message is not a request: %r", self._names, error)
            self.end(1008)
            await self._socket.wait_closed()

    def _offer(self, messages: Iterable[Message]) -> None:
        self._outbox.extend(messages)
        self._wakeup.set()
        if len(self._outbox) > self._capacity:
            logger.warning("%s: the client reads too slowly and is cut off", self._names)
            self._outbox.clear()
            self.end(1008)
            self._socket.transport.abort()

    def _now(self) -> Microseconds:
        # The time rises by 1 ms or more. So no two messages of a connection are equal.
        self._time = max(wall(), self._time + 1000)
        return self._time

    async def _send(self) -> None:
        try:
            while self._code is None:
                if not self._outbox:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                elif self._socket.state is State.OPEN:
                    await self._hand_over(self._outbox.popleft())
                else:
                    return
            await self._socket.close(self._code)
        except ConnectionClosed:
            return

    async def _hand_over(self, message: Message) -> None:
        payload = message.payload.encode()
        self._sent += 1
        self._log.sent(**self._names, number=self._sent, kind=message.kind, hash=digest(payload))
        # An open socket takes the payload before another task can run. The wait is only for room for the next payload.
        await self._socket.send(payload, text=not self._venue.is_binary)
