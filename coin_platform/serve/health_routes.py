"""`/health`, `/ready` and `/metrics`: is the server alive, does it do its job, and numbers for Prometheus."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel

from coin_platform import __version__
from coin_platform.errors import CoinPlatformError
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.metrics import ServerMetrics
from coin_platform.serve.parameters import not_available
from coin_platform.serve.problems import answers

logger = logging.getLogger(__name__)

_CHECK_SECONDS = 5.0


class Alive(BaseModel):
    """The server is alive."""

    status: Literal["ok"] = "ok"
    version: str = __version__


class Ready(BaseModel):
    """The server does its job."""

    status: Literal["ready"] = "ready"


class _Probe:
    """Runs a check in a thread, and never twice at the same time, however long it takes."""

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check
        self._running: asyncio.Task[object] | None = None

    async def failure(self) -> str:
        """Return why the check fails; empty if it passes."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(asyncio.to_thread(self._check))
        running = self._running
        done, _ = await asyncio.wait([running], timeout=_CHECK_SECONDS)
        if not done:
            return f"no answer within {_CHECK_SECONDS:g} s"
        error = running.exception()
        if error is None:
            return ""
        if isinstance(error, (CoinPlatformError, OSError)):
            return str(error) or type(error).__name__
        raise error


def health_routes(access: ApiAccess, checks: Mapping[str, Callable[[], object]], metrics: ServerMetrics) -> APIRouter:
    """Return the routes. `checks` try, by name, what the server needs; each raises an error if it does not work."""
    router = APIRouter(tags=["health"])
    probes = {name: _Probe(check) for name, check in checks.items()}

    @router.get("/health", dependencies=[Depends(access.anyone)])
    async def health() -> Alive:
        """Say that the process is alive."""
        return Alive()

    @router.get("/ready", dependencies=[Depends(access.anyone)], responses=answers(HTTPStatus.SERVICE_UNAVAILABLE))
    async def ready() -> Ready:
        """Say whether the server does its job, or why not."""
        for name, probe in probes.items():
            reason = await probe.failure()
            if reason:
                logger.warning("not ready: %s: %s", name, reason)  # the answer is for anyone, and names no address
                raise not_available(f"{name} is not ready", "the log of the server has the reason")
        return Ready()

    @router.get("/metrics", dependencies=[Depends(access.public)], response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Return the numbers of this server in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router
