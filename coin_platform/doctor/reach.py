"""Look whether the exchanges can be reached, over REST and over a socket, as a collector reaches them."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
from websockets.exceptions import InvalidStatus, WebSocketException

from coin_platform import __version__
from coin_platform.clock import wall
from coin_platform.collect.outbound import Outbound
from coin_platform.collect.websocket import open_socket
from coin_platform.doctor.checks import Diagnosis, fine, warning, wrong
from coin_platform.doctor.machine import ClockSamples
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Pair
from coin_platform.settings import Mode, Settings

ANSWER_SECONDS = 10.0  # for the answer over REST, and for the opening of the socket
_REMEDY = "check the network, the DNS server, COIN_PROXY and COIN_CA; until then its feeds have gaps `unreachable`"
_REFUSED = "the exchange refuses this address: wait, or reach it through COIN_PROXY from an allowed country"
_REFUSALS = (403, 418, 429, 451)


def exchange(exchange: Exchange, settings: Settings, samples: ClockSamples) -> list[Diagnosis]:
    """Ask an exchange once over REST, and open one socket."""
    return asyncio.run(_ask(exchange, settings, samples))


def simulator(settings: Settings) -> list[Diagnosis]:
    """Say that the simulated exchanges do not run. They need not run before `coin up`."""
    text = f"the simulated exchanges do not run on port {settings.simulator_port}"
    return warning(text, "`coin up` and `coin simulate` start them")


async def _ask(exchange: Exchange, settings: Settings, samples: ClockSamples) -> list[Diagnosis]:
    outbound = Outbound.of(settings)
    host = f"127.0.0.1:{settings.simulator_port}" if settings.exchanges_mode is Mode.SIMULATED else None

    def address(url: str) -> str:
        return simulated_url(url, exchange.name, host) if host else url

    async def rest() -> None:
        url = exchange.request_url(Channel.TICKER, Pair("BTC", exchange.quote)) or exchange.markets_url()
        assert url is not None  # every exchange answers one of the two
        headers = {"User-Agent": f"coin-platform/{__version__}"}
        options = outbound.http_options()
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, headers=headers, trust_env=False, **options) as client:
            asked = wall()
            async with client.stream("GET", address(url)) as answer:  # the body is not read
                samples.note(exchange.name, answer.headers.get("Date"), asked, wall())
                answer.raise_for_status()

    async def socket() -> None:
        channel = next(iter(sorted(exchange.channels)))
        async with open_socket(address(exchange.socket_url(channel)), outbound):
            pass

    results = await asyncio.gather(_timed("REST", rest), _timed("socket", socket))
    texts, failures = [text for text, _, _ in results], [failure for _, failure, _ in results if failure]
    if failures:
        return wrong("; ".join(texts), _REFUSED if any(status in _REFUSALS for _, _, status in results) else _REMEDY)
    return fine(", ".join(texts))


async def _timed(name: str, work: Callable[[], Awaitable[None]]) -> tuple[str, bool, int]:
    """Return what came of it in words, whether it failed, and the HTTP status of a refusal, or 0."""
    started, status = time.monotonic(), 0
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await work()
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        return f"{name}: HTTP {status}", True, status
    except InvalidStatus as error:
        status = error.response.status_code
        return f"{name}: HTTP {status}", True, status
    except (httpx.HTTPError, WebSocketException, OSError) as error:  # a TimeoutError is an OSError
        return f"{name}: {str(error) or f'no answer within {ANSWER_SECONDS:g} s'}", True, 0
    return f"{name} {1000 * (time.monotonic() - started):.0f} ms", False, 0
