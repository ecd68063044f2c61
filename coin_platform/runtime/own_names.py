"""Refuses requests for a foreign host name: what a web page of another site may send to this machine.

A browser lets any web page send requests to 127.0.0.1. It also lets the page read the answers if the page's own name
leads there (DNS rebinding). Such requests have a foreign name in their header Host or Origin.
"""

from collections.abc import Collection, Iterable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class OwnNames:
    """Answers 403 to requests and sockets whose Host or Origin is not one of the names of this server."""

    def __init__(self, app: ASGIApp, names: Iterable[str], refusal: ASGIApp) -> None:
        """Serve `app` under these names. `refusal` answers all other requests: see `refuse_with`."""
        self._app, self._names, self._refusal = app, frozenset(names), refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request to one of the names; refuse others."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            if not are_own(headers.getlist("host"), headers.getlist("origin"), self._names):
                await self._refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def are_own(hosts: Sequence[str], origins: Iterable[str], names: Collection[str]) -> bool:
    """Return whether a request has one header Host, and this and its headers Origin are among the names of a server."""
    found = {*(_host(f"//{text}") for text in hosts), *map(_host, origins)}
    return len(hosts) == 1 and all(name in names for name in found)


def refuse_with(text: str) -> ASGIApp:
    """Return an application that answers 403 with one line."""
    return PlainTextResponse(f"{text}\n", status_code=403)


def _host(address: str) -> str:
    try:
        return ("" if "@" in address else urlsplit(address).hostname) or ""
    except ValueError:
        return ""
