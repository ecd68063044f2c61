"""One pair's order book: its levels, its sequence, and whether it can be trusted."""

import heapq
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import NoReturn

from coin_platform.errors import SequenceGap
from coin_platform.model import SECOND, BookUpdate, Level, Microseconds, Pair

# Sizes are summed as integers of 2**-100: exact for every size above 1e-15, so that a running total neither drifts nor
# depends on the order of updates, and equals `math.fsum` over the levels.
_UNIT = 2.0**100


class Applied(StrEnum):
    """What became of an update."""

    APPLIED = "applied"
    IGNORED = "ignored"  # older than the book
    WAITING = "waiting"  # the book has no trusted snapshot yet


class Side:
    """One side of a book: price -> level, the best price and the exact total always at hand."""

    def __init__(self, *, is_bid: bool) -> None:
        self.levels: dict[float, Level] = {}
        self.best: float | None = None
        self._best_of = max if is_bid else min
        self._first = heapq.nlargest if is_bid else heapq.nsmallest
        self._sign = 1.0 if is_bid else -1.0
        self._units: int | None = None  # until somebody asks for the total
        self._top: list[float] = []
        self._top_is_known = False

    def replace(self, levels: Iterable[Level]) -> None:
        """Hold exactly these levels."""
        self.levels = {level.price: level for level in levels if level.size}
        self.best = self._best_of(self.levels, default=None)
        self._units = None
        self._top_is_known = False

    def set(self, level: Level) -> None:
        """Put one level in place of the one at its price; size 0 deletes it, also when there is none."""
        price = level.price
        old = self.levels.get(price)
        if level.size:
            self.levels[price] = level
            if self.best is None or price * self._sign > self.best * self._sign:
                self.best = price
        elif old is not None:
            del self.levels[price]
            if price == self.best:
                self.best = self._best_of(self.levels, default=None)
        if self._units is not None:
            self._units += int(level.size * _UNIT) - (int(old.size * _UNIT) if old is not None else 0)
        if (old is None) == bool(level.size):  # the set of prices changed
            self._forget_top(price)

    def _forget_top(self, price: float) -> None:
        if self._top_is_known and (not self._top or price * self._sign >= self._top[-1] * self._sign):
            self._top_is_known = False

    def truncate(self, depth: int) -> None:
        """Keep only the best `depth` levels."""
        if len(self.levels) > depth:
            self.replace([self.levels[price] for price in self._first(depth, self.levels)])

    def top(self, count: int) -> list[Level]:
        """Return the best `count` levels, best first."""
        if not self._top_is_known or len(self._top) < min(count, len(self.levels)):
            self._top, self._top_is_known = self._first(count, self.levels), True
        return [self.levels[price] for price in self._top[:count]]

    @property
    def total(self) -> float:
        """Sum of all sizes, correctly rounded."""
        if self._units is None:
            self._units = sum(int(level.size * _UNIT) for level in self.levels.values())
        return self._units / int(_UNIT)


class Book:
    """One pair's order book, built from snapshots and updates whose sequences `decode` has normalised.

    is_chained: every update must name its predecessor exactly (OKX); else one may overlap what is known (Binance).
    is_bridged: snapshots come over REST, so updates are kept until one arrives that they continue (Binance).
    """

    BUFFER = 10_000

    def __init__(self, *, is_chained: bool = False, is_bridged: bool = False) -> None:
        self.bids = Side(is_bid=True)
        self.asks = Side(is_bid=False)
        self.is_valid = False
        self.sequence: int | None = None
        self.exchange_time: Microseconds | None = None
        self.depth: int | None = None  # each side is cut to this many levels after each update (Kraken)
        self._is_chained = is_chained
        self._is_bridged = is_bridged
        self._early: deque[BookUpdate] = deque(maxlen=self.BUFFER)

    def apply(self, update: BookUpdate) -> Applied:
        """Take one update. Raises `SequenceGap` when messages before it are missing: the book is then invalid."""
        if update.is_snapshot:
            return self._replace(update)
        if not self.is_valid:
            if self._is_bridged:
                self._early.append(update)
            return Applied.WAITING
        if self._is_old(update):
            self._check_time(update)
            return Applied.IGNORED
        self._check_sequence(update)
        for level in update.bids:
            self.bids.set(level)
        for level in update.asks:
            self.asks.set(level)
        self._settle(update)
        return Applied.APPLIED

    def invalidate(self) -> None:
        """Trust nothing until the next snapshot."""
        self.is_valid = False
        self._early.clear()

    @property
    def is_crossed(self) -> bool:
        """The best bid is not below the best ask."""
        return self.bids.best is not None and self.asks.best is not None and self.bids.best >= self.asks.best

    def snapshot(self, pair: Pair) -> BookUpdate:
        """Return the whole book as an update from which an equal book can start: a checkpoint."""
        return BookUpdate(
            pair=pair,
            is_snapshot=True,
            bids=self.bids.top(len(self.bids.levels)),
            asks=self.asks.top(len(self.asks.levels)),
            exchange_time=self.exchange_time,
            first_sequence=self.sequence,
            last_sequence=self.sequence,
            depth=self.depth,
        )

    def _replace(self, update: BookUpdate) -> Applied:
        if self._is_bridged and self.is_valid and _before(update.last_sequence, self.sequence):
            return Applied.IGNORED  # a REST answer that was overtaken by the socket
        self.depth = self.depth or update.depth
        self.bids.replace(update.bids)
        self.asks.replace(update.asks)
        self._settle(update)
        self.is_valid = True
        early, self._early = self._early, deque(maxlen=self.BUFFER)
        try:
            for later in early:
                self.apply(later)
        except SequenceGap:
            self._early = early  # a newer snapshot may still fit in
            raise
        return Applied.APPLIED

    def _settle(self, update: BookUpdate) -> None:
        if self.depth is not None:
            self.bids.truncate(self.depth)
            self.asks.truncate(self.depth)
        self.sequence = update.last_sequence
        self.exchange_time = update.exchange_time

    def _is_old(self, update: BookUpdate) -> bool:
        if self.sequence is None or update.last_sequence is None or update.first_sequence == self.sequence + 1:
            return False  # the last: a chained exchange may restart its numbering, or send an empty keep-alive
        if self._is_chained:
            return update.last_sequence == self.sequence
        return update.last_sequence <= self.sequence

    def _check_sequence(self, update: BookUpdate) -> None:
        if self.sequence is None or update.first_sequence is None:
            return
        wanted = self.sequence + 1
        if update.first_sequence > wanted or (self._is_chained and update.first_sequence != wanted):
            self._fail(update, f"wanted an update from {wanted}, got one from {update.first_sequence}")

    def _check_time(self, update: BookUpdate) -> None:
        """What is older by its number must be so by its time too: else the exchange has begun to count anew."""
        if (
            update.exchange_time is None
            or self.exchange_time is None
            or not _before(update.last_sequence, self.sequence)
        ):
            return
        if update.exchange_time > self.exchange_time + SECOND:
            self._fail(update, f"number {update.last_sequence} came after {self.sequence}: it is counted anew")

    def _fail(self, update: BookUpdate, reason: str) -> NoReturn:
        self.invalidate()
        if self._is_bridged:
            self._early.append(update)  # the next snapshot may end within it
        raise SequenceGap(f"{update.pair}: {reason}")


def _before(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one < other
