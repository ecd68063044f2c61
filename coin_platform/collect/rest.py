"""Ask one exchange over REST, no faster than it allows, within budgets of bytes and of time."""

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from weakref import WeakSet

import httpx

from coin_platform import __version__
from coin_platform.collect.outbound import Outbound
from coin_platform.collect.pacing import TokenBucket, retry_after
from coin_platform.errors import NotTaken
from coin_platform.exchanges.bans import plausible_ban
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Event, Refused

logger = logging.getLogger(__name__)

ANSWER_BYTES = 8 << 20  # of one unpacked answer; the largest, a list of all markets, has about half
ANSWER_SECONDS = 30.0  # from connecting to the last byte
ANSWERS_AT_ONCE = 4  # more would only wait for each other, and each may take `ANSWER_BYTES` of memory
_WAIT_SECONDS = 10.0  # for a connection, and for the next bytes
_GZIP_BITS = 16 + zlib.MAX_WBITS  # zlib's way to say that a gzip header and trailer are expected
_NO_SUCH_PAIR = (400, 404)  # HTTP statuses
_TRANSFER_HEADERS = ("content-encoding", "content-length", "transfer-encoding")  # not true of the unpacked body


class BadAnswer(httpx.HTTPError):
    """An answer takes more bytes or time than it may, or is packed in a way that was not asked for."""


def error_text(error: httpx.HTTPError | NotTaken) -> str:
    """Return in a few words what went wrong."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return str(error) or type(error).__name__


def knows_no_pair(error: httpx.HTTPError | NotTaken) -> bool:
    """Return whether the exchange does not know the pair: another attempt would get the same answer."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _NO_SUCH_PAIR


class Rest:
    """One exchange over HTTP, and the bans of that exchange.

    A ban holds for everything in this process that asks the exchange: the buckets passed to `share` obey it, too.
    """

    def __init__(
        self,
        exchange: Exchange,
        transport: httpx.AsyncBaseTransport | None = None,
        outbound: Outbound = Outbound(),  # noqa: B008 - it cannot change
        *,
        answer_bytes: int = ANSWER_BYTES,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Ask through `transport`, which tests pass, or as `outbound` says."""
        self._exchange = exchange
        self._answer_bytes, self._answer_seconds = answer_bytes, answer_seconds
        self._bucket = TokenBucket(exchange.limits.requests_per_second, burst=2)
        self._buckets: WeakSet[TokenBucket] = WeakSet([self._bucket])
        self._banned_until = time.monotonic()
        self._seats = asyncio.Semaphore(ANSWERS_AT_ONCE)
        headers = {"User-Agent": f"coin-platform/{__version__}", "Accept-Encoding": "gzip"}
        self._client = httpx.AsyncClient(
            timeout=_WAIT_SECONDS, headers=headers, transport=transport, trust_env=False, **outbound.http_options()
        )

    async def get(self, url: str) -> bytes:
        """Return the exact bytes of an answer, once the pace and the bans allow to ask. Raises `httpx.HTTPError`."""
        async with self._seats:
            await self._bucket.take()
            try:
                async with asyncio.timeout(self._answer_seconds), self._client.stream("GET", url) as answer:
                    body = await self._read(answer)
            except TimeoutError as error:
                raise BadAnswer(f"no whole answer within {self._answer_seconds:g} s") from error
        headers = [(name, text) for name, text in answer.headers.multi_items() if name not in _TRANSFER_HEADERS]
        httpx.Response(answer.status_code, headers=headers, content=body, request=answer.request).raise_for_status()
        return body

    def share(self, bucket: TokenBucket) -> None:
        """Let a bucket obey the bans of this exchange: the one that holds now, and later ones."""
        bucket.forbid(self.banned_seconds)
        self._buckets.add(bucket)

    @property
    def banned_seconds(self) -> float:
        """For how many seconds from now the exchange must not be asked anything; 0 if it may be asked."""
        return max(0.0, self._banned_until - time.monotonic())

    @property
    def tokens(self) -> float:
        """How many requests may be sent now without a wait; negative while some wait."""
        return self._bucket.tokens

    def forbid(self, seconds: float, reason: str = "") -> None:
        """Ask nothing for so long, over REST and over sockets. A shorter ban does not end a longer one."""
        if seconds > self.banned_seconds:
            logger.warning(
                "%s: nothing is asked for %.0f s, %s", self._exchange.name, seconds, reason or "a rate limit"
            )
            self._banned_until = time.monotonic() + seconds
        for bucket in self._buckets:
            bucket.forbid(seconds)

    def heed(self, status: int, headers: httpx.Headers, body: bytes) -> None:
        """Obey the ban of an HTTP answer, also of the answer to the upgrade of a socket."""
        text = headers.get("Retry-After")
        wait = retry_after(text, headers.get("Date"))
        if text and wait is None:
            logger.warning("%s: Retry-After %.60r is no plausible time, not obeyed", self._exchange.name, text)
        seconds = self._exchange.read_ban(status, wait, body, time.time_ns() // 1000)
        if seconds > 0:
            self.forbid(seconds, f"HTTP {status}")

    def heed_events(self, events: Iterable[Event]) -> None:
        """Obey the rate limits that an exchange states in a message, or in a body under HTTP 200."""
        for event in events:
            if isinstance(event, Refused) and event.ban_seconds > 0:
                wait = plausible_ban(event.ban_seconds)
                self.forbid(self._exchange.ban_seconds if wait is None else wait, event.reason)

    async def close(self) -> None:
        """Close the connections to the exchange."""
        await self._client.aclose()

    async def _read(self, answer: httpx.Response) -> bytes:
        """Return the unpacked body. A ban is obeyed even if the body cannot be read. Raises `BadAnswer`."""
        body = bytearray()
        try:
            async for chunk in self._unpacked(answer):
                body += chunk
                if len(body) > self._answer_bytes:
                    raise BadAnswer(f"more than {self._answer_bytes:,} bytes in one answer")
        finally:
            self.heed(answer.status_code, answer.headers, bytes(body))
        return bytes(body)

    def _unpacked(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("", "identity"):
            return answer.aiter_bytes()
        if encoding in ("gzip", "x-gzip"):
            return self._inflated(answer)
        raise BadAnswer(f"packed as {encoding[:40]!r}, which was not asked for")

    async def _inflated(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the unpacked body, at most one byte more than allowed: 1 MB may hold gigabytes. Raises `BadAnswer`."""
        unpack, packed_bytes, room_bytes = zlib.decompressobj(_GZIP_BITS), 0, self._answer_bytes + 1
        try:
            async for chunk in answer.aiter_raw():
                packed_bytes += len(chunk)
                if packed_bytes > self._answer_bytes:
                    raise BadAnswer(f"more than {self._answer_bytes:,} packed bytes in one answer")
                unpacked = unpack.decompress(chunk, room_bytes)
                room_bytes -= len(unpacked)
                yield unpacked
        except zlib.error as error:
            raise BadAnswer(f"not gzip, as it says it is: {error}") from error
        if not unpack.eof or unpack.unused_data:
            raise BadAnswer("not one whole gzip stream, as it says it is")
