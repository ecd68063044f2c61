"""C2: whatever is asked, no answer is a failure of ours, and none shows our code."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.kit.api_requests import send_generated
from tests.kit.serving import ADMIN_KEY, Served

OPERATIONS = 19


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_C2_generated_requests_have_no_failure(served: Served, mode: GenerationMode) -> None:
    statuses = Counter(send_generated(served, mode, 8))
    assert sum(statuses.values()) >= 8 * OPERATIONS / 2  # fewer where an operation has few different requests
    assert statuses[422] if mode.is_negative else statuses[200] and statuses[202]


@pytest.mark.long
@pytest.mark.timeout(3600)  # seven minutes beside other work
def test_C2_ten_thousand_generated_requests_have_no_failure(served: Served) -> None:
    statuses: Counter[int] = Counter()
    rounds = 0
    while sum(statuses.values()) < 10_000 and rounds < 20:
        rounds += 1
        for mode in GenerationMode:
            statuses.update(send_generated(served, mode, 300))
    assert sum(statuses.values()) >= 10_000 and max(statuses) < 500
    print(dict(statuses))


PARTS = (
    "/",
    "//",
    "..",
    "%2e",
    "..;/",
    "%00",
    "\\",
    "api",
    "pairs",
    "upbit",
    "ticker",
    "status",
    "health",
    "?",
    "#",
    "é",
)
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "")
HEADERS = (
    "host",
    "origin",
    "authorization",
    "x-api-key",
    "content-type",
    "content-length",
    "if-match",
    "x-original-url",
)


@settings(max_examples=150, database=None)
@given(
    path=st.lists(st.sampled_from(PARTS) | st.text(max_size=10), max_size=8).map("".join),
    method=st.sampled_from(METHODS),
    headers=st.lists(st.tuples(st.sampled_from(HEADERS), st.binary(max_size=30)), max_size=5),
    body=st.binary(max_size=200),
    query=st.binary(max_size=60),
)
def test_C2_requests_that_no_client_sends_have_no_failure(
    served: Served, path: str, method: str, headers: list[tuple[str, bytes]], body: bytes, query: bytes
) -> None:
    sent: list[Any] = []
    raw_headers = [(b"host", b"localhost"), (b"authorization", b"Bearer " + ADMIN_KEY.encode())]
    raw_headers += [(name.encode(), value) for name, value in headers]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "method": method,
        "path": f"/{path}",
        "raw_path": path.encode(),
        "query_string": query,
        "headers": raw_headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8600),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        await served.app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] < 500
    assert b"Traceback" not in b"".join(message.get("body", b"") for message in sent)


def test_C2_a_failure_of_ours_shows_nothing_of_our_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(tmp_path)

    async def fail(*_: object) -> None:
        raise RuntimeError("secret-path /home/us")

    monkeypatch.setattr("coin_platform.serve.markets.MarketLists.of", fail)
    answer = served.ask("GET", "/api/exchanges/upbit/markets")
    assert answer.status_code == 500 and answer.json()["type"] == "urn:coin:problem:failure"
    assert "secret-path" not in answer.text and answer.headers["x-content-type-options"] == "nosniff"
