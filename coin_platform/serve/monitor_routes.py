"""`/`: the monitor page, and `/static/…`: its parts. Nothing of it comes from the internet."""

from collections.abc import Iterable
from http import HTTPStatus
from importlib.resources import files
from pathlib import PurePosixPath

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from coin_platform.serve.access import ApiAccess
from coin_platform.serve.problems import Problem

_ROOT = files("coin_platform.serve") / "static"
PARTS = (
    *("monitor.html", "monitor.css", "icon.svg", "vendor/uplot/uPlot.iife.min.js", "vendor/uplot/uPlot.min.css"),
    *("vendor/uplot/LICENSE", "vendor/inter/inter-latin-wght-normal.woff2", "vendor/inter/LICENSE"),
    *(f"{name}.js" for name in ("address", "alerts", "api", "chart", "detail", "dom", "feed", "format", "gaps")),
    *(f"{name}.js" for name in ("health", "keys", "main", "prices", "records", "store", "tape", "theme", "time")),
)
"""The files of the page. A request for another name finds nothing, so that no request becomes a path."""
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    "": "text/plain",
}


def monitor_routes(access: ApiAccess, hosts: Iterable[str]) -> APIRouter:
    """Return the page and its parts. The page may connect to feeds at `hosts`, the names of the deployment.

    The page needs no key, for it holds no data. It asks for the key that its requests need.
    """
    router = APIRouter(include_in_schema=False, dependencies=[Depends(access.anyone)])
    policy = content_policy(hosts)
    parts = {name: _ROOT.joinpath(name).read_bytes() for name in PARTS}

    @router.get("/")
    async def page() -> Response:
        headers = {"Content-Security-Policy": policy}
        return Response(parts["monitor.html"], media_type="text/html", headers=headers)

    @router.get("/static/{name:path}")
    async def part(name: str) -> Response:
        if name not in parts:
            raise Problem(HTTPStatus.NOT_FOUND, "no-file", "the page has no such file", "open / instead")
        return Response(parts[name], media_type=_TYPES[PurePosixPath(name).suffix])

    return router


def content_policy(hosts: Iterable[str]) -> str:
    """Return what the page may load: its own files, and feeds at these host names, at any port.

    A policy cannot name an IPv6 address; such a feed is reached through a name or a proxy.
    """
    names = [host for host in dict.fromkeys(hosts) if ":" not in host]
    feeds = " ".join(f"ws://{name}:* wss://{name}:*" for name in names)
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; "
        f"connect-src 'self' {feeds}; require-trusted-types-for 'script'; trusted-types 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
