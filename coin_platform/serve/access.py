"""Who may ask: the key and the rate of each request, as dependencies of the routes."""

import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, NamedTuple, TypeAlias

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from coin_platform.serve.keys import Key, Keys, Scope
from coin_platform.serve.problems import Problem
from coin_platform.serve.rates import RateLimiter

_READING_METHODS = ("GET", "HEAD", "OPTIONS")
_BEARER = HTTPBearer(auto_error=False, description="A key, as `Authorization: Bearer KEY`.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, in a header of its own.")


class Caller(NamedTuple):
    """Who asks: the name of a key or, where none is needed, an address."""

    name: str
    scope: Scope | None


Check: TypeAlias = Callable[..., Awaitable[Caller]]


class ApiAccess:
    """Makes the dependencies that check keys and rates."""

    def __init__(self, keys: Keys, rates: RateLimiter, *, is_local: bool) -> None:
        """`is_local`: only this machine reaches the server. Market data and health then need no key."""
        self._keys, self._rates = keys, rates
        self._public_scope = None if is_local else Scope.READ

    @property
    def anyone(self) -> Check:
        """The check of a route that needs no key at all."""

        async def check(request: Request) -> Caller:
            return self._counted(Caller(_address(request), None), request)

        return check

    @property
    def public(self) -> Check:
        """The check of a route that shows market data or health: it needs a key if other machines reach the server."""
        return self.anyone if self._public_scope is None else self.needs(self._public_scope)

    def needs(self, scope: Scope) -> Check:
        """Return the check of a route that needs a key of this scope."""

        async def check(
            request: Request,
            bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
            header: Annotated[str | None, Security(_HEADER)],
        ) -> Caller:
            text = bearer.credentials if bearer else header
            if text is None:
                raise _unauthorised(
                    f"this needs a key of scope {scope}",
                    "send it as `Authorization: Bearer KEY`; without COIN_SERVE_KEYS the server keeps its key in "
                    "data/serve.key under COIN_HOME",
                )
            key = self._key(_address(request), text)
            if not key.scope.includes(scope):
                raise Problem(
                    HTTPStatus.FORBIDDEN,
                    "scope",
                    f"this needs a key of scope {scope}; this key has scope {key.scope}",
                    f"use a key of scope {scope}",
                )
            return self._counted(Caller(key.name, key.scope), request)

        return check

    def _key(self, address: str, text: str) -> Key:
        """Return the key that a client sent. Raises `Problem`. Wrong keys are counted for each address."""
        seconds = self._rates.blocked_seconds(address)
        if seconds:
            raise _too_often("too many wrong keys came from this address", seconds)
        key = self._keys.find(text)
        if key is None:
            self._rates.wrong_key(address)
            raise _unauthorised("this key is not known", "check the key; COIN_SERVE_KEYS lists the keys of the server")
        return key

    def _counted(self, caller: Caller, request: Request) -> Caller:
        """Return a caller who does not ask too often. Raises `Problem`."""
        seconds = self._rates.take(caller.name, is_write=request.method not in _READING_METHODS)
        if seconds:
            raise _too_often("this client asks too often", seconds)
        return caller


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _unauthorised(detail: str, remedy: str) -> Problem:
    headers = {"WWW-Authenticate": "Bearer"}
    return Problem(HTTPStatus.UNAUTHORIZED, "unauthorised", detail, remedy, headers=headers)


def _too_often(detail: str, seconds: float) -> Problem:
    wait = str(math.ceil(seconds))
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS, "too-often", detail, f"ask again in {wait} s", headers={"Retry-After": wait}
    )
