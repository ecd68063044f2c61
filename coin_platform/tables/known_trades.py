"""Which trades are rows already: by their ids, by the ids that an aggregated one covers, or by what was traded."""

from bisect import bisect_right, insort
from collections import defaultdict
from typing import NamedTuple, TypeAlias

from coin_platform.model import SECOND, Kind, Microseconds, Pair, Side, Trade

Likeness: TypeAlias = tuple[Microseconds, float, float, Side | None]  # exchange time, price, size, side
Name: TypeAlias = tuple[Kind, str]  # transport and id

LONGEST_MEMORY: Microseconds = 24 * 3600 * SECOND
"""How long before a window, in log time, a trade may have been told last and still be known in it."""

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
    time: Microseconds  # the last one


class _Pair:
    """The known trades of one pair."""

    def __init__(self) -> None:
        self.ids: dict[str, list[_Known]] = {}  # more than one where the exchange gives two trades one id
        self.spans: list[_Span] = []  # sorted; no two have an id in common
        self.alike: dict[Likeness, dict[Name, Microseconds]] = {}  # what was told when, where ids differ by transport

    def covers(self, first: int, last: int, time: Microseconds) -> bool:
        """Return whether an aggregated trade covers one of these ids; those that do were told at log time `time`."""
        stop = index = bisect_right(self.spans, last, key=lambda span: span.first)
        while index > 0 and self.spans[index - 1].last >= first:
            index -= 1
            self.spans[index] = self.spans[index]._replace(time=time)
        return index < stop

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

    A REST answer and the greeting of a socket tell the newest trades of a pair again, however old they are. So `forget`
    keeps twice `trades_per_answer` of each pair: those of the answer before, in whatever order it told them, and as
    many that came since.
    """

    def __init__(self, *, has_ids_by_transport: bool, trades_per_answer: int) -> None:
        self.same_id = 0
        self._has_ids_by_transport = has_ids_by_transport
        self._kept_trades = 2 * trades_per_answer
        self._pairs: defaultdict[Pair, _Pair] = defaultdict(_Pair)

    def add(self, trade: Trade, id: str, transport: Kind, time: Microseconds) -> bool:
        """Remember a trade that was told at log time `time`; return whether it was known before."""
        pair = self._pairs[trade.pair]
        if self._has_ids_by_transport:
            is_known = self._by_id(pair, f"{transport} {id}", trade, time)
            return self._by_likeness(pair, (transport, id), trade, time, is_known=is_known)
        if trade.count > 1:
            return self._by_span(pair, int(id) - trade.count + 1, int(id), time)
        is_covered = bool(pair.spans) and id.isdecimal() and pair.covers(int(id), int(id), time)
        return self._by_id(pair, id, trade, time) or is_covered

    def forget(self, since: Microseconds, horizon: Microseconds) -> None:
        """Forget what was told before log time `since`, but for each pair's newest; and all from before `horizon`."""
        for pair in self._pairs.values():
            limit = self._limit([trades[-1].time for trades in pair.ids.values()], since, horizon)
            pair.ids = {
                id: kept for id, trades in pair.ids.items() if (kept := [each for each in trades if each.time >= limit])
            }
            limit = self._limit([span.time for span in pair.spans], since, horizon)
            pair.spans = [span for span in pair.spans if span.time >= limit]
            limit = self._limit([max(times.values()) for times in pair.alike.values()], since, horizon)
            pair.alike = {
                likeness: newest
                for likeness, times in pair.alike.items()
                if (newest := {name: time for name, time in times.items() if time >= limit})
            }

    def _limit(self, times: list[Microseconds], since: Microseconds, horizon: Microseconds) -> Microseconds:
        """Return the log time from which on trades that were told at these times are kept."""
        if len(times) <= self._kept_trades:
            return horizon
        return min(since, max(horizon, sorted(times)[-self._kept_trades]))

    def _by_id(self, pair: _Pair, id: str, trade: Trade, time: Microseconds) -> bool:
        trades = pair.ids.setdefault(id, [])
        for index, known in enumerate(trades):
            if known.is_same(trade):
                del trades[index]
                trades.append(known._replace(time=time))
                return True
        self.same_id += bool(trades)
        trades.append(_Known(trade.price, trade.size, trade.exchange_time, time))
        return False

    def _by_span(self, pair: _Pair, first: int, last: int, time: Microseconds) -> bool:
        if pair.covers(first, last, time) or pair.has_any(first, last):
            return True
        insort(pair.spans, _Span(first, last, time), key=lambda span: span.first)
        return False

    def _by_likeness(self, pair: _Pair, name: Name, trade: Trade, time: Microseconds, *, is_known: bool) -> bool:
        """Compare with the other transport what is not known by its id; remember when it was told."""
        likeness = (trade.exchange_time, trade.price, trade.size, trade.side)
        times = pair.alike.get(likeness, {})
        if is_known and name not in times:
            return True  # told before with other digits of its time: it counts there
        is_known = name in times
        pair.alike[likeness] = {**times, name: time}
        own = sum(transport is name[0] for transport, _ in pair.alike[likeness])
        return is_known or own <= len(pair.alike[likeness]) - own
