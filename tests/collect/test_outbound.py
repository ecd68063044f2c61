"""The way to the exchanges: through a proxy, to servers with certificates of a private authority."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from coin_platform.broker import MemoryBroker
from coin_platform.collect.collector import Collector
from coin_platform.collect.feed import Feed
from coin_platform.collect.outbound import Outbound
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.errors import SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Region
from coin_platform.settings import Mode, Settings
from infra.certificates import Authority
from tests.kit.access import quick_access
from tests.kit.bench import BTC, MINUTE
from tests.kit.connect_proxy import ConnectProxy
from tests.kit.kraken import Quick
from tests.kit.waiting import eventually


class Direct(Quick):
    """Kraken at an address that a test chooses."""

    def __init__(self, url: str) -> None:
        self.url = url

    def socket_url(self, channel: Channel) -> str:
        return self.url


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a private authority with certificates for an exchange and for a proxy."""
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue("exchange", "DNS:exchange.test,DNS:localhost")
    return made


@contextlib.asynccontextmanager
async def exchange(authority: Authority) -> AsyncIterator[int]:
    """Serve REST and a silent socket over TLS. Yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.folder / "exchange.pem", authority.folder / "exchange.key")

    def answer(_: ServerConnection, request: Request) -> Response | None:
        return None if "Upgrade" in request.headers else Response(200, "OK", Headers({"Content-Length": "2"}), b"{}")

    async def hold(server: ServerConnection) -> None:
        await server.wait_closed()

    server: Server
    async with serve(hold, "127.0.0.1", 0, ssl=context, process_request=answer, close_timeout=1) as server:
        yield int(next(iter(server.sockets)).getsockname()[1])


async def socket_state(url: str, outbound: Outbound) -> str:
    """Return the state of a feed at an address, or the error of its attempt."""
    stop, kraken = asyncio.Event(), Direct(url)
    rest = Rest(kraken, outbound=outbound)
    route = Route(kraken, Channel.ORDERBOOK, 0, "t", 7, MINUTE, outbound=outbound)
    feed = Feed(route, [BTC], quick_access(route.exchange, rest))
    running = asyncio.create_task(feed.run(stop))
    await eventually(lambda: feed.status.state == "subscribing" or feed.status.last_error)
    state = feed.status.last_error or feed.status.state
    stop.set()
    await running
    await rest.close()
    return state


async def rest_answer(url: str, outbound: Outbound) -> bytes | str:
    """Return a REST answer, or the text of its error."""
    rest = Rest(Quick(), outbound=outbound)
    try:
        return await rest.get(url)
    except httpx.HTTPError as error:
        return str(error)
    finally:
        await rest.close()


@pytest.mark.parametrize("login", ["", "us er:p@ss:%"])
async def test_D23_sockets_and_REST_go_through_the_proxy_to_a_host_that_only_it_knows(
    authority: Authority, login: str
) -> None:
    async with exchange(authority) as port:
        place, real = "exchange.test:443", f"127.0.0.1:{port}"
        async with ConnectProxy("us er:p@ss:%" if login else "", {place: real}).running() as proxy:
            credentials = "us%20er:p%40ss%3A%25@" if login else ""  # as a URL has them
            outbound = Outbound(f"http://{credentials}{proxy.address}", authority.ca)
            state = await socket_state("wss://exchange.test/v2", outbound)
            answer = await rest_answer("https://exchange.test/0/public/Time", outbound)
            asked = proxy.asked
    assert (state, answer) == ("subscribing", b"{}")
    assert set(asked) == {"exchange.test:443"} and len(asked) >= 2


async def test_D23_a_proxy_that_refuses_the_password_is_named_as_the_cause_without_the_password(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "coin_platform")

    async with ConnectProxy("user:right").running() as proxy:
        outbound = Outbound(f"http://user:wrong-word@{proxy.address}", authority.ca)
        assert "wrong-word" not in repr(outbound) + str(outbound)
        state = await socket_state("wss://exchange.test/v2", outbound)
        answer = await rest_answer("https://exchange.test/", outbound)
    assert isinstance(answer, str)
    for text in (state, answer):
        assert "407" in text and "wrong-word" not in text
    assert "wrong-word" not in caplog.text


@pytest.mark.parametrize("source", ["COIN_CA", "SSL_CERT_FILE"])
async def test_D23_a_private_authority_is_trusted_by_sockets_and_REST_alike(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    if source == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    outbound = Outbound(ca=authority.ca) if source == "COIN_CA" else Outbound()

    async with exchange(authority) as port:
        assert (
            await socket_state(f"wss://localhost:{port}/v2", outbound),
            await rest_answer(f"https://localhost:{port}/", outbound),
        ) == ("subscribing", b"{}")


@pytest.mark.parametrize("with_proxy", [False, True])
def test_D23_an_unknown_authority_is_believed_by_neither(
    authority: Authority, tmp_path: Path, with_proxy: bool
) -> None:
    other = Authority(tmp_path)

    async def scenario() -> tuple[str, bytes | str]:
        async with exchange(authority) as port, ConnectProxy().running() as proxy:
            outbound = Outbound(f"http://{proxy.address}" if with_proxy else None, other.ca)
            return (
                await socket_state(f"wss://localhost:{port}/v2", outbound),
                await rest_answer(f"https://localhost:{port}/", outbound),
            )

    for text in asyncio.run(scenario()):
        assert "CERTIFICATE_VERIFY_FAILED" in str(text)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), ("", "no CA certificate"), ("nonsense", "no CA certificate")]
)
def test_D23_a_wrong_file_of_authorities_is_one_line_that_names_it(
    tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(SettingsError) as error:
        Rest(Quick(), outbound=Outbound.of(Settings(home=tmp_path, ca=Path("ca.pem"))))
    text = str(error.value)
    assert f"COIN_CA={tmp_path / 'ca.pem'}" in text and says in text and "\n" not in text


def test_D23_the_settings_reach_every_connection_but_those_to_simulated_exchanges(
    authority: Authority, tmp_path: Path
) -> None:
    live = Settings(home=tmp_path, proxy=SecretStr("http://proxy.test:3128"), ca=authority.ca)
    collector = Collector(Region.NE, live, MemoryBroker(), exchanges=[EXCHANGES["kraken"]])
    expected = Outbound("http://proxy.test:3128", authority.ca)
    assert {feed.route.outbound for feed in collector.feeds} == {expected}
    simulated = live.model_copy(update={"exchanges_mode": Mode.SIMULATED})
    assert Outbound.of(simulated) == Outbound(None, authority.ca)
