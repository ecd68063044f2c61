"""The lists of markets of the exchanges, each asked for once a minute at most, however many clients want it."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from coin_platform.clock import elapsed, wall
from coin_platform.errors import NoAnswer
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Instrument, InstrumentState, Microseconds, Pair

Fetch: TypeAlias = Callable[[Exchange], Awaitable[list[Instrument]]]
KEEP_SECONDS = 60.0
_SHOWN_PAIRS = 20  # in one sentence
FAILURE_SECONDS = 5.0  # for which an exchange that did not answer is not asked again


class MarketList(NamedTuple):
    """What an exchange listed at a time, in the order of the pairs. Pairs that are not traded are listed, too."""

    markets: dict[Pair, Instrument]
    time: Microseconds

    @classmethod
    def of(cls, markets: Iterable[Instrument], time: Microseconds) -> "MarketList":
        """Return the list of these markets."""
        return cls({market.pair: market for market in sorted(markets, key=lambda market: market.pair)}, time)

    def not_traded(self, pairs: Iterable[Pair]) -> dict[Pair, InstrumentState]:
        """Return which of these pairs cannot be traded. A pair that the list does not name is delisted."""
        states = {pair: self._state(pair) for pair in pairs}
        return {pair: state for pair, state in states.items() if not state.is_traded}

    def _state(self, pair: Pair) -> InstrumentState:
        market = self.markets.get(pair)
        return InstrumentState.DELISTED if market is None else market.state


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
            markets = await self._fetch(exchange)
        except NoAnswer as error:
            return _Kept(self._clock() + FAILURE_SECONDS, error)
        return _Kept(self._clock() + KEEP_SECONDS, MarketList.of(markets, wall()))


def refusal_text(exchange: str, not_traded: Mapping[Pair, InstrumentState]) -> str:
    """Return why pairs cannot be added: `upbit does not list X-KRW; upbit lists Y-KRW as halted`."""
    unlisted = [str(pair) for pair, state in not_traded.items() if state is InstrumentState.DELISTED]
    others = [f"{pair} as {state}" for pair, state in not_traded.items() if state is not InstrumentState.DELISTED]
    parts = (("does not list", unlisted), ("lists", others))
    return "; ".join(f"{exchange} {verb} {', '.join(names[:_SHOWN_PAIRS])}" for verb, names in parts if names)
