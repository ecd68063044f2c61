"""`/docs`: the OpenAPI document as a page. Its script and style come from here, not from the internet."""

from importlib.resources import files

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response

from coin_platform.serve.access import ApiAccess

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>coin_platform: control API</title>
<link rel="stylesheet" href="/docs/style.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
_ASSETS = files("fastapi_offline") / "static"


def docs_routes(access: ApiAccess) -> APIRouter:
    """Return the page and its parts."""
    router = APIRouter(prefix="/docs", include_in_schema=False, dependencies=[Depends(access.anyone)])

    @router.get("")
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE)

    @router.get("/start.js")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    @router.get("/swagger-ui.js")
    async def script() -> Response:
        return _asset("swagger-ui-bundle.js", "text/javascript")

    @router.get("/style.css")
    async def style() -> Response:
        return _asset("swagger-ui.css", "text/css")

    return router


def _asset(name: str, media_type: str) -> Response:
    return Response(_ASSETS.joinpath(name).read_bytes(), media_type=media_type)
