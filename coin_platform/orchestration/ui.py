"""Dagster's UI, served under its own names only: `python -m coin_platform.orchestration.ui dev …` as `dagster dev …`.

A browser lets any web page send requests to 127.0.0.1, and read the answers if the page's own name leads there (DNS
rebinding). Such requests carry a foreign name in their Host or their Origin, and are refused.
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
    """Answers 403 to requests and sockets whose Host, or Origin if there is one, is none of these names."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app, self._names = app, frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what was meant for us."""
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
    """Run `dagster dev`, whose webserver is started through this module, and whose other processes are mended."""
    from coin_platform.orchestration import dagster_clocks  # the webserver has no need of the daemon's modules

    dagster_clocks.mend()
    start = dagster_clocks.mended(dev.open_ipc_subprocess)  # type: ignore[attr-defined]

    def ours(parts: Sequence[str], **options: Any) -> Any:
        words = ([MODULE, "webserver"] if part == "dagster_webserver" else [part] for part in parts)
        return start([word for part in words for word in part], **options)

    dev.open_ipc_subprocess = ours  # type: ignore[attr-defined]
    dev.dev_command.main(arguments, prog_name="dagster dev")


def _webserver(arguments: Sequence[str]) -> None:
    """Run `dagster-webserver`, whose application looks at names first."""
    make = webserver.create_app_from_workspace_process_context  # type: ignore[attr-defined]

    def ours(*words: Any, **options: Any) -> Any:
        app = make(*words, **options)
        app.add_middleware(OwnNames, names=load().ui_hosts)
        return app

    webserver.create_app_from_workspace_process_context = ours  # type: ignore[attr-defined]
    sys.argv = ["dagster-webserver", *arguments]
    webserver.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    {"dev": _dev, "webserver": _webserver}[sys.argv[1]](sys.argv[2:])
