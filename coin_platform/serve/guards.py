"""What every request and every answer goes through: a limit of the body, and headers that keep browsers safe."""

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coin_platform.serve.problems import problem

MOST_BODY_BYTES = 64 << 10
MOST_HEADER_BYTES = 16 << 10  # the address counts, too
BODY_SECONDS = 10.0  # within which the whole body must have come

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """Adds headers to every answer: browsers run only our own scripts, show no frame of us, and keep nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, and add the headers to its answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class SizeLimit:
    """Reads the body of a request before anything looks at it.

    Answers 431 to large headers, 413 to a large body, and 408 to a slow one.
    """

    def __init__(self, app: ASGIApp, most_bytes: int = MOST_BODY_BYTES, seconds: float = BODY_SECONDS) -> None:
        self._app, self._most_bytes, self._seconds = app, most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a small request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _header_bytes(scope) > MOST_HEADER_BYTES:
            detail = f"the address and the headers have more than {MOST_HEADER_BYTES} bytes"
            await _too_large(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "large-headers", detail)(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(scope, receive)
        except TimeoutError:
            too_slow = problem(
                HTTPStatus.REQUEST_TIMEOUT,
                "slow-body",
                f"the body did not come within {self._seconds:g} s",
                headers={"Connection": "close"},
            )
            await too_slow(scope, receive, send)
            return
        if body is None:
            detail = f"the body has more than {self._most_bytes} bytes"
            await _too_large(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "large-body", detail)(scope, receive, send)
            return
        parts = [body]

        async def receive_body() -> Message:
            if parts:
                return {"type": "http.request", "body": parts.pop(), "more_body": False}
            return await receive()

        await self._app(scope, receive_body, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body, or `None` if it is too large. A body of which the client broke off ends where it did."""
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length[:20]) > self._most_bytes:
            return None
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._most_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _too_large(status: HTTPStatus, kind: str, detail: str) -> Response:
    return problem(status, kind, detail, "send several requests", headers={"Connection": "close"})


def _header_bytes(scope: Scope) -> int:
    address = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    return address + sum(len(name) + len(value) for name, value in scope["headers"])
