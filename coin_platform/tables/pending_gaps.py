"""The gaps of one feed that may still end or still be filled over REST, by pair."""

from collections.abc import Callable

from coin_platform.model import SECOND, Cause, Channel, Gap, Microseconds, Pair
from coin_platform.tables.gap_state import PendingGap
from coin_platform.tables.json_times import time_text

FILL_PATIENCE: Microseconds = 3600 * SECOND  # how long after its end a gap may still be filled: bans last 10 minutes
FIRST_DATA_PATIENCE: Microseconds = 30 * SECOND  # for a wanted pair: connecting, an answer and the first data take 10 s
QUIET_PAIR_PATIENCE: Microseconds = 300 * SECOND  # the same on an open connection, if the pair may have nothing to say
FILLABLE = (Channel.TRADE, Channel.CANDLE)  # a REST answer can fill their gaps; they may have nothing to say for long
_NEVER: Microseconds = 1 << 62
_UNKNOWN_REACH = "REST answers without rows, and how far back that tells is not documented"


class PendingGaps:
    """Opens, ends and fills the gaps of the pairs of one channel of one exchange."""

    def __init__(self, exchange: str, channel: Channel, by_pair: dict[str, list[PendingGap]]) -> None:
        """`by_pair` is the part of a `LedgerState` that this changes."""
        self._exchange, self._channel, self._by_pair = exchange, channel, by_pair
        self._is_fillable = channel in FILLABLE
        self.next_due = self._find_next_due()  # when the first expected pair is overdue

    @property
    def names(self) -> list[str]:
        """The pairs that have a pending gap."""
        return list(self._by_pair)

    @property
    def lasting(self) -> dict[str, Gap]:
        """The gaps that were told and have no end, by pair."""
        last = {name: gaps[-1] for name, gaps in self._by_pair.items()}
        return {name: self.gap(name, gap) for name, gap in last.items() if gap.lasts}

    def last(self, name: str) -> PendingGap | None:
        """Return the newest pending gap of a pair."""
        gaps = self._by_pair.get(name)
        return gaps[-1] if gaps else None

    def is_open(self, name: str) -> bool:
        """Whether a pair has a gap without an end, told or not."""
        last = self.last(name)
        return last is not None and last.stop is None

    def expect(self, name: str, time: Microseconds) -> None:
        """Expect the data of a pair from now on. If they do not come in time, a gap has begun now."""
        due = time + FIRST_DATA_PATIENCE
        self._by_pair.setdefault(name, []).append(PendingGap(time, "", "", reached=time, due=due))
        self.next_due = min(self.next_due, due)

    def overdue(self, time: Microseconds, is_carried: Callable[[str], bool]) -> list[Gap]:
        """Return the gaps of the expected pairs that have not been heard in time.

        `is_carried` returns whether an open connection should bring a pair. Such a pair may be quiet for longer.
        """
        if time < self.next_due:
            return []
        gaps: list[Gap] = []
        for name, pending in list(self._by_pair.items()):
            last = pending[-1]
            if not last.due or last.due > time:
                continue
            if not is_carried(name):
                gaps += self.open(name, time, Cause.UNREACHABLE, "no connection to the exchange")
            elif self._is_fillable and last.due < last.start + QUIET_PAIR_PATIENCE:
                last.due = last.start + QUIET_PAIR_PATIENCE
            else:
                gaps += self.open(name, time, Cause.SILENCE, "nothing has come since it was asked for")
        self.next_due = self._find_next_due()
        return gaps

    def _find_next_due(self) -> Microseconds:
        dues = (gaps[-1].due for gaps in self._by_pair.values())
        return min(filter(None, dues), default=_NEVER)

    def open(self, name: str, start: Microseconds, cause: Cause, reason: str) -> list[Gap]:
        """Begin a gap of a pair, unless one lasts. A pair that was expected lacks its data since it was expected."""
        gaps = self._by_pair.setdefault(name, [])
        if gaps and gaps[-1].lasts:
            return []
        if gaps and gaps[-1].due:
            gaps[-1].due, gaps[-1].cause, gaps[-1].reason = 0, cause, reason
        else:
            gaps.append(PendingGap(start, cause, reason, reached=start))
        return [self.gap(name, gaps[-1])]

    def close(self, name: str, time: Microseconds) -> list[Gap]:
        """End the gap of a pair, if one is open. A pair that came in time had none."""
        gaps = self._by_pair.get(name)
        if not gaps or gaps[-1].stop is not None:
            return []
        if gaps[-1].due:
            gaps.pop()
            self._tidy(name, time)
            return []
        gaps[-1].stop = max(time, gaps[-1].start)
        ended = self.gap(name, gaps[-1])
        if not self._is_fillable or ended.filled_by:
            gaps.pop()
        self._tidy(name, time)
        return [ended]

    def fill(self, name: str, since: Microseconds | None, time: Microseconds) -> list[Gap]:
        """Take a REST answer of `time` that tells all that happened from `since` on (None: not documented).

        Return the gaps that it fills, and older ones with a reason that says how far back the answer reaches.
        """
        filled: list[Gap] = []
        gaps = self._by_pair.get(name, [])
        for gap in list(gaps):
            if since is not None and since <= gap.reached < time:
                gap.reached = time
                if gap.stop is not None and gap.reached >= gap.stop:
                    gap.note = ""
                    filled.append(self.gap(name, gap))
                    gaps.remove(gap)
            elif gap.stop is not None and gap.reached < gap.stop and not gap.note:
                gap.note = _UNKNOWN_REACH if since is None else f"REST reaches back to {time_text(since)} only"
                filled.append(self.gap(name, gap))
        self._tidy(name, time)
        return filled

    def _tidy(self, name: str, time: Microseconds) -> None:
        kept = [gap for gap in self._by_pair.get(name, ()) if gap.stop is None or time - gap.stop < FILL_PATIENCE]
        if kept:
            self._by_pair[name] = kept
        else:
            self._by_pair.pop(name, None)

    def gap(self, name: str, pending: PendingGap) -> Gap:
        """Return a pending gap as the table and the topic of gaps tell it. An empty name stands for all pairs."""
        is_filled = pending.stop is not None and self._is_fillable and pending.reached >= pending.stop
        return Gap(
            exchange=self._exchange,
            channel=self._channel,
            pair=Pair.read(name) if name else None,
            start=pending.start,
            stop=pending.stop,
            cause=pending.cause,
            reason="; ".join(filter(None, (pending.reason, pending.note))),
            filled_by="rest" if is_filled else None,
        )
