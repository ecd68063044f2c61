"""Listen on loopback, split paths and build answers, for every server of simulated exchanges."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from coin_platform.errors import SettingsError


@asynccontextmanager
async def listening(
    port: int,
    talk: Callable[[ServerConnection], Awaitable[None]],
    answer: Callable[[ServerConnection, Request], Response | None],
) -> AsyncIterator[None]:
    """Serve sockets with `talk` and requests with `answer` on 127.0.0.1. At the end close all connections with 1001.

    Raises `SettingsError` if the port is in use.
    """
    try:
        async with serve(
            talk,
            "127.0.0.1",
            port,
            compression=None,
            process_request=answer,
            close_timeout=2,
            ping_interval=None,
        ):
            yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        line = f"COIN_SIMULATOR_PORT={port}: the port is in use; end what listens there, or choose another"
        raise SettingsError(line) from error


def split(path: str) -> tuple[str, str]:
    """Return the exchange and its own path: `/kraken/v2` gives `kraken` and `/v2`."""
    name, slash, rest = path.lstrip("/").partition("/")
    return name, slash + rest


def is_upgrade(request: Request) -> bool:
    """Return whether a request asks for a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def response(status: int, body: str | bytes, **more: str) -> Response:
    """Return an HTTP answer of JSON. `more` headers that are empty are left out."""
    payload = body.encode() if isinstance(body, str) else body
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(payload)), "Connection": "close"})
    for name, value in more.items():
        if value:
            headers[name] = value
    return Response(status, HTTPStatus(status).phrase, headers, payload)
