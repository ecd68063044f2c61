"""Serves Dagster's UI under its own names only: `python -m coin_platform.orchestration.ui dev …` for `dagster dev …`.

A browser lets any web page send requests to 127.0.0.1. It also lets the page read the answers if the page's own name
leads there (DNS rebinding). Such requests have a foreign name in their header Host or Origin, and are refused.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import dagster_webserver.cli as webserver
from dagster._cli import dev
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from coin_platform.settings import PREFIX, load

MODULE = "coin_platform.orchestration.ui"


class OwnNames:
    """Answers 403 to requests and sockets whose Host or Origin is not one of the names of this server."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app, self._names = app, frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request to one of the names; refuse others."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            hosts = {_host(f"//{headers.get('host', '')}"), *map(_host, headers.getlist("origin"))}
            if not hosts <= self._names:
                text = f"the UI is not served under this name; {PREFIX}UI_HOSTS lists its names\n"
                await PlainTextResponse(text, status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host(address: str) -> str:
    try:
        return ("" if "@" in address else urlsplit(address).hostname) or ""
    except ValueError:
        return ""


def _dev(arguments: Sequence[str]) -> None:
    """Run `dagster dev` with mended clocks, and let it start its webserver through this module."""
    from coin_platform.orchestration import dagster_clocks  # imported here: the webserver does not need it

    dagster_clocks.mend()
    start = dagster_clocks.mended(dev.open_ipc_subprocess)  # type: ignore[attr-defined]

    def start_through_module(parts: Sequence[str], **options: Any) -> Any:
        words = ([MODULE, "webserver"] if part == "dagster_webserver" else [part] for part in parts)
        return start([word for part in words for word in part], **options)

    dev.open_ipc_subprocess = start_through_module  # type: ignore[attr-defined]
    dev.dev_command.main(arguments, prog_name="dagster dev")


def _webserver(arguments: Sequence[str]) -> None:
    """Run `dagster-webserver` with a check of the names before its application."""
    create_app = webserver.create_app_from_workspace_process_context  # type: ignore[attr-defined]

    def create_checked_app(*parts: Any, **options: Any) -> Any:
        app = create_app(*parts, **options)
        app.add_middleware(OwnNames, names=load().ui_hosts)
        return app

    webserver.create_app_from_workspace_process_context = create_checked_app  # type: ignore[attr-defined]
    sys.argv = ["dagster-webserver", *arguments]
    webserver.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    {"dev": _dev, "webserver": _webserver}[sys.argv[1]](sys.argv[2:])
