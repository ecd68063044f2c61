"""A TCP proxy on loopback with faults that a test sets: `with Proxy("127.0.0.1:9092") as proxy`.

It runs in a thread of its own. `proxy.up` holds the faults (`Toxics`) of bytes that clients send, `proxy.down` those of
bytes that clients receive. They apply to all connections, also to open ones. No byte is changed, and none overtakes
another.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

_CHUNK_BYTES = 1 << 16
_CHUNKS = 64  # that may be on their way in one direction of a connection
_SHARE_SECONDS = 0.05  # between two shares of the bandwidth of a direction

Queue: TypeAlias = "asyncio.Queue[tuple[float, bytes]]"  # when a piece is due, and its bytes; none: the end


class Toxics(NamedTuple):
    """The faults of one direction, by default none. Times are in ms."""

    latency: float = 0.0  # until a byte arrives; the throughput stays
    jitter: float = 0.0  # by which that differs
    bandwidth: float = 0.0  # kB/s; 0: as fast as it goes
    timeout: float | None = None  # nothing passes, and after this long the connection is closed; 0: a black hole
    reset_peer: float | None = None  # after this long both sides are reset
    slow_close: float = 0.0  # by which the end of a connection comes late
    slicer: int = 0  # bytes of a piece; 0: as they come
    slicer_delay: float = 0.0  # between two pieces
    limit_data: int | None = None  # bytes of a connection after which it is closed


class _Ended(Exception):
    """A connection is to be closed."""


class Proxy:
    """Passes bytes between clients and one server. While it `is_down`, all connections are reset and none can be made.

    Bytes that a black hole holds back arrive once the fault is lifted, as over a network that comes back.
    """

    def __init__(self, upstream: str, *, port: int = 0, seed: int = 1) -> None:
        host, _, number = upstream.rpartition(":")
        self._upstream = (host, int(number))
        self._toxics = {"up": Toxics(), "down": Toxics()}
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self.accepted = 0  # connections, ever
        self.passed = {"up": 0, "down": 0}  # bytes, ever
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {self.port}")
        # the rest belongs to the thread
        self._changed = asyncio.Event()  # set for a moment when toxics change
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[Any], tuple[asyncio.StreamWriter, ...]] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    @property
    def up(self) -> Toxics:
        """The faults of bytes that clients send."""
        return self._toxics["up"]

    @up.setter
    def up(self, toxics: Toxics) -> None:
        self._call(self._switch("up", toxics))

    @property
    def down(self) -> Toxics:
        """The faults of bytes that clients receive."""
        return self._toxics["down"]

    @down.setter
    def down(self, toxics: Toxics) -> None:
        self._call(self._switch("down", toxics))

    @property
    def is_down(self) -> bool:
        """Whether the port is closed."""
        return self._server is None

    @is_down.setter
    def is_down(self, is_down: bool) -> None:
        self._call(self._shut() if is_down else self._listen())

    def reset(self) -> None:
        """Reset all connections. New ones can be made."""
        self._call(self._reset())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work on the thread, and return when it is done."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _switch(self, direction: str, toxics: Toxics) -> None:
        self._toxics[direction] = toxics
        self._changed.set()
        self._changed.clear()

    async def _listen(self) -> None:
        if self._listener.fileno() < 0:  # it has been down
            self._listener = socket.create_server(("127.0.0.1", self.port))
        self._server = self._server or await asyncio.start_server(self._serve, sock=self._listener)

    async def _shut(self) -> None:
        if self._server is not None:
            self._loop.remove_reader(self._listener.fileno())  # asyncio leaves a connection open whose server is closed
            for _ in range(10):
                await asyncio.sleep(0)  # those that were accepted just now get their transports, and their tasks
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for task, writers in self._links.items():
            _cut(*writers)
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = (writer,)  # a reset also ends a connection that has not reached the server yet
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._upstream)
        except (OSError, asyncio.CancelledError):
            del self._links[task]
            _cut(writer)
            return
        self._links[task] = writers = (writer, far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(writers))
                ends = [("up", reader, far_writer), ("down", far_reader, writer)]
                await asyncio.wait([group.create_task(self._pass(*end)) for end in ends])
                watch.cancel()
        except* (OSError, _Ended, asyncio.CancelledError):
            pass  # the other side is closed below
        finally:
            del self._links[task]
            for end in writers:
                end.close()

    async def _watch(self, writers: tuple[asyncio.StreamWriter, ...]) -> None:
        """End a connection when one of its faults says so."""
        while True:
            if resets := [toxics.reset_peer for toxics in self._toxics.values() if toxics.reset_peer is not None]:
                await asyncio.sleep(min(resets) / 1000)
                _cut(*writers)
                raise _Ended
            if closes := [toxics.timeout for toxics in self._toxics.values() if toxics.timeout]:
                await asyncio.sleep(min(closes) / 1000)
                raise _Ended
            await self._changed.wait()

    async def _pass(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass the bytes of one direction of a connection until it ends."""
        queue: Queue = asyncio.Queue(_CHUNKS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(direction, reader, queue))
            group.create_task(self._give(direction, writer, queue))

    async def _take(self, direction: str, reader: asyncio.StreamReader, queue: Queue) -> None:
        data = b"to begin with"
        while data:
            data = await reader.read(_CHUNK_BYTES)
            toxics = self._toxics[direction]
            wait = toxics.latency + toxics.jitter * self._random.uniform(-1, 1) + (0 if data else toxics.slow_close)
            await queue.put((self._loop.time() + wait / 1000, data))

    async def _give(self, direction: str, writer: asyncio.StreamWriter, queue: Queue) -> None:
        passed = 0
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not data:
                with contextlib.suppress(OSError):  # it has gone already
                    writer.write_eof()
                return
            while data:
                while (toxics := self._toxics[direction]).timeout is not None:
                    await self._changed.wait()
                left = _CHUNK_BYTES if toxics.limit_data is None else toxics.limit_data - passed
                if left <= 0:
                    raise _Ended
                piece = data[
                    : min(
                        toxics.slicer or _CHUNK_BYTES,
                        int(toxics.bandwidth * 1000 * _SHARE_SECONDS) or _CHUNK_BYTES,
                        left,
                    )
                ]
                data = data[len(piece) :]
                passed += len(piece)
                self.passed[direction] += len(piece)
                writer.write(piece)
                await writer.drain()
                if toxics.bandwidth:
                    await asyncio.sleep(len(piece) / (toxics.bandwidth * 1000))
                if toxics.slicer:
                    await asyncio.sleep(toxics.slicer_delay / 1000)


def _cut(*writers: asyncio.StreamWriter) -> None:
    """Reset connections at once."""
    for writer in writers:
        if (end := writer.get_extra_info("socket")) is not None and end.fileno() >= 0:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
