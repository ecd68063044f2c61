"""A market made of correlated random walks: the same seed and times give the same prices, books and trades."""

import math
import random
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from coin_platform.model import SECOND, Microseconds, Pair, Side

SIDE_LEVELS = 120  # more than most subscriptions show. So levels leave a client's book and come back.
MOVING_LEVELS = 20  # the best levels of a side, where sizes change
START_PRICE_OF_OTHERS_USD = 2.0  # of a coin that has no price below
START_PRICES_USD = {"BTC": 84_000.0, "ETH": 3_100.0, "XRP": 2.4, "SOL": 140.0}
START_WON_PER_DOLLAR = 1_400.0
MEAN_PREMIUM = 0.02  # how much more Korea pays than the rest, as a fraction
MINUTE: Microseconds = 60 * SECOND
DAY: Microseconds = 1440 * MINUTE
CACHED_TEXTS = 1 << 15  # numbers whose texts are kept: most of them come again in the next step


class Deal(NamedTuple):
    """One trade. The price is in ticks, and the side is the taker's."""

    id: int
    ticks: int
    size: float
    side: Side
    time: Microseconds


@dataclass
class Bar:
    """The trades in a stretch of time: prices in ticks, volume in base currency, value in quote currency."""

    start: Microseconds
    open: int
    high: int
    low: int
    close: int
    volume: float = 0.0
    value: float = 0.0

    def add(self, high: int, low: int, close: int, volume: float, value: float) -> None:
        """Add a later trade or a later bar."""
        self.high, self.low, self.close = max(self.high, high), min(self.low, low), close
        self.volume, self.value = round(self.volume + volume, 6), round(self.value + value, 6)


@dataclass
class Listing:
    """One pair on one exchange: its book on a grid of ticks, its trades, and the changes of the last step."""

    pair: Pair
    tick: Decimal
    bids: dict[int, float] = field(default_factory=dict)  # ticks -> size
    asks: dict[int, float] = field(default_factory=dict)
    ranked: dict[Side, list[int]] = field(default_factory=dict)  # the ticks of each side, best first
    changes: list[tuple[Side, int, float]] = field(default_factory=list)  # (side, ticks, size); size 0: deleted
    sequence: int = 1_000
    previous: int = 1_000  # the sequence before the last step
    updates: int = 1_000  # rises by one with every step; the sequence jumps
    deals: deque[Deal] = field(default_factory=lambda: deque(maxlen=100))  # newest last
    minutes: deque[Bar] = field(default_factory=lambda: deque(maxlen=1440))  # of a day; the newest is last and goes on
    rolling: Bar = field(default_factory=lambda: Bar(0, 0, 0, 0, 0))  # the last 24 hours
    day: Bar = field(default_factory=lambda: Bar(0, 0, 0, 0, 0))  # since midnight UTC
    prev_close: int = 0  # of the day before, in ticks
    closed: Bar | None = None  # the minute that the last step ended

    def price(self, ticks: int) -> str:
        """Write a price with the digits of the tick."""
        return _text(self.tick, ticks)

    def number(self, ticks: int) -> float:
        """Return a price in quote currency."""
        return _number(self.tick, ticks)

    def best(self) -> tuple[int, int]:
        """Return the best bid and ask, in ticks."""
        return self.ranked[Side.BUY][0], self.ranked[Side.SELL][0]

    def levels(self, side: Side, count: int = SIDE_LEVELS) -> list[tuple[int, float]]:
        """Return a side's best levels, best first."""
        levels = self.bids if side is Side.BUY else self.asks
        return [(ticks, levels[ticks]) for ticks in self.ranked[side][:count]]

    def trade(self, deal: Deal) -> None:
        """Add a trade to the statistics."""
        ticks, value = deal.ticks, deal.size * self.number(deal.ticks)
        self.closed = None
        if not self.minutes:  # the first trade of all: invent the day before it
            self.minutes.append(Bar(deal.time - DAY, ticks, ticks, ticks, ticks, 1000.0, 1000 * self.number(ticks)))
            self.prev_close = ticks
        if deal.time // MINUTE > self.minutes[-1].start // MINUTE:
            self.closed = self.minutes[-1] if self.deals else None
            self.minutes.append(Bar(deal.time // MINUTE * MINUTE, ticks, ticks, ticks, ticks))
            oldest, *later = self.minutes
            self.rolling = Bar(**vars(oldest))
            for bar in later:
                self.rolling.add(bar.high, bar.low, bar.close, bar.volume, bar.value)
        if deal.time // DAY > self.day.start // DAY:
            self.prev_close = self.day.close or self.prev_close
            self.day = Bar(deal.time // DAY * DAY, ticks, ticks, ticks, ticks)
        for bar in (self.minutes[-1], self.rolling, self.day):
            bar.add(ticks, ticks, ticks, deal.size, value)
        self.deals.append(deal)


class Market:
    """The listings of all exchanges. `step` moves them. The market reads no clock."""

    def __init__(self, seed: int, listings: dict[str, tuple[Pair, ...]], time: Microseconds) -> None:
        self._random = random.Random(seed)
        self._dollars = dict(START_PRICES_USD)
        for pair in (pair for pairs in listings.values() for pair in pairs if pair.base != "USDT"):
            self._dollars.setdefault(pair.base, START_PRICE_OF_OTHERS_USD)
        self._won, self.premium = START_WON_PER_DOLLAR, MEAN_PREMIUM
        self.listings = {
            name: {pair: Listing(pair, _tick(self._mid(pair))) for pair in pairs} for name, pairs in listings.items()
        }
        self.step(time)

    def step(self, time: Microseconds) -> None:
        """Let 100 ms of the market pass. It is now `time`, which must not go back."""
        draw = self._random.gauss
        common = draw(0, 1)
        for base in self._dollars:
            self._dollars[base] *= math.exp(1e-5 * (0.7 * common + 0.7 * draw(0, 1)))
        self._won *= math.exp(2e-6 * draw(0, 1))
        self.premium += 1e-4 * (MEAN_PREMIUM - self.premium) + 2e-5 * draw(0, 1)
        for listings in self.listings.values():
            for listing in listings.values():
                self._move(listing, time)

    def _mid(self, pair: Pair) -> float:
        if pair.quote != "KRW":
            return self._dollars[pair.base]
        return self._won if pair.base == "USDT" else self._dollars[pair.base] * self._won * (1 + self.premium)

    def _move(self, listing: Listing, time: Microseconds) -> None:
        chance = self._random
        middle = round(self._mid(listing.pair) * (1 + chance.gauss(0, 5e-6)) / float(listing.tick))
        listing.changes.clear()
        listing.previous, listing.sequence = listing.sequence, listing.sequence + chance.randint(1, 9)
        listing.updates += 1
        for side in (Side.SELL, Side.BUY):
            self._refill(listing, side, middle)
        side = chance.choice((Side.BUY, Side.SELL))
        bid, ask = listing.best()
        ticks = ask if side is Side.BUY else bid
        listing.trade(Deal(listing.sequence, ticks, round(chance.expovariate(20) + 1e-6, 6), side, time))

    def _refill(self, listing: Listing, side: Side, middle: int) -> None:
        """Put sizes on all ticks of a side near the middle except one, and change two of the best sizes."""
        levels, sign = (listing.bids, -1) if side is Side.BUY else (listing.asks, 1)
        filled = list(range(middle + sign, middle + sign * (SIDE_LEVELS + 1), sign))
        del filled[self._random.randrange(1, MOVING_LEVELS)]
        listing.ranked[side], kept = filled, set(filled)
        for ticks in sorted(levels.keys() - kept):
            del levels[ticks]
            listing.changes.append((side, ticks, 0.0))
        fresh = sorted(kept - levels.keys(), reverse=side is Side.BUY)
        for ticks in dict.fromkeys([*fresh, *self._random.sample(filled[:MOVING_LEVELS], 2)]):
            levels[ticks] = round(self._random.expovariate(2) + 1e-4, 6)
            listing.changes.append((side, ticks, levels[ticks]))


@lru_cache(CACHED_TEXTS)
def _text(tick: Decimal, ticks: int) -> str:
    return f"{tick * ticks:f}"


@lru_cache(CACHED_TEXTS)
def _number(tick: Decimal, ticks: int) -> float:
    return float(tick * ticks)


def _tick(price: float) -> Decimal:
    return Decimal(1).scaleb(math.floor(math.log10(price)) - 5)
