"""A client of the live feed: `connect(url)` is an asynchronous iterator of records that outlives servers.

async with connect("http://127.0.0.1:8600", types=["ticker"], is_conflated=True) as feed:
    async for record in feed:
        print(record["exchange"], record["pair"], record["data"][0]["trade_price"])
"""

import asyncio
import contextlib
import json
import logging
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from coin_platform.errors import FeedRefused

logger = logging.getLogger(__name__)

FeedEntry: TypeAlias = dict[str, Any]  # a record as docs/feed.md shows it, or a hole
HOLE = "hole"  # the type of what the client tells about records that it may have missed

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0  # before another attempt: each doubles the one before
_OPEN_SECONDS = 5.0  # for an answer of the API, and for a handshake
_MOST_FRAME_BYTES = 64 << 20
_REFUSED_STATUSES = (400, 401, 403, 404)  # another attempt would be refused again
_RETRY = re.compile(r"retry in (\d+(?:\.\d+)?) s")  # why a server closed, and when it wants the client back


class LiveFeed:
    """The records of the feed, one after the other.

    1. It asks `GET /ws/info` where the servers are, and takes the first that answers. If a server ends, it waits for a
       random moment, or for the one that the server named, and goes on with the next server.
    2. After a new connection or a hole in `seq` comes a snapshot. What has been told already is left out.
    3. Where records may be missing in between, an entry of type `hole` says so and why: `{"type": "hole", "reason":
       "slow", "missed_bundles": 3}`. Of a broken connection the number is not known, and null.
    """

    def __init__(self, url: str, query: str, key: str | None) -> None:
        self._url, self._query = url.rstrip("/"), query
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._seq: tuple[str, int] | None = None  # the stream and the last bundle of it
        self._told: dict[tuple[str, str, str | None], tuple[int, int, int]] = {}  # the newest origin, by what it tells
        self._is_connected_before = False

    async def records(self) -> AsyncGenerator[FeedEntry, None]:
        """Yield records without end. Raises `FeedRefused` if the servers refuse the key, the filter or the address."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            wanted_pause: float | None = None
            for address in await self._addresses():
                try:
                    async with open_socket(
                        f"{address}{self._query}",
                        additional_headers=self._headers,
                        compression=None,
                        max_size=_MOST_FRAME_BYTES,
                        open_timeout=_OPEN_SECONDS,
                        proxy=None,
                    ) as socket:
                        self._seq = None
                        async for text in socket:
                            pause = FIRST_PAUSE_SECONDS
                            for entry in self._take(json.loads(text)):
                                yield entry
                except InvalidStatus as refusal:
                    if refusal.response.status_code in _REFUSED_STATUSES:
                        text = (refusal.response.body or b"").decode(errors="replace").strip()
                        raise FeedRefused(f"{address}: {text or refusal}") from None
                    logger.info("%s: %s", address, refusal)
                except ConnectionClosed as closed:
                    reason = closed.rcvd.reason if closed.rcvd else ""
                    named = _RETRY.search(reason)
                    wanted_pause = float(named[1]) if named else None
                    logger.info("%s: the connection ended: %s", address, reason or closed)
                except (OSError, InvalidHandshake, TimeoutError) as error:
                    logger.info("%s: %s", address, error)
            await asyncio.sleep(random.uniform(0, pause) if wanted_pause is None else wanted_pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _addresses(self) -> list[str]:
        """Return the addresses of the servers, the best first; none while the API does not answer."""
        if self._url.startswith(("ws://", "wss://")):
            return [self._url]
        try:
            async with httpx.AsyncClient(timeout=_OPEN_SECONDS, trust_env=False) as client:
                answer = await client.get(f"{self._url}/ws/info", headers=self._headers)
        except httpx.HTTPError as error:
            logger.info("%s: %s", self._url, error)
            return []
        if answer.status_code in _REFUSED_STATUSES:
            raise FeedRefused(f"{self._url}/ws/info: answer {answer.status_code}: {answer.text[:200]}")
        if answer.status_code != httpx.codes.OK:
            logger.info("%s: answer %d", self._url, answer.status_code)
            return []
        return [server["address"] for server in answer.json()["servers"] if server["state"] != "lost"]

    def _take(self, bundle: FeedEntry) -> Iterator[FeedEntry]:
        """Yield what is new in a frame, after the hole before it, if there is one."""
        stream, seq, is_snapshot = bundle["stream"], bundle["seq"], bundle.get("snapshot", False)
        if self._seq is None:
            if self._is_connected_before:
                yield {"type": HOLE, "reason": "reconnected", "missed_bundles": None}
            self._is_connected_before = True
        elif is_snapshot and (stream, seq) == self._seq:
            pass  # the server reads from another source now, and nothing is missing
        elif (stream, seq) != (self._seq[0], self._seq[1] + 1):
            yield {"type": HOLE, "reason": "slow", "missed_bundles": seq - self._seq[1]}
        self._seq = stream, seq
        for record in bundle["records"]:
            if self._is_new(record, is_snapshot=is_snapshot):
                yield record

    def _is_new(self, record: FeedEntry, *, is_snapshot: bool) -> bool:
        """Return whether a record has not been told. Gaps have no origin: those of a snapshot are told again."""
        if "offset" not in record:
            return True
        key = record["exchange"], record["type"], record["pair"]
        origin = record["epoch"], record["offset"], record["index"]
        known = self._told.get(key)
        is_newer = known is None or origin > known
        if is_newer:
            self._told[key] = origin
        return is_newer or not is_snapshot


@contextlib.asynccontextmanager
async def connect(
    url: str,
    *,
    exchanges: Sequence[str] = (),
    pairs: Sequence[str] = (),
    types: Sequence[str] = (),
    is_conflated: bool = False,
    key: str | None = None,
) -> AsyncIterator[AsyncIterator[FeedEntry]]:
    """Give the records of the feed of a deployment.

    `url` is that of its control API, such as `http://127.0.0.1:8600`, or of one server of the feed, such as
    `ws://127.0.0.1:8601/ws/exchange`. `exchanges`, `pairs` and `types` choose records; empty ones choose all.
    `is_conflated`: of tickers and order books only the latest of each bundle. `key` is one of scope `read`.
    """
    values = {"exchange": exchanges, "pair": pairs, "type": types, "conflate": ["1"] * is_conflated}
    query = urlencode({name: ",".join(texts) for name, texts in values.items() if texts}, safe=",")
    entries = LiveFeed(url, f"?{query}" if query else "", key).records()
    try:
        yield entries
    finally:
        await entries.aclose()
