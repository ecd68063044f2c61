"""Knows which trades are rows already: by their ids, by the ids of an aggregated trade, or by what was traded."""

from bisect import bisect_right, insort
from collections import defaultdict
from typing import NamedTuple, TypeAlias

from coin_platform.model import SECOND, Kind, Microseconds, Pair, Side, Trade

_Likeness: TypeAlias = tuple[Microseconds, float, float, Side | None]  # exchange time, price, size, side
_TransportId: TypeAlias = tuple[Kind, str]

TRADE_MEMORY: Microseconds = 24 * 3600 * SECOND
"""A trade is known in a window if it came at most so long, in log time, before the window."""

SAME_TRADE_TOLERANCE: Microseconds = SECOND  # the times of one trade differ by less: an exchange rounds some of them


class _KnownTrade(NamedTuple):
    """A trade that came under its id."""

    price: float
    size: float
    exchange_time: Microseconds
    time: Microseconds  # log time at which it came last

    def is_same(self, trade: Trade) -> bool:
        """Whether a trade of the same id is this trade, and not another one under that id."""
        is_alike = trade.price == self.price and trade.size == self.size
        return is_alike and abs(trade.exchange_time - self.exchange_time) < SAME_TRADE_TOLERANCE


class _IdSpan(NamedTuple):
    """The ids that an aggregated trade covers."""

    first: int
    last: int
    time: Microseconds  # log time at which one of them came last


class _PairTrades:
    """The known trades of one pair."""

    def __init__(self) -> None:
        self.ids: dict[str, list[_KnownTrade]] = {}  # more than one where the exchange gives two trades one id
        self.spans: list[_IdSpan] = []  # sorted; no two have an id in common
        self.alike: dict[_Likeness, dict[_TransportId, Microseconds]] = {}  # log times, where ids differ by transport

    def covers(self, first: int, last: int, time: Microseconds) -> bool:
        """Return whether an aggregated trade covers one of these ids. Such a trade came again at log time `time`."""
        stop = index = bisect_right(self.spans, last, key=lambda span: span.first)
        while index > 0 and self.spans[index - 1].last >= first:
            index -= 1
            self.spans[index] = self.spans[index]._replace(time=time)
        return index < stop

    def has_any(self, first: int, last: int) -> bool:
        """Return whether one of these ids came on its own."""
        if last - first < len(self.ids):
            return any(str(number) in self.ids for number in range(first, last + 1))
        return any(id.isdecimal() and first <= int(id) <= last for id in self.ids)


class KnownTrades:
    """The trades that are rows already.

    1. A trade is known by its id. Another price, another size, or a second more between the exchange's times make it
       another trade under that id; `same_id` counts those.
    2. An aggregated trade (`Trade.count` above 1) has the ids of all trades that it stands for. It cannot be divided,
       so it is known if one of these ids is known. The other ids stay unknown, and may come on their own.
    3. Some exchanges give one trade two ids, by socket and by REST. There an id is compared within its transport.
       Between transports, trades of the same time, price, size and side are the same ones, each as often as either
       transport has brought it.

    A REST answer and the greeting of a socket bring the newest trades of a pair again, however old they are. So
    `forget` keeps twice `trades_per_answer` of each pair: the trades of the answer before, in whatever order they
    came, and as many that came since.
    """

    def __init__(self, *, has_ids_by_transport: bool, trades_per_answer: int) -> None:
        self.same_id = 0
        self._has_ids_by_transport = has_ids_by_transport
        self._kept_trades = 2 * trades_per_answer
        self._pairs: defaultdict[Pair, _PairTrades] = defaultdict(_PairTrades)

    def add(self, trade: Trade, id: str, transport: Kind, time: Microseconds) -> bool:
        """Remember a trade that came at log time `time`. Return whether it was known before."""
        pair = self._pairs[trade.pair]
        if self._has_ids_by_transport:
            is_known = self._by_id(pair, f"{transport} {id}", trade, time)
            return self._by_likeness(pair, (transport, id), trade, time, is_known=is_known)
        if trade.count > 1:
            return self._by_span(pair, int(id) - trade.count + 1, int(id), time)
        is_covered = bool(pair.spans) and id.isdecimal() and pair.covers(int(id), int(id), time)
        return self._by_id(pair, id, trade, time) or is_covered

    def forget(self, since: Microseconds, horizon: Microseconds) -> None:
        """Forget trades that came before log time `since`, except each pair's newest, and all from before `horizon`."""
        for pair in self._pairs.values():
            limit = self._limit([trades[-1].time for trades in pair.ids.values()], since, horizon)
            pair.ids = {
                id: kept
                for id, trades in pair.ids.items()
                if (kept := [trade for trade in trades if trade.time >= limit])
            }
            limit = self._limit([span.time for span in pair.spans], since, horizon)
            pair.spans = [span for span in pair.spans if span.time >= limit]
            limit = self._limit([max(times.values()) for times in pair.alike.values()], since, horizon)
            pair.alike = {
                likeness: newest
                for likeness, times in pair.alike.items()
                if (newest := {transport_id: time for transport_id, time in times.items() if time >= limit})
            }

    def _limit(self, times: list[Microseconds], since: Microseconds, horizon: Microseconds) -> Microseconds:
        """Return the log time from which on trades are kept, of trades that came at these times."""
        if len(times) <= self._kept_trades:
            return horizon
        return min(since, max(horizon, sorted(times)[-self._kept_trades]))

    def _by_id(self, pair: _PairTrades, id: str, trade: Trade, time: Microseconds) -> bool:
        trades = pair.ids.setdefault(id, [])
        for index, known in enumerate(trades):
            if known.is_same(trade):
                del trades[index]
                trades.append(known._replace(time=time))
                return True
        self.same_id += bool(trades)
        trades.append(_KnownTrade(trade.price, trade.size, trade.exchange_time, time))
        return False

    def _by_span(self, pair: _PairTrades, first: int, last: int, time: Microseconds) -> bool:
        if pair.covers(first, last, time) or pair.has_any(first, last):
            return True
        insort(pair.spans, _IdSpan(first, last, time), key=lambda span: span.first)
        return False

    def _by_likeness(
        self, pair: _PairTrades, transport_id: _TransportId, trade: Trade, time: Microseconds, *, is_known: bool
    ) -> bool:
        """Compare a trade that is not known by its id with the trades of the other transport, and remember it."""
        likeness = (trade.exchange_time, trade.price, trade.size, trade.side)
        times = pair.alike.get(likeness, {})
        if is_known and transport_id not in times:
            return True  # it came before with other digits of its time, and counts there
        is_known = transport_id in times
        pair.alike[likeness] = {**times, transport_id: time}
        own = sum(transport is transport_id[0] for transport, _ in pair.alike[likeness])
        return is_known or own <= len(pair.alike[likeness]) - own
