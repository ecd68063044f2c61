"""Dagster's UI answers under its own names only."""

import asyncio
import contextlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from coin_platform.orchestration.ui import MODULE, REFUSAL
from coin_platform.runtime.own_names import OwnNames, refuse_with
from coin_platform.runtime.ports import free_ports

OURS = ["localhost", "127.0.0.1:3000", "LOCALHOST:3000", "coin.example", "coin.example:443"]
FOREIGN = [
    "evil.test",
    "evil.test:3000",
    "",
    "127.0.0.1.evil.test",
    "localhost.evil.test:3000",
    "evil.test@localhost:x",
]


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer everything, as the UI would."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the UI"})


APP = OwnNames(inner, ("localhost", "127.0.0.1", "coin.example"), refuse_with(REFUSAL))


def status(host: str, origin: str | None = None) -> int:
    """Return the status of an answer to a request with these headers."""
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://x") as client:
            return (await client.post("/graphql", headers=headers)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize("host", OURS)
def test_D26_the_UI_answers_under_its_own_names(host: str) -> None:
    assert status(host) == 200
    assert status(host, "http://localhost:3000") == status(host, "https://coin.example") == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_D26_another_name_is_refused_as_Host_and_as_Origin(host: str) -> None:
    assert status(host) == 403
    assert status("localhost", f"http://{host}") == 403


def test_D26_a_page_without_an_origin_of_its_own_is_refused() -> None:
    assert status("localhost", "null") == 403


def test_D26_a_socket_is_looked_at_too() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost:3000"), (b"origin", b"http://evil.test")]
    scope = {"type": "websocket", "path": "/graphql", "headers": headers, "extensions": {}}
    asyncio.run(APP(scope, receive, send))
    assert sent and "200" not in str(sent) and not any(message["type"] == "websocket.accept" for message in sent)


@contextlib.contextmanager
def webserver(home: Path) -> Iterator[int]:
    """Run the UI, without code, on a port of its own."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", MODULE, "webserver", "--empty-workspace", "-h", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "COIN_UI_HOSTS": "localhost,coin.example"}
    process = subprocess.Popen(command, env=environment, cwd=home, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.long
def test_D26_dagsters_own_webserver_refuses_foreign_names(tmp_path: Path) -> None:
    def answer(port: int, host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/server_info", headers={"Host": host})
            return connection.getresponse().status

    with webserver(tmp_path) as port:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                assert answer(port, f"localhost:{port}") == 200
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert answer(port, "coin.example") == 200
        assert answer(port, "evil.test") == answer(port, f"127.0.0.1:{port}") == 403
