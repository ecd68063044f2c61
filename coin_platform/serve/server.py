"""Runs the control API on uvicorn until it is told to stop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from coin_platform.serve.connections import ConnectionLimits, LimitedConnection
from coin_platform.serve.guards import MOST_HEADER_BYTES

logger = logging.getLogger(__name__)

IDLE_SECONDS = 30  # after which a connection without requests is closed
STOP_SECONDS = 8  # for requests that are being answered


class _Server(uvicorn.Server):
    """A server that leaves the signals to us: uvicorn would end the process by the signal, and not with code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def answer_requests(
    app: ASGIApp,
    listening: socket.socket,
    stop: asyncio.Event,
    limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008 - it cannot change
) -> None:
    """Answer requests until `stop`, then those that have begun."""
    connection = type("Connection", (LimitedConnection,), {"limits": limits})  # uvicorn takes a class
    config = uvicorn.Config(
        app,
        http=connection,  # h11, which holds no more than so many bytes of a request that is not whole yet
        ws="none",
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        access_log=False,  # a query may hold what somebody took for the place of a key
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
    )
    server = _Server(config)
    name = listening.getsockname()
    logger.info("the control API listens at http://%s:%s", *name[:2])

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve(sockets=[listening])
    finally:
        ending.cancel()
        listening.close()
