"""REST answers, on a transport of httpx."""

import asyncio
import gzip
import itertools
import random
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import httpx
import pytest

from coin_platform import __version__
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.rest import ANSWER_BYTES, ANSWERS_AT_ONCE, BadAnswer, Rest, error_text
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Control, Refused
from tests.kit.kraken import Quick

URL = "https://api.kraken.com/0/public/Depth?pair=BTC/USD&count=500"


def ask(answer: Callable[[httpx.Request], httpx.Response], times: int = 1) -> list[bytes | httpx.HTTPError]:
    """Return the answer or the error of each of several requests."""

    async def scenario() -> list[bytes | httpx.HTTPError]:
        rest = Rest(Quick(), httpx.MockTransport(answer))
        results: list[bytes | httpx.HTTPError] = []
        for _ in range(times):
            try:
                results.append(await rest.get(URL))
            except httpx.HTTPError as error:
                results.append(error)
        await rest.close()
        return results

    return asyncio.run(scenario())


def test_an_answer_is_its_exact_bytes_and_we_say_who_we_are() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b'{"error": [],\r\n "result":{}}')

    assert ask(answer) == [b'{"error": [],\r\n "result":{}}']
    assert (str(asked[0].url), asked[0].headers["User-Agent"]) == (URL, f"coin-platform/{__version__}")


def test_F4_nothing_is_asked_during_a_ban() -> None:
    times: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return httpx.Response(429, headers={"Retry-After": "1"}, text="<html>slow down</html>")
        return httpx.Response(200, content=b"[]")

    refused, fine = ask(answer, 2)
    assert isinstance(refused, httpx.HTTPStatusError)
    assert "429" in str(refused)
    assert fine == b"[]"
    assert times[1] - times[0] >= 0.99


@pytest.mark.parametrize("status", [302, 404, 451, 500, 503])
def test_an_answer_that_is_no_success_is_an_error_that_names_its_status(status: int) -> None:
    [error] = ask(lambda request: httpx.Response(status, text="<html>"))
    assert isinstance(error, httpx.HTTPStatusError)
    assert error.response.status_code == status


def test_a_broken_network_is_an_http_error() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route to host", request=request)

    [error] = ask(answer)
    assert isinstance(error, httpx.ConnectError)


class Packed(httpx.AsyncByteStream):
    """A body that counts how many of its bytes were read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.sent += len(chunk)
            yield chunk


def fetch(
    stream: Packed, status: int = 200, *, answer_bytes: int = ANSWER_BYTES, **headers: str
) -> tuple[bytes | httpx.HTTPError, Rest]:
    """Return the body or the error of a request whose answer is this stream. Header names have underscores."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}

    async def scenario() -> tuple[bytes | httpx.HTTPError, Rest]:
        transport = httpx.MockTransport(lambda request: httpx.Response(status, headers=named, stream=stream))
        rest = Rest(Quick(), transport, answer_bytes=answer_bytes)
        try:
            return await rest.get(URL), rest
        except httpx.HTTPError as error:
            return error, rest
        finally:
            await rest.close()

    return asyncio.run(scenario())


def bomb(unpacked: int) -> Iterator[bytes]:
    """Yield a gzip stream of so many zeros, in pieces as large as those of a network."""
    pack, packed = zlib.compressobj(9, wbits=31), bytearray()
    for _ in range(unpacked >> 20):
        packed += pack.compress(bytes(1 << 20))
        if len(packed) >= 65_536:
            yield bytes(packed)
            packed.clear()
    yield bytes(packed) + pack.flush()


def test_D16_gzip_is_what_is_asked_for_and_is_unpacked() -> None:
    body = b'{"error":[],"result":{}}' * 50_000
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Accept-Encoding"])
        return httpx.Response(200, content=b"[]")

    ask(answer)
    assert asked == ["gzip"]
    packed = gzip.compress(body, mtime=0)
    pieces = [packed[at : at + 100] for at in range(0, len(packed), 100)]
    for encoding in ("gzip", "GZIP", "x-gzip"):
        assert fetch(Packed(pieces), content_encoding=encoding)[0] == body
    assert fetch(Packed([body]), content_encoding="identity")[0] == body


def test_D16_a_megabyte_that_unpacks_to_a_gigabyte_is_refused_after_eight_mebibytes() -> None:
    stream = Packed(bomb(1 << 30))
    tracemalloc.start()
    error, _ = fetch(stream, content_encoding="gzip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(error, BadAnswer)
    assert error_text(error) == "more than 8,388,608 bytes in one answer"
    assert stream.sent < 140_000
    assert peak < 4 * ANSWER_BYTES


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_D16_an_answer_of_just_the_limit_is_whole(size: int, encoding: str) -> None:
    body = random.Random(size).randbytes(size)
    packed = gzip.compress(body, mtime=0) if encoding else body
    assert fetch(Packed([packed]), answer_bytes=1100, content_encoding=encoding)[0] == body


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_D16_one_byte_more_than_the_limit_is_refused(encoding: str) -> None:
    body = bytes(1001)
    packed = gzip.compress(body, mtime=0) if encoding else body
    error, _ = fetch(Packed([packed]), answer_bytes=1000, content_encoding=encoding)
    assert isinstance(error, BadAnswer)


def test_D16_an_answer_without_end_is_left_alone_at_the_limit() -> None:
    for encoding, chunk in (
        ("", b"x" * 1000),
        ("gzip", gzip.compress(b"", mtime=0)[:10] + b"\x00\x00\x00\xff\xff" * 200),
    ):
        stream = Packed(itertools.repeat(chunk))
        error, _ = fetch(stream, answer_bytes=50_000, content_encoding=encoding)
        assert isinstance(error, BadAnswer), encoding
        assert stream.sent < 60_000


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress", "x" * 5000])
def test_D16_what_is_packed_in_a_way_that_was_not_asked_for_is_refused_unread(encoding: str) -> None:
    stream = Packed([b"[]"])
    error, _ = fetch(stream, content_encoding=encoding)
    assert isinstance(error, BadAnswer)
    assert "which was not asked for" in error_text(error)
    assert (stream.sent, len(error_text(error)) < 100) == (0, True)


@pytest.mark.parametrize(
    "packed",
    [
        b"plain",
        gzip.compress(b"[]" * 99, mtime=0)[:-9],
        gzip.compress(b"[]", mtime=0) + b"more",
        gzip.compress(b"[]", mtime=0) * 2,
        b"",
    ],
)
def test_D16_what_is_no_whole_gzip_stream_is_refused(packed: bytes) -> None:
    error, _ = fetch(Packed([packed]), content_encoding="gzip")
    assert isinstance(error, BadAnswer)
    assert "gzip" in error_text(error)


def test_D16_an_answer_that_trickles_ends_in_time() -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def scenario() -> httpx.HTTPError | None:
        async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
            rest = Rest(Quick(), answer_seconds=0.3)
            try:
                await rest.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            except httpx.HTTPError as error:
                return error
            finally:
                await rest.close()
        return None

    error = asyncio.run(scenario())
    assert isinstance(error, BadAnswer)
    assert error_text(error) == "no whole answer within 0.3 s"


async def test_D16_few_answers_are_under_way_at_once() -> None:
    under_way, most = 0, 0

    is_full = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == ANSWERS_AT_ONCE:
            is_full.set()
        await is_full.wait()
        await asyncio.sleep(0)
        under_way -= 1
        return httpx.Response(200)

    rest = Rest(Quick(), httpx.MockTransport(answer))
    await asyncio.gather(*(rest.get(URL) for _ in range(30)))
    await rest.close()
    assert most == ANSWERS_AT_ONCE


def test_R9_a_ban_counts_even_if_the_answer_that_tells_it_cannot_be_read() -> None:
    error, rest = fetch(Packed(itertools.repeat(b"x" * 4096)), 429, answer_bytes=10_000, retry_after="259200")
    assert isinstance(error, BadAnswer)
    assert 259_190 < rest.banned_seconds <= 259_200


@pytest.mark.parametrize("name", EXCHANGES)
def test_R9_a_ban_holds_at_every_door_of_the_exchange_as_long_as_told(name: str) -> None:
    exchange = EXCHANGES[name]

    async def scenario(status: int, headers: dict[str, str]) -> list[float]:
        refusal = httpx.Response(status, headers=headers, content=b"<html>")
        rest, connects, messages = (
            Rest(exchange, httpx.MockTransport(lambda _: refusal)),
            TokenBucket(9, 9),
            TokenBucket(9, 9),
        )
        rest.share(connects)
        with pytest.raises(httpx.HTTPStatusError):
            await rest.get(URL)
        rest.share(messages)  # of a connection that is made meanwhile
        await rest.close()
        return [rest.banned_seconds, connects.reserve(), messages.reserve()]

    for status in (403, 418, 429):
        for header, seconds in (({"Retry-After": "259200"}, 259_200.0), ({}, exchange.ban_seconds)):
            waits = asyncio.run(scenario(status, header))
            assert all(seconds - 1 < wait <= seconds for wait in waits), (status, header, waits)


@pytest.mark.parametrize("name", EXCHANGES)
def test_R9_a_rate_limit_told_in_a_body_is_a_ban_like_any_other(name: str) -> None:
    exchange = EXCHANGES[name]

    async def scenario(*lengths: float) -> float:
        rest = Rest(exchange)
        rest.heed_events([Control(name="pong"), *(Refused(reason="too many", ban_seconds=ban) for ban in lengths)])
        await rest.close()
        return rest.banned_seconds

    assert 599 < asyncio.run(scenario(600.0, 5.0)) <= 600
    assert asyncio.run(scenario(0.0)) == 0
    assert exchange.ban_seconds - 1 < asyncio.run(scenario(1e30)) <= exchange.ban_seconds


@pytest.mark.parametrize("text", ["1" + "0" * 30, "soon", "-5", "5, 5"])
def test_D28_a_retry_after_that_no_exchange_means_is_named_and_the_documented_wait_is_kept(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, rest = fetch(Packed([b""]), 429, retry_after=text)
    assert Quick.ban_seconds - 1 < rest.banned_seconds <= Quick.ban_seconds
    assert f"kraken: Retry-After {text!r} is no plausible time, not obeyed" in caplog.text
    assert "kraken: nothing is asked for 600 s, HTTP 429" in caplog.text
