"""Slow clients on real sockets: each is cut off at its deadline, and all other requests are answered meanwhile."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from coin_platform.serve.connections import ConnectionLimits
from tests.kit.serving import PAIRS_KEY, Served, key, listening
from tests.kit.waiting import until

QUICK = ConnectionLimits(most_connections=8, header_seconds=2.0, body_seconds=2.5, unread_seconds=0.5)
PATIENT = ConnectionLimits()
HEAD = f"POST /api/pairs/upbit HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {PAIRS_KEY}\r\n"
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)


def status_of(client: socket.socket) -> int:
    """Send a request, read the whole answer, and return its status. The connection stays."""
    client.sendall(REQUEST + b"\r\n")
    answer = http.client.HTTPResponse(client)
    answer.begin()
    answer.read()
    return answer.status


class Dripping:
    """A client that sends one byte again and again, until its connection ends."""

    def __init__(self, url: str, head: bytes = b"", pause_seconds: float = 0.02) -> None:
        self.sent, self.answer = 0, b""
        self._socket, self._pause, self._is_over = connected(url), pause_seconds, threading.Event()
        self._socket.sendall(head)
        self._threads = [threading.Thread(target=run) for run in (self._drip, self._read)]
        for thread in self._threads:
            thread.start()

    def _drip(self) -> None:
        with contextlib.suppress(OSError):
            while not self._is_over.wait(self._pause):
                self._socket.sendall(b"X")
                self.sent += 1

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while part := self._socket.recv(4096):
                self.answer += part
        self._is_over.set()

    @property
    def is_over(self) -> bool:
        """Whether the server has ended the connection."""
        return self._is_over.is_set()

    def close(self) -> None:
        """End the client."""
        self._is_over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()


@contextlib.contextmanager
def dripping(url: str, head: bytes = b"") -> Iterator[Dripping]:
    client = Dripping(url, head)
    try:
        yield client
    finally:
        client.close()


def problem_of(answer: bytes) -> tuple[int, str]:
    """Return the status and the kind of an answer that ended a connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["type"].rpartition(":")[2]


def test_D18_headers_of_one_byte_at_a_time_end_at_the_deadline_and_harm_nobody(served: Served) -> None:
    with listening(served.app, limits=QUICK) as url, httpx.Client() as other, dripping(url, REQUEST + b"A: ") as slow:
        statuses = set[int]()

        def is_over() -> bool:
            statuses.add(other.get(f"{url}/health").status_code)
            return slow.is_over

        until(is_over, 60)
        assert statuses == {200}
        assert slow.sent and problem_of(slow.answer) == (408, "slow-headers")
        assert other.get(f"{url}/health").status_code == 200


def test_D18_a_body_of_one_byte_at_a_time_ends_at_the_deadline_whatever_was_answered(served: Served) -> None:
    early = b"GET /nope HTTP/1.1\r\nHost: foreign.test\r\nContent-Length: 60000\r\n\r\n"  # refused by its name at once
    with listening(served.app, limits=QUICK) as url, httpx.Client() as other, dripping(url, early) as slow:
        until(lambda: b"403" in slow.answer)
        until(lambda: slow.is_over)
        assert other.get(f"{url}/health").status_code == 200
    with listening(served.app, limits=QUICK) as url:
        head = f"{HEAD}Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n".encode()
        with dripping(url, head) as slow:
            until(lambda: slow.is_over)  # before the application gave up waiting for the body
            assert slow.sent and slow.answer == b""


def test_D18_a_client_that_says_nothing_is_left_without_a_word(served: Served) -> None:
    with listening(served.app, limits=QUICK) as url, connected(url) as silent:
        assert silent.recv(100) == b""


def test_D18_a_slow_second_request_on_a_connection_ends_at_the_deadline(served: Served) -> None:
    with listening(served.app, limits=QUICK) as url, dripping(url, REQUEST + b"\r\n" + REQUEST + b"A: ") as slow:
        until(lambda: slow.is_over)
        assert slow.answer.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 408" in slow.answer


def test_an_idle_connection_is_kept_for_its_next_request(served: Served) -> None:
    with listening(served.app, limits=QUICK) as url, connected(url) as client:
        for _ in range(2):
            assert status_of(client) == 200
            threading.Event().wait(1.5 * QUICK.header_seconds)  # beyond the deadline of headers: none are awaited


def test_D18_one_connection_too_many_is_refused_and_the_others_are_served(served: Served) -> None:
    limits = PATIENT._replace(most_connections=3)
    with listening(served.app, limits=limits) as url, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(url)) for _ in range(3)]
        for client in clients:  # each is taken before the next is looked at
            assert status_of(client) == 200
        with connected(url) as refused:
            answer = b""
            while part := refused.recv(4096):
                answer += part
        assert problem_of(answer) == (503, "too-many-connections")
        assert status_of(clients[0]) == 200
        clients.pop().close()
        until(lambda: httpx.get(f"{url}/health").status_code == 200)


def test_D18_a_client_that_does_not_read_its_answers_is_dropped(served: Served) -> None:
    with listening(served.app, limits=QUICK) as url, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        client.settimeout(60)
        ask = b"GET /docs/swagger-ui.js HTTP/1.1\r\nHost: localhost\r\n\r\n"  # an answer of more than 1 MB
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                client.sendall(ask)
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_large_request_that_comes_at_once_is_answered(served: Served) -> None:
    pairs = [f"A{number}-KRW" for number in range(1_000)]
    with listening(served.app) as url:
        answer = httpx.post(f"{url}/api/pairs/upbit", headers=key(PAIRS_KEY), json={"pairs": pairs, "unchecked": True})
        assert answer.status_code == 202
