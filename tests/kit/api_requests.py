"""Requests generated from the OpenAPI document of the control API, valid ones and wrong ones."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.control import SkipTest

from tests.kit.serving import ADMIN_KEY, PAIRS_KEY, READ_KEY, Served

PAIRS = ["BTC-KRW", "ETH-KRW", "XRP-KRW", "BTC-USDT", "ETH-USDT", "BTC-USD", "btc-krw", "DOGE-KRW"]
KEYS = (ADMIN_KEY, ADMIN_KEY, ADMIN_KEY, PAIRS_KEY, READ_KEY, "w" * 40, None)
_TEXTS_OF_OUR_ERRORS = ("Traceback", 'File "', ".py", "coin_platform.")


def operations(served: Served, mode: GenerationMode) -> Iterator[Any]:
    """Yield the operations of the document. Where it takes a pair, real pairs are generated, too."""
    document = served.ask("GET", "/openapi.json").json()
    for name in ("WantedPairs", "AddedPairs"):
        items = document["components"]["schemas"][name]["properties"]["pairs"]["items"]
        items.update({"anyOf": [{"enum": PAIRS}, {"type": "string"}]} if mode.is_positive else {})
    config = schemathesis.config.SchemathesisConfig.from_dict({"generation": {"mode": mode.value}})
    for result in schemathesis.openapi.from_dict(document, config=config).get_all_operations():
        operation: Any = result
        yield operation.ok()


def send_generated(served: Served, mode: GenerationMode, count: int) -> list[int]:
    """Send so many generated requests to each operation, and return the statuses of all answers.

    Raises `AssertionError` for an answer of status 500 or more, for one that the document does not describe, and for
    one that shows our code.
    """
    statuses: list[int] = []
    with asyncio.Runner() as runner:
        transport = httpx.ASGITransport(served.app, raise_app_exceptions=True)
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        for operation in operations(served, mode):
            _send(operation, mode, count, lambda request: runner.run(client.send(request)), statuses)
        runner.run(client.aclose())
    return statuses


def _send(
    operation: Any,
    mode: GenerationMode,
    count: int,
    ask: Callable[[httpx.Request], httpx.Response],
    statuses: list[int],
) -> None:
    @given(case=operation.as_strategy(generation_mode=mode), key=st.sampled_from(KEYS))
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any, key: str | None) -> None:
        try:
            request = _request(case, key)
        except httpx.InvalidURL:  # longer than the client itself allows
            reject()
        answer = ask(request)
        statuses.append(answer.status_code)
        _check(operation, answer)

    with suppress(SkipTest):  # there is no wrong request to this operation
        send()


def _request(case: Any, key: str | None) -> httpx.Request:
    parts = case.as_transport_kwargs(base_url="http://localhost")
    headers = [
        (name.encode("latin-1"), str(value).encode("latin-1", "replace")) for name, value in parts["headers"].items()
    ]
    if key is not None:
        headers = [(name, value) for name, value in headers if name.lower() != b"authorization"]
        headers.append((b"Authorization", b"Bearer " + key.encode()))
    body = {"json": parts["json"]} if "json" in parts else {"content": _bytes(parts.get("data"))}
    params = httpx.QueryParams([(name, value) for name, value in _pairs(parts.get("params"))])
    return httpx.Request(parts["method"], parts["url"], headers=headers, params=params or None, **body)


def _pairs(params: Any) -> Iterator[tuple[str, str]]:
    for name, values in (params or {}).items():
        for value in values if isinstance(values, list) else [values]:
            yield str(name), str(value)


def _bytes(data: Any) -> bytes | None:
    return data if data is None or isinstance(data, bytes) else str(data).encode("utf-8", "replace")


def _check(operation: Any, answer: httpx.Response) -> None:
    status, text = answer.status_code, answer.text
    assert status < 500, (operation.label, status, text[:500])
    documented = {int(code) for code in operation.definition.raw["responses"]} | {400, 401, 403, 404, 405, 422, 431}
    assert status in documented, (operation.label, status, text[:500])
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json", (operation.label, status, text[:500])
        assert not any(part in text for part in _TEXTS_OF_OUR_ERRORS), (operation.label, text[:500])
