"""One pair's order book: its levels, its sequence, and whether it can be trusted."""

import heapq
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import NoReturn

from coin_platform.errors import SequenceGap
from coin_platform.model import SECOND, BookUpdate, Level, Microseconds, Pair

# Sizes are summed as integers of 2**-100, which is exact for every size above 1e-15. So a running total does not drift,
# does not depend on the order of updates, and equals `math.fsum` over the levels.
_UNITS_OF_ONE = 2.0**100


class Applied(StrEnum):
    """What happened to an update."""

    APPLIED = "applied"
    IGNORED = "ignored"  # older than the book
    WAITING = "waiting"  # the book has no trusted snapshot yet


class BookSide:
    """One side of a book: price -> level. It always knows its best price and its exact total."""

    def __init__(self, *, is_bid: bool) -> None:
        self.levels: dict[float, Level] = {}
        self.best: float | None = None
        self._best_of = max if is_bid else min
        self._first = heapq.nlargest if is_bid else heapq.nsmallest
        self._sign = 1.0 if is_bid else -1.0
        self._units: int | None = None  # None until the total is asked for
        self._top: list[float] = []
        self._top_is_known = False

    def replace(self, levels: Iterable[Level]) -> None:
        """Replace all levels by these."""
        self.levels = {level.price: level for level in levels if level.size}
        self.best = self._best_of(self.levels, default=None)
        self._units = None
        self._top_is_known = False

    def set(self, level: Level) -> None:
        """Set the level of one price. Size 0 deletes it, and does nothing where there is none."""
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
            self._units += int(level.size * _UNITS_OF_ONE) - (int(old.size * _UNITS_OF_ONE) if old is not None else 0)
        if (old is None) == bool(level.size):  # the set of prices changed
            self._forget_top(price)

    def _forget_top(self, price: float) -> None:
        if self._top_is_known and (not self._top or price * self._sign >= self._top[-1] * self._sign):
            self._top_is_known = False

    def truncate(self, depth: int) -> None:
        """Remove all but the best `depth` levels."""
        if len(self.levels) > depth:
            self.replace([self.levels[price] for price in self._first(depth, self.levels)])

    def top(self, count: int) -> list[Level]:
        """Return the best `count` levels, best first."""
        if not self._top_is_known or len(self._top) < min(count, len(self.levels)):
            self._top, self._top_is_known = self._first(count, self.levels), True
        return [self.levels[price] for price in self._top[:count]]

    @property
    def total(self) -> float:
        """The sum of all sizes, correctly rounded."""
        if self._units is None:
            self._units = sum(int(level.size * _UNITS_OF_ONE) for level in self.levels.values())
        return self._units / int(_UNITS_OF_ONE)


class Book:
    """One pair's order book, built from snapshots and updates whose sequences `Exchange.decode` has normalised.

    is_chained: each update must name its predecessor exactly (OKX). Otherwise an update may overlap the book (Binance).
    is_bridged: snapshots come over REST (Binance). Updates are kept until a snapshot arrives that they continue.
    """

    MAX_EARLY_UPDATES = 10_000

    def __init__(self, *, is_chained: bool = False, is_bridged: bool = False) -> None:
        self.bids = BookSide(is_bid=True)
        self.asks = BookSide(is_bid=False)
        self.is_valid = False
        self.sequence: int | None = None
        self.exchange_time: Microseconds | None = None
        self.depth: int | None = None  # each side is cut to this many levels after each update (Kraken)
        self._is_chained = is_chained
        self._is_bridged = is_bridged
        self._early: deque[BookUpdate] = deque(maxlen=self.MAX_EARLY_UPDATES)

    def apply(self, update: BookUpdate) -> Applied:
        """Apply one update. Raises `SequenceGap` if messages before it are missing; the book is then invalid."""
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
        """Make the book invalid until the next snapshot."""
        self.is_valid = False
        self._early.clear()

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is not below the best ask."""
        return self.bids.best is not None and self.asks.best is not None and self.bids.best >= self.asks.best

    def snapshot(self, pair: Pair) -> BookUpdate:
        """Return the whole book as an update, from which an equal book can start: a checkpoint."""
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
            return Applied.IGNORED  # the socket was faster than this REST answer
        self.depth = self.depth or update.depth
        self.bids.replace(update.bids)
        self.asks.replace(update.asks)
        self._settle(update)
        self.is_valid = True
        early, self._early = self._early, deque(maxlen=self.MAX_EARLY_UPDATES)
        try:
            for later in early:
                self.apply(later)
        except SequenceGap:
            self._early = early  # a newer snapshot may end within them
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
            return False  # the book's successor is never old: OKX may count anew, or send a keep-alive
        if self._is_chained:
            return update.last_sequence == self.sequence
        return update.last_sequence <= self.sequence

    def _check_sequence(self, update: BookUpdate) -> None:
        if self.sequence is None or update.first_sequence is None:
            return
        expected = self.sequence + 1
        if update.first_sequence > expected or (self._is_chained and update.first_sequence != expected):
            self._fail(update, f"wanted an update from {expected}, got one from {update.first_sequence}")

    def _check_time(self, update: BookUpdate) -> None:
        """Raise `SequenceGap` for an update that is old by its number and new by its time: it is counted anew."""
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
            self._early.append(update)  # the next snapshot may end within this update
        raise SequenceGap(f"{update.pair}: {reason}")


def _before(sequence: int | None, reference: int | None) -> bool:
    return sequence is not None and reference is not None and sequence < reference
