"""An HTTP proxy on loopback that knows CONNECT only, inside the test's event loop."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator


class ConnectProxy:
    """Joins clients to the addresses that they ask for; `places` sends an address elsewhere."""

    def __init__(self, login: str = "", places: dict[str, str] | None = None) -> None:
        """Refuse clients without `login`, USER:PASSWORD, if it is given."""
        self.address = ""
        self.asked: list[str] = []  # the addresses of all CONNECT requests
        self._login, self._places = login, places or {}
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["ConnectProxy"]:
        """Listen on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.01)  # closed transports go in the loop's next turns

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._join(reader, writer)
        finally:
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, place, _ = request.splitlines()[0].split()
        self.asked.append(place)
        wanted = f"Proxy-Authorization: Basic {b64encode(self._login.encode()).decode()}".lower()
        if self._login and wanted not in request.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        assert method == "CONNECT"
        host, _, port = self._places.get(place, place).rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
