"""A market made of correlated random walks: the same seed gives the same prices, sizes and books."""

import math
import random
from dataclasses import dataclass, field
from decimal import Decimal

from coin_platform.model import Pair, Side

LEVELS = 30  # a side
START = {"BTC": 84_000.0, "ETH": 3_100.0, "XRP": 2.4, "SOL": 140.0}  # USD
WON = 1_400.0
STEPS_PER_DAY = 864_000  # of 100 ms


@dataclass
class Listing:
    """One pair on one exchange: its book on a grid of ticks, and what happened in the last step."""

    pair: Pair
    tick: Decimal
    bids: dict[int, float] = field(default_factory=dict)  # ticks -> size
    asks: dict[int, float] = field(default_factory=dict)
    changes: list[tuple[Side, int, float]] = field(default_factory=list)  # BUY: bids; size 0: deleted
    last: int = 0
    last_size: float = 0.0
    last_side: Side = Side.BUY
    open: int = 0
    high: int = 0
    low: int = 0
    volume: float = 1_000.0
    sequence: int = 1_000

    def price(self, ticks: int) -> str:
        """Write a price with the digits of the tick."""
        return f"{self.tick * ticks:f}"

    def number(self, ticks: int) -> float:
        """Return a price as a number."""
        return float(self.tick * ticks)

    def best(self) -> tuple[int, int]:
        """Return the best bid and ask, in ticks."""
        return max(self.bids), min(self.asks)

    def levels(self, side: Side) -> list[tuple[int, float]]:
        """Return a side's levels, best first."""
        return sorted(self.bids.items(), reverse=True) if side is Side.BUY else sorted(self.asks.items())


class Market:
    """All listings of all exchanges. `step` moves them; nothing here reads a clock."""

    def __init__(self, seed: int, listings: dict[str, tuple[Pair, ...]]) -> None:
        self._random = random.Random(seed)
        self._dollars = dict(START)
        self._won, self._premium = WON, 0.02
        self.listings = {
            name: {pair: Listing(pair, _tick(self._mid(pair))) for pair in pairs} for name, pairs in listings.items()
        }
        self.step()
        for listing in self._all():
            listing.open = listing.high = listing.low = listing.last

    def step(self) -> None:
        """Let 100 ms pass."""
        draw = self._random.gauss
        common = draw(0, 1)
        for base in self._dollars:
            self._dollars[base] *= math.exp(1e-5 * (0.7 * common + 0.7 * draw(0, 1)))
        self._won *= math.exp(2e-6 * draw(0, 1))
        self._premium += 1e-4 * (0.02 - self._premium) + 2e-5 * draw(0, 1)  # comes back to two per cent
        for listing in self._all():
            self._move(listing)

    def premium(self) -> float:
        """Return how much more Korea pays than the rest, as a fraction."""
        return self._premium

    def _all(self) -> list[Listing]:
        return [listing for listings in self.listings.values() for listing in listings.values()]

    def _mid(self, pair: Pair) -> float:
        if pair.quote != "KRW":
            return self._dollars[pair.base]
        dollars = self._dollars.get(pair.base, 1.0)  # USDT is worth a dollar
        return dollars * self._won * (1 + self._premium)

    def _move(self, listing: Listing) -> None:
        chance = self._random
        middle = round(self._mid(listing.pair) * (1 + chance.gauss(0, 5e-6)) / float(listing.tick))
        listing.changes.clear()
        listing.sequence += 1
        # asks first where the price rises, so that no state in between is crossed
        for side in (Side.SELL, Side.BUY):
            self._refill(listing, side, middle)
        listing.last_side = chance.choice((Side.BUY, Side.SELL))
        listing.last = min(listing.asks) if listing.last_side is Side.BUY else max(listing.bids)
        listing.last_size = round(chance.expovariate(20) + 1e-6, 6)
        listing.volume = round(listing.volume + listing.last_size, 6)
        listing.high = max(listing.high, listing.last)
        listing.low = min(listing.low or listing.last, listing.last)

    def _refill(self, listing: Listing, side: Side, middle: int) -> None:
        levels, sign = (listing.bids, -1) if side is Side.BUY else (listing.asks, 1)
        wanted = [middle + sign * distance for distance in range(1, LEVELS + 1)]
        for ticks in sorted(set(levels) - set(wanted)):
            del levels[ticks]
            listing.changes.append((side, ticks, 0.0))
        fresh = [ticks for ticks in wanted if ticks not in levels]
        for ticks in [*fresh, *self._random.sample(wanted, 2)]:
            levels[ticks] = round(self._random.expovariate(2) + 1e-4, 6)
            listing.changes.append((side, ticks, levels[ticks]))


def _tick(price: float) -> Decimal:
    return Decimal(1).scaleb(math.floor(math.log10(price)) - 5)
