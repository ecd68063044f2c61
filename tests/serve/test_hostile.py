"""C-f, C-g, C-h on a real socket: odd paths, methods, types and names change nothing, and no address is followed."""

import json
import logging
import socket
from collections.abc import Iterator
from http import HTTPStatus

import httpx
import pytest

from coin_platform.commands.api_client import ApiClient
from coin_platform.errors import ApiError
from tests.kit.serving import ADMIN_KEY, PAIRS_KEY, Served, key, listening

BODY = b'{"pairs": ["SOL-KRW"], "unchecked": true}'
PATHS = (
    *("//api/pairs/upbit", "/api//pairs/upbit", "/api/./pairs/upbit", "/api/x/../pairs/upbit", "/api/pairs/upbit/"),
    *("/api/%2e%2e/api/pairs/upbit", "/api/..;/api/pairs/upbit", "/api/pairs;x=1/upbit", "/docs/../api/pairs/upbit"),
    *(
        "/api/pairs/upbit%00",
        "/api/pairs/%75pbit",
        "/API/PAIRS/upbit",
        "/api/pairs/upbit%2Fticker",
        "/api\\pairs\\upbit",
    ),
    *("http://localhost/api/pairs/upbit", "/api/pairs/upbit?key=" + ADMIN_KEY, "/api/pairs/upbit#x"),
)
TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    served = Served(tmp_path_factory.mktemp("home"))
    with listening(served.app) as url:
        yield served, url


def raw(url: str, request: bytes) -> tuple[int, bytes]:
    """Return the status and the whole answer to bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
    return int(answer.split()[1]), answer


def request(method: str, path: str, *headers: str, body: bytes = BODY) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("path", PATHS)
def test_C1_no_spelling_of_an_address_changes_pairs_without_a_key(server: tuple[Served, str], path: str) -> None:
    served, url = server
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        status, answer = raw(url, request(method, path, "Content-Type: application/json", "If-Match: *"))
        assert 400 <= status < 500, answer
        assert b"Traceback" not in answer and ADMIN_KEY.encode() not in answer
    assert served.cluster.entries("pairs/") == {}


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL"])
def test_C1_a_header_that_names_another_method_or_address_is_not_obeyed(server: tuple[Served, str], name: str) -> None:
    served, url = server
    for value in ("DELETE", "/api/pairs/upbit"):
        headers = (f"{name}: {value}", f"Authorization: Bearer {PAIRS_KEY}")
        assert raw(url, request("GET", "/health?_method=DELETE", *headers))[0] == HTTPStatus.OK
        assert raw(url, request("GET", "/api/pairs/upbit?_method=DELETE", *headers))[0] == HTTPStatus.OK
    assert served.cluster.entries("pairs/") == {}


@pytest.mark.parametrize("content_type", TYPES)
def test_C2_a_body_of_another_type_is_refused_as_a_problem(server: tuple[Served, str], content_type: str) -> None:
    served, url = server
    headers = (f"Content-Type: {content_type}", f"Authorization: Bearer {PAIRS_KEY}", "If-Match: *")
    for method in ("PUT", "POST"):
        status, answer = raw(url, request(method, "/api/pairs/upbit", *headers))
        assert status == HTTPStatus.UNPROCESSABLE_ENTITY and b"application/problem+json" in answer
    assert served.cluster.entries("pairs/") == {}


@pytest.mark.parametrize(
    "extra",
    [
        "Host: evil.test",  # a second one
        "Content-Length: 3",  # another one
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "X: a\r\n folded",
        "X\x00: a",
        "Authorization: Bearer \x01",
        f"Authorization: Bearer {'w' * 9_000}",
    ],
)
def test_C2_headers_that_contradict_each_other_are_refused_and_smuggle_nothing(
    server: tuple[Served, str], extra: str
) -> None:
    served, url = server
    smuggled = b"0\r\n\r\n" + request("DELETE", "/api/pairs/upbit?pair=BTC-KRW", f"Authorization: Bearer {PAIRS_KEY}")
    status, answer = raw(url, request("POST", "/api/pairs/upbit", extra, body=smuggled))
    assert 400 <= status < 500, answer
    assert served.cluster.entries("pairs/") == {}


NAMES = ("..%2F..%2Fetc%2Fpasswd", "BTC-KRW%0d%0aSet-Cookie:%20x=1", "%F0%9F%9A%80", "x" * 9_000, "__proto__", "';--")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_C2_a_hostile_name_in_an_address_forges_no_header_and_no_line_of_the_log(
    server: tuple[Served, str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, url = server
    with caplog.at_level(logging.INFO):
        for path in (f"/api/pairs/{name}", f"/api/pairs/upbit/{name}", f"/api/status/{name}", f"/{name}"):
            status, answer = raw(url, request("GET", path, f"Authorization: Bearer {ADMIN_KEY}"))
            assert status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"set-cookie" not in head.lower() and len(body) < 2_000
            assert "\n" not in json.loads(body)["detail"]
    assert not any("\n" in record.getMessage() or "\r" in record.getMessage() for record in caplog.records)


def test_the_command_line_follows_no_redirect_and_takes_its_key_nowhere_else(server: tuple[Served, str]) -> None:
    asked: list[str] = []

    async def elsewhere(scope: dict[str, object], receive: object, send: object) -> None:
        asked.append(str(scope["path"]))
        location = b"http://169.254.169.254/latest/meta-data"
        await send({"type": "http.response.start", "status": 307, "headers": [(b"location", location)]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    with listening(elsewhere) as url:  # type: ignore[arg-type]
        client = ApiClient(url, ADMIN_KEY)
        for method, path in (("GET", "/api/status"), ("POST", "/api/pairs/reload")):
            with pytest.raises(ApiError, match="HTTP 307, and not the answer of a control API"):
                client.ask(method, path)
        client.close()
    assert asked == ["/api/status", "/api/pairs/reload"]


def test_a_name_that_is_bound_to_this_machine_afterwards_is_refused(server: tuple[Served, str]) -> None:
    """A page of another name, whose address becomes 127.0.0.1 later (DNS rebinding), is refused by its Host."""
    _, url = server
    for name in ("rebound.test", "127.0.0.1.rebound.test", "2130706433", "0177.0.0.1", "localhost.rebound.test"):
        answer = httpx.get(f"{url}/api/exchanges", headers={"Host": name} | key(ADMIN_KEY))
        assert answer.status_code == HTTPStatus.FORBIDDEN
