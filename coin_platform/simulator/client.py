"""One client's socket: what waits to be sent, what was sent, and how it ends."""

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
from coin_platform.simulator.venue import Out, Venue

logger = logging.getLogger(__name__)

OUTBOX = 2_000  # messages a slow reader may be behind before it is cut off


class Client:
    """One socket: what waits to be sent to it, and how far it has got."""

    def __init__(
        self,
        socket: ServerConnection,
        number: int,
        venue: Venue,
        mischief: Mischief,
        log: SentLog,
        capacity: int = OUTBOX,
    ) -> None:
        self.exchange = venue.name
        self._socket, self._venue, self._mischief, self._log = socket, venue, mischief, log
        self._names: dict[str, str | int] = {"exchange": venue.name, "connection": number, "path": venue.path}
        self._outbox: deque[Out] = deque()
        self._capacity = capacity
        self._wakeup = asyncio.Event()
        self._code: int | None = None  # to close with
        self._sent = 0
        self._time: Microseconds = 0

    async def run(self) -> None:
        """Talk until one side closes."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send())
                await self._read()
                self.end(1000)
        finally:
            self._log.closed(**self._names, code=self._socket.close_code, sent=self._sent)

    def step(self, time: Microseconds) -> None:
        """Say what the market's step at `time` means for this client: the same words, and time, as for all others."""
        self._time = max(time, self._time)
        self._offer(self._mischief.step(self._venue.step(self._time)))
        if self._mischief.gives_notice():
            self._offer(self._mischief.answers(self._venue.notice(self._now())))
        if self._mischief.ends():
            self.end(1012)

    def end(self, code: int) -> None:
        """Send nothing more, and close."""
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
            logger.warning("%s: not a request, %r", self._names, error)
            self.end(1008)
            await self._socket.wait_closed()

    def _offer(self, outs: Iterable[Out]) -> None:
        self._outbox.extend(outs)
        self._wakeup.set()
        if len(self._outbox) > self._capacity:
            logger.warning("%s: reads too slowly, cut off", self._names)
            self._outbox.clear()
            self.end(1008)
            self._socket.transport.abort()

    def _now(self) -> Microseconds:
        # 1 ms or more after the last time, so that no two messages of a connection are equal
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

    async def _hand_over(self, out: Out) -> None:
        payload = out.payload.encode()
        self._sent += 1
        self._log.sent(**self._names, number=self._sent, kind=out.kind, hash=digest(payload))
        # an open socket takes it before anything else can happen; what is waited for is room for the next one
        await self._socket.send(payload, text=not self._venue.is_binary)
