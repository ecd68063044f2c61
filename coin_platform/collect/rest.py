"""REST answers of one exchange, asked for no faster than it allows."""

import httpx

from coin_platform import __version__
from coin_platform.collect.pacing import TokenBucket, ban
from coin_platform.exchanges.base import Exchange


class Rest:
    """One exchange over HTTP. Answers come back as the exact bytes."""

    def __init__(self, exchange: Exchange, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._bucket = TokenBucket(exchange.limits.requests_per_second, burst=2)
        agent = {"User-Agent": f"coin-platform/{__version__}"}
        self._client = httpx.AsyncClient(timeout=10, headers=agent, transport=transport, trust_env=False)

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
