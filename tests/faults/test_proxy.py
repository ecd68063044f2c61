"""The fault proxy does what it is told, and nothing else."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.kit.proxy import Proxy, Toxics
from tests.kit.waiting import slowness_of_this_machine

pytestmark = pytest.mark.alone

TEXT = bytes(range(256)) * 400  # about 100 kB


class Echo:
    """A server that sends back all bytes until the connection ends."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.endings: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _run(self) -> None:
        talks: list[threading.Thread] = []
        try:
            while True:
                accepted, _ = self._socket.accept()
                talks.append(threading.Thread(target=self._talk, args=(accepted,)))
                talks[-1].start()
        except OSError:
            for talk in talks:
                talk.join()

    def _talk(self, link: socket.socket) -> None:
        with link:
            try:
                while data := link.recv(65536):
                    link.sendall(data)
                self.endings.put("end")
            except OSError as error:
                self.endings.put(type(error).__name__)


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as echo:
        yield echo


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address) as proxy:
        yield proxy


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def talk(link: socket.socket, data: bytes) -> bytes:
    """Send some bytes and return what comes back, until as many have come or the connection ends."""
    sender = threading.Thread(target=link.sendall, args=(data,))
    sender.start()
    heard = b""
    while len(heard) < len(data) and (more := link.recv(65536)):
        heard += more
    sender.join()
    return heard


def timed(link: socket.socket, data: bytes) -> float:
    started = time.monotonic()
    assert talk(link, data) == data
    return time.monotonic() - started


def test_without_toxics_every_byte_arrives_and_the_end_too(echo: Echo, proxy: Proxy) -> None:
    with dial(proxy) as link:
        assert talk(link, TEXT) == TEXT
        link.shutdown(socket.SHUT_WR)
        assert link.recv(1) == b""
    assert echo.endings.get(timeout=5) == "end"
    assert proxy.passed == {"up": len(TEXT), "down": len(TEXT)}


def test_latency_delays_both_ways_and_leaves_the_throughput(proxy: Proxy) -> None:
    with dial(proxy) as link:
        assert timed(link, b"x") < 0.1 * slowness_of_this_machine()
        proxy.up, proxy.down = Toxics(latency=150), Toxics(latency=100, jitter=20)
        assert 0.2 < timed(link, b"x") < 1 * slowness_of_this_machine()
        assert 0.2 < timed(link, TEXT * 5) < 2 * slowness_of_this_machine(), (
            "pieces wait at the same time, not one after the other"
        )
        proxy.up = proxy.down = Toxics()
        assert timed(link, b"x") < 0.1 * slowness_of_this_machine()


def test_bandwidth_is_what_it_says(proxy: Proxy) -> None:
    with dial(proxy) as link:
        proxy.down = Toxics(bandwidth=200)
        assert 0.4 < timed(link, TEXT) < 1.5 * slowness_of_this_machine()


def test_a_black_hole_holds_everything_back_until_it_is_lifted(proxy: Proxy) -> None:
    with dial(proxy) as link:
        proxy.up = Toxics(timeout=0)
        link.settimeout(0.3)
        link.sendall(b"x")
        with pytest.raises(TimeoutError):
            link.recv(1)
        proxy.up = Toxics()
        assert link.recv(1) == b"x"


def test_a_timeout_closes_the_connection(proxy: Proxy) -> None:
    with dial(proxy) as link:
        proxy.down = Toxics(timeout=200)
        assert talk(link, b"x") == b""


def test_a_reset_is_a_reset_for_both_sides(echo: Echo, proxy: Proxy) -> None:
    with dial(proxy) as link:
        assert talk(link, b"x") == b"x"
        proxy.down = Toxics(reset_peer=50)
        with pytest.raises(ConnectionResetError):
            link.recv(1)
        proxy.down = Toxics()
    with dial(proxy) as link:
        assert talk(link, b"x") == b"x"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            link.recv(1)
    assert [echo.endings.get(timeout=5) for _ in range(2)] == ["ConnectionResetError"] * 2


def test_a_slow_close_comes_late(proxy: Proxy) -> None:
    with dial(proxy) as link:
        proxy.down = Toxics(slow_close=300)
        link.shutdown(socket.SHUT_WR)
        started = time.monotonic()
        assert link.recv(1) == b""
        assert time.monotonic() - started > 0.25


def test_a_slicer_cuts_into_pieces_with_pauses(proxy: Proxy) -> None:
    with dial(proxy) as link:
        proxy.up = Toxics(slicer=10, slicer_delay=50)
        assert timed(link, b"0123456789" * 5) > 0.2


def test_a_limit_lets_exactly_so_many_bytes_pass_and_closes(proxy: Proxy) -> None:
    proxy.down = Toxics(limit_data=1_000)
    with dial(proxy) as link:
        assert talk(link, TEXT) == TEXT[:1_000]


def test_while_it_is_down_nobody_connects_and_whoever_was_is_reset(proxy: Proxy) -> None:
    with dial(proxy) as link:
        assert talk(link, b"x") == b"x"
        proxy.is_down = True
        with pytest.raises(ConnectionResetError):
            link.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    proxy.is_down = False
    with dial(proxy) as link:
        assert talk(link, b"x") == b"x"


def test_an_upstream_that_is_away_looks_like_one() -> None:
    with Proxy("127.0.0.1:1") as proxy, pytest.raises(ConnectionResetError), dial(proxy) as link:
        link.recv(1)
