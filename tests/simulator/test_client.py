"""Real sockets: the log has the messages that each client received, and a bad client harms no other."""

import asyncio
from collections import Counter
from pathlib import Path

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.simulator import VENUES
from coin_platform.simulator.server import Simulator
from tests.kit.served_simulator import hear, open_socket, served, subscribe
from tests.kit.waiting import eventually


def test_the_log_is_what_clients_received_whoever_closes(tmp_path: Path) -> None:
    received: dict[str, Counter[str]] = {name: Counter() for name in VENUES}

    async def client(port: int, name: str) -> None:
        async with open_socket(port, name) as socket:
            await subscribe(socket, name)
            hearing = asyncio.create_task(hear(socket, received[name]))
            await eventually(lambda: received[name].total() >= 30, 60)
            await socket.close()
            await hearing

    async def stay(port: int, name: str) -> None:
        async with open_socket(port, name) as socket:
            await subscribe(socket, name)
            await hear(socket, received[name])
            assert socket.close_code == 1001

    staying: list[asyncio.Task[None]] = []

    async def work(port: int, simulator: Simulator) -> None:
        staying.extend(asyncio.create_task(stay(port, name)) for name in VENUES)
        await asyncio.gather(*(client(port, name) for name in VENUES))

    sent, closed = served(tmp_path, work)
    assert all(task.done() and task.exception() is None for task in staying)
    for name in VENUES:
        assert received[name].total() >= 30
        assert Counter(line["hash"] for line in sent if line["exchange"] == name) == received[name]
    for end in closed:
        numbers = [line["number"] for line in sent if line["connection"] == end["connection"]]
        assert numbers == list(range(1, end["sent"] + 1))
    assert Counter(end["code"] for end in closed) == {1000: len(VENUES), 1001: len(VENUES)}
    assert {end["path"] for end in closed if end["exchange"] == "kraken"} == {"/v2"}


def test_a_slow_reader_is_cut_off_and_the_others_go_on(tmp_path: Path) -> None:
    received: Counter[str] = Counter()

    async def work(port: int, simulator: Simulator) -> None:
        async with open_socket(port, "upbit") as slow, open_socket(port, "kraken") as quick:
            slow.transport.pause_reading()
            pairs = [*simulator.market.listings["upbit"]]
            for request in EXCHANGES["upbit"].subscribe(Channel.ORDERBOOK, pairs, id=1, time=0):
                await slow.send(request.payload)
            await subscribe(quick, "kraken")
            hearing = asyncio.create_task(hear(quick, received))
            await eventually((tmp_path / "closed.jsonl").read_text, 60)
            before = received.total()
            await eventually(lambda: received.total() >= before + 10, 60)
            slow.transport.abort()
            hearing.cancel()

    _, closed = served(tmp_path, work, rate=1000, outbox=100)
    assert (closed[0]["exchange"], closed[0]["code"]) == ("upbit", 1006)
    assert closed[0]["sent"] > 100  # the buffers of the system took these


def test_what_is_not_a_request_ends_that_connection_only(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        for name in VENUES:
            async with open_socket(port, name) as socket:
                await socket.send("{")
                await hear(socket, Counter())
                assert socket.close_code == 1008

    _, closed = served(tmp_path, work)
    assert [end["code"] for end in closed] == [1008] * len(VENUES)
