"""Send recorded frames over one socket, and log each of them."""

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from coin_platform.simulator.sent_log import SentLog, digest
from coin_platform.simulator.venue import MessageKind


class ReplayClient:
    """One socket of a replay, and how many frames it was sent."""

    def __init__(self, socket: ServerConnection, names: dict[str, str | int], log: SentLog) -> None:
        self._socket, self._names, self._log = socket, names, log
        self.sent = 0

    @property
    def is_open(self) -> bool:
        """Whether the socket still takes frames."""
        return self._socket.state is State.OPEN

    async def send(self, payload: bytes, kind: MessageKind) -> None:
        """Log a frame, then send it. An open socket takes the frame before another task can run."""
        self.sent += 1
        self._log.sent(**self._names, number=self.sent, kind=kind, hash=digest(payload))
        await self._socket.send(payload, text=_is_text(payload))


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
