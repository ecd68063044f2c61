"""Which trades are rows already: by their ids, by the ids that an aggregated one covers, or by what was traded."""

from bisect import bisect_right, insort
from collections import defaultdict
from typing import NamedTuple, TypeAlias

from coin_platform.model import SECOND, Kind, Microseconds, Pair, Side, Trade

Likeness: TypeAlias = tuple[Microseconds, float, float, Side | None]  # exchange time, price, size, side


SAME_TRADE: Microseconds = SECOND  # less than this is between two times of one trade, which differ in their digits


class _Known(NamedTuple):
    """A trade that was told under its id."""

    price: float
    size: float
    exchange_time: Microseconds
    time: Microseconds  # when it was told last

    def is_same(self, trade: Trade) -> bool:
        """Whether a trade of the same id is this one, and not another one under that id."""
        is_alike = trade.price == self.price and trade.size == self.size
        return is_alike and abs(trade.exchange_time - self.exchange_time) < SAME_TRADE


class _Span(NamedTuple):
    """The ids that an aggregated trade covers, and when it was told."""

    first: int
    last: int
    time: Microseconds


class _Pair:
    """The known trades of one pair."""

    def __init__(self) -> None:
        self.ids: dict[str, list[_Known]] = {}  # more than one where the exchange gives two trades one id
        self.spans: list[_Span] = []  # sorted; no two have an id in common

    def covers(self, first: int, last: int) -> bool:
        """Return whether an aggregated trade covers one of these ids."""
        index = bisect_right(self.spans, last, key=lambda span: span.first) - 1
        return index >= 0 and self.spans[index].last >= first

    def has_any(self, first: int, last: int) -> bool:
        """Return whether one of these ids was told on its own."""
        if last - first < len(self.ids):
            return any(str(number) in self.ids for number in range(first, last + 1))
        return any(id.isdecimal() and first <= int(id) <= last for id in self.ids)


class KnownTrades:
    """The trades that are rows already.

    1. A trade is known by its id. Another price, another size, or a second more between the exchange's times make it
       another trade under that id; `same_id` counts those.
    2. An aggregated trade (`Trade.count` above 1) has the ids of all that it stands for. It is known if one of them is,
       because it cannot be divided; those that are not known stay so, and may come on their own.
    3. Where the socket and REST give one trade two ids, an id is compared within its transport. Between transports,
       trades of the same time, price, size and side are the same ones, each as often as either transport has told it.
    """

    def __init__(self, *, has_ids_by_transport: bool) -> None:
        self.same_id = 0
        self._has_ids_by_transport = has_ids_by_transport
        self._pairs: defaultdict[Pair, _Pair] = defaultdict(_Pair)
        self._alike: defaultdict[Pair, dict[Likeness, tuple[int, int, Microseconds]]] = defaultdict(
            dict
        )  # socket, REST

    def add(self, trade: Trade, id: str, transport: Kind, time: Microseconds) -> bool:
        """Remember a trade that was told at log time `time`; return whether it was known before."""
        pair = self._pairs[trade.pair]
        if self._has_ids_by_transport:
            return self._by_id(pair, f"{transport} {id}", trade, time) or self._by_likeness(trade, transport, time)
        if trade.count > 1:
            return self._by_span(pair, int(id) - trade.count + 1, int(id), time)
        is_covered = bool(pair.spans) and id.isdecimal() and pair.covers(int(id), int(id))
        return self._by_id(pair, id, trade, time) or is_covered

    def forget(self, since: Microseconds) -> None:
        """Forget what was told before this log time."""
        for pair in self._pairs.values():
            pair.ids = {
                id: kept for id, trades in pair.ids.items() if (kept := [each for each in trades if each.time >= since])
            }
            pair.spans = [span for span in pair.spans if span.time >= since]
        for name, alike in self._alike.items():
            self._alike[name] = {likeness: counts for likeness, counts in alike.items() if counts[2] >= since}

    def _by_id(self, pair: _Pair, id: str, trade: Trade, time: Microseconds) -> bool:
        trades = pair.ids.setdefault(id, [])
        for index, known in enumerate(trades):
            if known.is_same(trade):
                trades[index] = known._replace(time=time)
                return True
        self.same_id += bool(trades)
        trades.append(_Known(trade.price, trade.size, trade.exchange_time, time))
        return False

    def _by_span(self, pair: _Pair, first: int, last: int, time: Microseconds) -> bool:
        if pair.covers(first, last) or pair.has_any(first, last):
            return True
        insort(pair.spans, _Span(first, last, time), key=lambda span: span.first)
        return False

    def _by_likeness(self, trade: Trade, transport: Kind, time: Microseconds) -> bool:
        alike = self._alike[trade.pair]
        likeness = (trade.exchange_time, trade.price, trade.size, trade.side)
        socket, rest, _ = alike.get(likeness, (0, 0, time))
        if transport is Kind.REST:
            rest += 1
            is_known = rest <= socket
        else:
            socket += 1
            is_known = socket <= rest
        alike[likeness] = (socket, rest, time)
        return is_known
