"""W1 to W3 of the feed: what a send to a client costs, against a plain broadcast loop, and what clients cost."""

import asyncio
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import psutil
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.compare import Outcome
from coin_platform.clock import elapsed
from coin_platform.serve.feed.distributor import Distributor, listen
from coin_platform.serve.feed.door import PATH, Door, DoorLimits
from coin_platform.serve.feed.hub import Hub
from coin_platform.serve.feed.records import FeedRecord
from coin_platform.serve.keys import Keys

ROUNDS = 3
SECONDS = 6.0  # of one measurement
WARM_SECONDS = 2.0  # before it
BUNDLES = 10  # a second
RECORD_BYTES = 434  # as a ticker has
MANY = 20  # records of a larger bundle
STALLED = 100  # clients that never read
ADDRESSES = 100  # of this machine, from which clients come: one address may open 200 connections a second
_MARK = b'"sent":'
_MOST = 10_000  # clients, as far as the door is concerned
_STALL_SECONDS = 30.0  # within which clients that never read must be gone


Server: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class Measured(NamedTuple):
    """What one server took for one load."""

    sends: int
    cpu_seconds: float
    p99_seconds: float  # from the making of a record to its arrival
    idle_bytes: int  # of memory, for each client, before anything is sent


def run(folder: Path) -> Iterator[Outcome]:
    """Measure. `folder` is not used."""
    for clients, records in ((1_000, 1), (4_000, 1), (1_000, MANY)):
        yield from _compared(clients, records)
    yield from _stalled()


def _compared(clients: int, records: int) -> Iterator[Outcome]:
    """Measure our distributor and the plain loop in turns."""
    rounds: dict[str, list[Measured]] = {"ours": [], "plain": []}
    for _ in range(ROUNDS):
        for name, server in (("ours", _distributor), ("plain", _plain)):
            rounds[name].append(_measured(server, clients, records))
    cost = {name: statistics.median(each.cpu_seconds / each.sends for each in taken) for name, taken in rounds.items()}
    p99 = {name: statistics.median(each.p99_seconds for each in taken) for name, taken in rounds.items()}
    load = f"{clients:,} clients, bundles of {records}"
    note = f"{1e6 * cost['ours']:.1f} against {1e6 * cost['plain']:.1f} µs of CPU time a send"
    delays = f"p99 {1000 * p99['ours']:.0f} against {1000 * p99['plain']:.0f} ms"
    yield Outcome("feed W1", f"sends for a second of CPU time: {load}", 1 / cost["ours"], "", must=40_000, note=delays)
    if records > 1:
        yield Outcome("feed W1", f"records times clients for it: {load}", records / cost["ours"], "", must=100_000)
    yield Outcome("feed W1", f"CPU time of a plain broadcast, to ours: {load}", cost["plain"] / cost["ours"], note=note)
    if records == 1:
        idle = statistics.median(each.idle_bytes for each in rounds["ours"])
        yield Outcome("feed W3", f"memory of an idle client: {load}", idle / 1024, "KiB", must=32, is_least=False)


def _measured(server: Server, clients: int, records: int) -> Measured:
    with _running(server, records) as (control, port), _clients(port, clients) as readers:
        idle = _asked(control, "facts")["memory"]
        before_clients = _asked(control, "memory before")
        control.send("go")
        time.sleep(WARM_SECONDS)
        readers.send("mark")
        first = _asked(control, "facts")
        time.sleep(SECONDS)
        last = _asked(control, "facts")
        p99 = _asked(readers, "delays")
        return Measured(
            last["sends"] - first["sends"], last["cpu"] - first["cpu"], p99, (idle - before_clients) // clients
        )


def _stalled() -> Iterator[Outcome]:
    """Measure our distributor with clients that never read beside those that do."""
    with _running(_distributor, MANY) as (control, port), _clients(port, 1_000) as readers:
        control.send("go")
        time.sleep(WARM_SECONDS)
        readers.send("mark")
        time.sleep(SECONDS)
        quiet = _asked(readers, "delays")
        memory = _asked(control, "facts")["memory"]
        with _clients(port, STALLED, "never read"):
            begun, highest, gone = elapsed(), memory, 0.0
            readers.send("mark")
            while not gone and elapsed() - begun < _STALL_SECONDS:
                time.sleep(0.25)
                facts = _asked(control, "facts")
                highest = max(highest, facts["memory"])
                gone = elapsed() - begun if facts["clients"] <= 1_000 else 0.0
            beside = _asked(readers, "delays")
    yield Outcome(
        "feed W2", f"memory of one of {STALLED} that never read", (highest - memory) / STALLED / 1024, "KiB",
        must=1024, is_least=False, note=f"all were gone {gone:.0f} s after they came" if gone else "NOT all were gone",
    )  # fmt: skip
    note = f"p99 {1000 * beside:.0f} against {1000 * quiet:.0f} ms"
    yield Outcome("feed W2", "delay of the others beside them, to the delay without", beside / quiet, note=note)


@contextmanager
def _running(server: Server, records: int) -> Iterator[tuple[Connection, int]]:
    """Run a server in a process of its own, and yield its control and its port."""
    with _process(_run_server, server, records) as control:
        yield control, int(control.recv())


@contextmanager
def _clients(port: int, count: int, manner: str = "read") -> Iterator[Connection]:
    """Connect clients in a process of its own, and yield its control once all of them are in."""
    with _process(_run_clients, port, count, manner) as control:
        assert control.recv() == count
        yield control


@contextmanager
def _process(work: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        ours.send("end")
        process.join(10)
        process.kill()


def _asked(control: Connection, question: str) -> Any:
    control.send(question)
    return control.recv()


class Load:
    """Makes records at their times, once it has begun."""

    def __init__(self, records: int) -> None:
        self._rate = records * BUNDLES
        self._begun: float | None = None
        self._made = 0

    def begin(self) -> None:
        """Let time begin."""
        self._begun = elapsed()

    def due(self) -> list[bytes]:
        """Return the records whose time has come."""
        if self._begun is None:
            return []
        count = int((elapsed() - self._begun) * self._rate) - self._made
        self._made += count
        head = b'{"type":"trade","exchange":"upbit","pair":"BTC-KRW",%b%d,"rest":"' % (_MARK, time.monotonic_ns())
        return [head + b"x" * (RECORD_BYTES - len(head) - 2) + b'"}'] * count


class Counts:
    """What a server has done so far."""

    def __init__(self) -> None:
        self.sends: Callable[[], int] = lambda: 0
        self.clients: Callable[[], int] = lambda: 0


def _run_server(control: Connection, server: Server, records: int) -> None:
    asyncio.run(_controlled(control, server, Load(records)))


async def _controlled(control: Connection, server: Server, load: Load) -> None:
    """Run a server, and do what the control says."""
    stop, counts, listening = asyncio.Event(), Counts(), listen("127.0.0.1", 0)
    running = asyncio.create_task(server(listening, load, counts, stop))
    await asyncio.sleep(0.2)
    process = psutil.Process()
    before = process.memory_info().rss
    control.send(listening.getsockname()[1])
    while (word := await asyncio.to_thread(control.recv)) != "end":
        if word == "go":
            load.begin()
        elif word == "memory before":
            control.send(before)
        else:
            memory = process.memory_info().rss
            control.send(
                {"sends": counts.sends(), "clients": counts.clients(), "cpu": time.process_time(), "memory": memory}
            )
    stop.set()
    await asyncio.wait([running], timeout=2)
    os._exit(0)  # thousands of clients need not be told


async def _distributor(listening: Any, load: Load, counts: Counts, stop: asyncio.Event) -> None:
    """Serve as `coin serve feed` does; only the log is missing."""
    door = Door(Keys([]), frozenset({"127.0.0.1"}), DoorLimits(_MOST, _MOST), is_local=True)

    def read() -> list[FeedRecord]:
        return [FeedRecord("trade", "upbit", "BTC-KRW", 1, 1, 0, 0, False, text) for text in load.due()]

    distributor = Distributor(Hub("bench"), door, read)
    counts.sends, counts.clients = lambda: distributor.clients.sends, lambda: len(distributor.clients)
    await distributor.run(listening, stop)


async def _plain(listening: Any, load: Load, counts: Counts, stop: asyncio.Event) -> None:
    """Serve as the documentation of `websockets` shows it: one broadcast to all, whether they read or not."""
    sends = 0
    counts.sends = lambda: sends

    async def attend(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(attend, sock=listening, compression=None) as server:
        while not stop.is_set():
            if records := load.due():
                broadcast(server.connections, (b'{"records":[%b]}' % b",".join(records)).decode())
                sends += len(server.connections)
            await asyncio.sleep(1 / BUNDLES)


class Reader(asyncio.Protocol):
    """A client that counts bytes, so that many of them fit on one core. Some read when their records were made."""

    def __init__(self, port: int, arrived: asyncio.Semaphore, delays: list[float] | None) -> None:
        self._port, self._arrived, self._delays = port, arrived, delays
        self._is_in = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the feed."""
        lines = f"GET {PATH} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", "Upgrade: websocket", "Connection: Upgrade"
        keys = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"
        transport.write("\r\n".join((*lines, *keys, "", "")).encode())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Take what comes."""
        if not self._is_in:
            assert data.startswith(b"HTTP/1.1 101"), data
            self._is_in = True
            self._arrived.release()
        if self._delays is not None and (at := data.rfind(_MARK)) >= 0:
            number = data[at + len(_MARK) : at + len(_MARK) + 24].partition(b",")[0]
            self._delays.append((time.monotonic_ns() - int(number)) / 1e9)


class Stalled(Reader):
    """A client that reads nothing after the handshake."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the feed."""
        self._transport: Any = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take the handshake, and then nothing."""
        super().data_received(data)
        self._transport.pause_reading()


def _run_clients(control: Connection, port: int, count: int, manner: str) -> None:
    asyncio.run(_connected(control, port, count, manner))


async def _connected(control: Connection, port: int, count: int, manner: str) -> None:
    """Connect clients, and say how long records took when the control asks."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Semaphore(0)
    delays: list[float] = []
    kind = Reader if manner == "read" else Stalled
    for number in range(count):
        told = delays if manner == "read" and number % 20 == 0 else None
        client = socket.socket()
        client.setblocking(False)
        if manner != "read":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the kernel takes megabytes for it
        client.bind((f"127.0.0.{2 + number % ADDRESSES}", 0))
        await loop.sock_connect(client, ("127.0.0.1", port))

        def protocol(told: list[float] | None = told) -> Reader:
            return kind(port, arrived, told)

        await loop.create_connection(protocol, sock=client)
    for _ in range(count):
        await arrived.acquire()
    control.send(count)
    while (word := await asyncio.to_thread(control.recv)) != "end":
        if word == "mark":
            delays.clear()
        else:
            control.send(statistics.quantiles(delays, n=100)[98])
    os._exit(0)
