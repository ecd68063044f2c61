"""REST answers, through httpx's own seam."""

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from coin_platform import __version__
from coin_platform.collect.rest import Rest
from tests.kit.kraken import Quick

URL = "https://api.kraken.com/0/public/Depth?pair=BTC/USD&count=500"


def ask(answer: Callable[[httpx.Request], httpx.Response], times: int = 1) -> list[bytes | httpx.HTTPError]:
    """Return what each of several requests gave, bytes or error."""

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
    assert 0.99 <= times[1] - times[0] < 2


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
