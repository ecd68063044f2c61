"""The lists of markets of the exchanges, each asked for once a minute at most, however many clients want it."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from coin_platform.clock import elapsed, wall
from coin_platform.errors import NoAnswer
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Microseconds, Pair

Fetch: TypeAlias = Callable[[Exchange], Awaitable[list[Pair]]]
KEEP_SECONDS = 60.0
FAILURE_SECONDS = 5.0  # for which an exchange that did not answer is not asked again


class MarketList(NamedTuple):
    """The pairs that could be traded on an exchange at a time."""

    pairs: tuple[Pair, ...]
    time: Microseconds


class _Kept(NamedTuple):
    until: float
    answer: MarketList | NoAnswer


class MarketLists:
    """Asks exchanges for their markets, and keeps the answers for a while."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = elapsed) -> None:
        """`fetch` asks one exchange. It raises `NoAnswer`."""
        self._fetch, self._clock = fetch, clock
        self._kept: dict[str, _Kept] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, exchange: Exchange) -> MarketList:
        """Return the markets of an exchange. Raises `NoAnswer`."""
        async with self._locks[exchange.name]:  # clients that ask at the same time share one answer
            kept = self._kept.get(exchange.name)
            if kept is None or kept.until <= self._clock():
                kept = self._kept[exchange.name] = await self._ask(exchange)
        if isinstance(kept.answer, NoAnswer):
            raise NoAnswer(str(kept.answer))
        return kept.answer

    async def _ask(self, exchange: Exchange) -> _Kept:
        try:
            pairs = tuple(sorted(await self._fetch(exchange)))
        except NoAnswer as error:
            return _Kept(self._clock() + FAILURE_SECONDS, error)
        return _Kept(self._clock() + KEEP_SECONDS, MarketList(pairs, wall()))
