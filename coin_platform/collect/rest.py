"""REST answers of one exchange, asked for no faster than it allows."""

import httpx

from coin_platform import __version__
from coin_platform.collect.outbound import Outbound
from coin_platform.collect.pacing import TokenBucket, ban
from coin_platform.exchanges.base import Exchange


def told(error: httpx.HTTPError) -> str:
    """Say in a few words what went wrong."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return str(error) or type(error).__name__


def knows_no_pair(error: httpx.HTTPError) -> bool:
    """Whether it is the answer to a pair that is not there: another attempt would get the same."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _NO_SUCH_PAIR


_NO_SUCH_PAIR = (400, 404)  # statuses


class Rest:
    """One exchange over HTTP. Answers come back as the exact bytes."""

    def __init__(
        self,
        exchange: Exchange,
        transport: httpx.AsyncBaseTransport | None = None,
        outbound: Outbound = Outbound(),  # noqa: B008 - it cannot change
    ) -> None:
        """Ask through `transport`, which tests give, or as `outbound` says."""
        self._bucket = TokenBucket(exchange.limits.requests_per_second, burst=2)
        agent = {"User-Agent": f"coin-platform/{__version__}"}
        way = outbound.http_options()
        self._client = httpx.AsyncClient(timeout=10, headers=agent, transport=transport, trust_env=False, **way)

    async def get(self, url: str) -> bytes:
        """Return the body of an answer. Raises `httpx.HTTPError`; after a refusal the next waits as long as told."""
        await self._bucket.take()
        answer = await self._client.get(url)
        self._bucket.forbid(ban(answer.status_code, answer.headers.get("Retry-After")))
        answer.raise_for_status()
        return answer.content

    def forbid(self, seconds: float) -> None:
        """Ask nothing for this long: the exchange said so, maybe at another door."""
        self._bucket.forbid(seconds)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()
