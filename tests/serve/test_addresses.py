"""C-h: no address that a client sends is ever asked. The server asks the exchanges' own addresses alone."""

from functools import partial
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from coin_platform.commands.quotes import listed_markets
from coin_platform.exchanges import EXCHANGES
from coin_platform.settings import Settings
from tests.kit.serving import ADMIN_KEY, Served, key

INSIDE = (
    *("http://169.254.169.254/latest/meta-data", "http://localhost:8600", "http://[::1]/", "http://2130706433/"),
    *(
        "http://0177.0.0.1/",
        "//127.0.0.1/x",
        "file:///etc/passwd",
        "127.0.0.1",
        "evil.test@127.0.0.1",
        "upbit.evil.test",
    ),
)


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Served, list[str]]:
    """Give a server that asks exchanges as in production, and the addresses that it asks. All send it elsewhere."""
    addresses: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        addresses.append(str(request.url))
        return httpx.Response(302, headers={"Location": "http://169.254.169.254/latest/meta-data"})

    fetch = partial(listed_markets, settings=Settings(home=tmp_path), transport=httpx.MockTransport(answer))
    return Served(tmp_path, fetch=fetch), addresses


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_in_a_request_is_never_asked(asked: tuple[Served, list[str]], text: str) -> None:
    served, addresses = asked
    headers = key(ADMIN_KEY) | {"X-Forwarded-Host": text, "Referer": text, "If-Match": "*", "X-Original-URL": text}
    quoted = text.replace("/", "%2F").replace("?", "%3F")
    for path in (f"/api/exchanges/{quoted}/markets", f"/api/pairs/{quoted}", f"/api/pairs/upbit/{quoted}"):
        for method in ("GET", "PUT", "POST", "DELETE"):
            body = {"pairs": [text], "url": text, "webhook": text, "endpoint": text}
            answer = served.ask(method, path, headers=headers, json=body, params={"url": text, "pair": text})
            assert 400 <= answer.status_code < 500
    assert addresses == []


def test_a_redirect_of_an_exchange_is_not_followed(asked: tuple[Served, list[str]]) -> None:
    served, addresses = asked
    answer = served.ask("GET", "/api/exchanges/upbit/markets")
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and "302" in answer.json()["detail"]
    assert addresses == [EXCHANGES["upbit"].markets_url()]


def test_no_parameter_and_no_body_takes_an_address(asked: tuple[Served, list[str]]) -> None:
    text = asked[0].ask("GET", "/openapi.json").text
    assert '"format":"uri"' not in text and '"url"' not in text and "webhook" not in text
