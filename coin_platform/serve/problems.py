"""Errors of the API as RFC 9457 problems: one JSON object that says what is wrong, and what to do instead."""

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_SHOWN_CHARACTERS = 200  # of what a client sent
_MOST_FAULTS = 20  # in one answer
_REMEDIES = {
    HTTPStatus.NOT_FOUND: "see /docs for the addresses that exist",
    HTTPStatus.METHOD_NOT_ALLOWED: "see /docs for the methods of this address",
}


class ProblemBody(BaseModel):
    """An error: what is wrong (`detail`), and what to do instead (`remedy`)."""

    type: str = Field(description="The kind of error: `urn:coin:problem:` and a word. It never changes.")
    title: str
    status: int
    detail: str
    remedy: str = ""
    errors: list[dict[str, Any]] = Field(default=[], description="What is wrong in which part of the request.")


class Problem(Exception):
    """Ends a request with an answer of this status. Further members of the body are keyword arguments."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        remedy: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.response = problem(status, kind, detail, remedy, headers=headers, **members)


def problem(
    status: HTTPStatus,
    kind: str,
    detail: str,
    remedy: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """Return an error as an answer. `kind` is a word or two with hyphens between them."""
    body = {
        "type": f"urn:coin:problem:{kind}",
        "title": status.phrase,
        "status": status.value,
        "detail": shown(detail, 1_000),
        "remedy": remedy,
        **members,
    }
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def answers(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the description of the errors that an operation may answer, for the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
    return {
        status.value: {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def shown(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    """Return text from outside as it may stand in an answer: on one line, escaped and cut."""
    escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:most])
    return escaped if len(text) <= most else f"{escaped}…"


def install(app: FastAPI) -> None:
    """Let an application answer all its errors as problems."""
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_wrong_request)
    app.add_exception_handler(Exception, _answer_failure)


async def _answer_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.response


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    path = request.scope["path"]  # not `request.url`: it cannot be made of every query
    detail = f"{shown(request.method, 20)} {shown(path)}: {error.detail}"
    kind = status.phrase.lower().replace(" ", "-")
    return problem(status, kind, detail, _REMEDIES.get(status, ""), headers=error.headers)


async def _answer_wrong_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = list(_faults(error.errors()))
    first = faults[0]
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "wrong-request",
        f"{first['where']}: {first['what']}",
        "see /docs for what this address takes",
        errors=faults[:_MOST_FAULTS],
    )


async def _answer_failure(request: Request, error: Exception) -> JSONResponse:
    """Answer an error of our own. The log has its traceback, the answer does not."""
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "failure",
        "the server failed to answer this request",
        "the server's log says why; please report it",
    )


def _faults(errors: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    """Yield where a request is wrong, and why. The values themselves are left out: one of them may be a secret."""
    for error in errors:
        where = ".".join(shown(str(part), 80) for part in error["loc"])
        yield {"where": where, "what": shown(str(error["msg"]).removeprefix("Value error, "))}


class Answer:
    """An application that answers every HTTP request with the same problem, and refuses every socket."""

    def __init__(self, response: JSONResponse) -> None:
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._response(scope, receive, send)


def refusal_of_foreign_names() -> ASGIApp:
    """Return what answers requests for a foreign host name."""
    return Answer(
        problem(
            HTTPStatus.FORBIDDEN,
            "foreign-name",
            "this server is not served under this name (Host), or not for this web page (Origin)",
            "COIN_SERVE_HOSTS lists the names of this server",
        )
    )
