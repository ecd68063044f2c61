"""What a feed lacks: the gaps of one channel of one exchange, as its own records tell them.

1. Nothing is taken for a gap because no record came: late records come late, from the spool. Evidence is a number that
   was left out, an ended connection without another that carries its pairs, a successor of one that never ended, a book
   that lost its proof, a refusal, or a record that came while a wanted pair had still to be heard. So the same records
   give the same gaps, whenever they are read.
2. A pair is heard when its own market data come. What the exchange says of the connection, of the subscription or of
   another pair proves nothing of this pair.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from coin_platform.exchanges.base import TICKER_WITHOUT_PRICE, Exchange
from coin_platform.model import SECOND, Cause, Channel, Data, Event, Gap, Kind, Microseconds, Pair, Refused
from coin_platform.records import (
    End,
    Facts,
    Header,
    Transport,
    frame,
    is_over_budget,
    is_refused,
    unheard,
    unpack_facts,
)
from coin_platform.tables.processed import time_text

PATIENCE: Microseconds = 3600 * SECOND  # how long after its end a gap may still be filled: bans last 10 minutes
MOVED: Microseconds = 300 * SECOND  # after a new start, until which a pair that nobody carries is still expected back
START: Microseconds = 30 * SECOND  # for a wanted pair to be heard: connecting, an answer and the first data take 10 s
QUIET: Microseconds = 300 * SECOND  # the same, where an open connection carries it and may have nothing to say
_NEVER: Microseconds = 1 << 62
_FILLED = (Channel.TRADE, Channel.CANDLE)  # what a REST answer can make good; these may have nothing to say for long
_UNKNOWN = "REST answers without rows, and how far back that tells is not documented"
_KEEPALIVE = "keepalive ping timeout"  # what the library says of a connection that was dead before it ended


class Line(msgspec.Struct):
    """A connection, or what a feed wants, as far as its records tell."""

    epoch: int
    number: int  # of its last frame
    time: Microseconds  # received, of its last record
    pairs: list[str]
    is_feed: bool  # what it brings is the channel itself; REST beside a stream is not, and what is only wanted is not
    unheard: list[
        str
    ] = []  # of its pairs: those that it has brought nothing of; of books, those that are not right yet


class Pending(msgspec.Struct):
    """A gap that may still end, or still be filled."""

    start: Microseconds
    cause: str
    reason: str
    stop: Microseconds | None = None
    reached: Microseconds = 0  # up to here REST answers tell what happened
    note: str = ""  # why REST does not fill it
    due: Microseconds = 0  # 0: it was told; else it is one only if the pair has not been heard by then

    @property
    def lasts(self) -> bool:
        """Whether it was told and has no end."""
        return self.stop is None and not self.due


class State(msgspec.Struct):
    """All that a ledger remembers; the next window goes on from here."""

    epoch: int = 0
    epoch_time: Microseconds = 0  # when its first connection opened
    beside: int = 0  # the oldest one that may still collect beside it; 0: none
    lines: dict[str, Line] = {}
    pending: dict[str, list[Pending]] = {}  # by pair, oldest first; only the last one can be open
    told: dict[str, Microseconds] = {}  # received, of each pair's last row: of books that come as changes

    def pack(self) -> Any:
        """Return it as plain values, for a footer."""
        return msgspec.to_builtins(self)

    @classmethod
    def unpack(cls, body: Any) -> "State":
        """Read what `pack` wrote."""
        return msgspec.convert(
            {**body, "lines": {name: _up_to_date(line) for name, line in body["lines"].items()}}, cls
        )


class GapLedger:
    """The gaps of one channel of one exchange. Every method returns the gaps that began or changed.

    `books`: rows are told with `row`, and a pair is served again with its first row, not its connection's first frame.
    A book that is polled meanwhile ends nothing: what the stream would have told is missing all the same.
    """

    def __init__(
        self, exchange: Exchange, channel: Channel, state: State | None = None, *, books: bool = False
    ) -> None:
        self.exchange = exchange
        self.channel = channel
        self.state = state or State()
        self._books = books
        self._is_streamed = channel in exchange.channels
        self._due = self._next_due()

    def record(self, header: Header, value: bytes) -> list[Gap]:
        """Take one record in the order of the log. Raises `DecodeError` for one of ours that cannot be read."""
        line = self.state.lines.get(header.connection)
        if line is not None and self._is_next(line, header):
            line.number, line.time = header.number, max(line.time, header.received_time)
            return []
        if header.epoch < (self.state.beside or self.state.epoch):
            return []  # a collector that was thought dead: its successor counts
        changed = [*self._succeed(header, value)]
        since = self.state.epoch_time
        if since and header.received_time - since >= MOVED:
            changed += self._forget_the_moved(header, value)
        else:
            changed += self._take(header, value)
        return [*changed, *self._remind(header.received_time)]

    def row(self, pair: Pair, connection: str, time: Microseconds) -> list[Gap]:
        """A book is right, and told: what its pair lacked ends here."""
        name, line = str(pair), self.state.lines.get(connection)
        if line is not None:
            if not line.is_feed:
                return []
            _serve(line, name)
        self.state.told[name] = time
        return self._close(name, time)

    def lost(self, pair: Pair, cause: Cause, reason: str, time: Microseconds) -> list[Gap]:
        """A book cannot be trusted any more: since its last row, for what was missed is missing before now."""
        return self._open(str(pair), self.state.told.get(str(pair), time), cause, reason)

    def waits(self, pair: Pair, connection: str, time: Microseconds) -> list[Gap]:
        """A change has no book to go into: a gap, unless its connection has only begun."""
        line = self.state.lines.get(connection)
        if line is not None and str(pair) in line.unheard:
            return []
        return self.lost(pair, Cause.NO_BOOK, "no checkpoint and no snapshot tells how the book began", time)

    def handed_over(self, time: Microseconds) -> list[Gap]:
        """Another ledger goes on from here: what is still missing ends for this one."""
        return [gap for name in list(self.state.pending) for gap in self._close(name, time)]

    def trimmed(self, reason: str, start: Microseconds, stop: Microseconds) -> list[Gap]:
        """Records of this time were trimmed before anyone stored them."""
        return self._unstored(Cause.RETENTION, reason, start, stop)

    def began_anew(self, reason: str, start: Microseconds, stop: Microseconds) -> list[Gap]:
        """Records of this time were in a log that was lost before anyone stored them."""
        return self._unstored(Cause.NEW_LOG, reason, start, stop)

    def _unstored(self, cause: Cause, reason: str, start: Microseconds, stop: Microseconds) -> list[Gap]:
        names = self._expected() or [""]
        return [self._gap(name, Pending(start, cause, reason, stop)) for name in names]

    def _is_next(self, line: Line, header: Header) -> bool:
        """Whether this is just one more frame of a feed that is heard, as nearly all are."""
        return (
            header.kind is Kind.SOCKET
            and header.number == line.number + 1
            and header.epoch == self.state.epoch
            and (self._books or not line.unheard or not line.is_feed)
            and header.received_time < self._due
            and header.received_time - (self.state.epoch_time or header.received_time) < MOVED
        )

    @property
    def wanted(self) -> list[str]:
        """The pairs that somebody wants, and those that lack something that nobody stopped."""
        lines = {name: None for line in self.state.lines.values() for name in line.pairs}
        lacking = [name for name, gap in self.lasting.items() if gap.cause != Cause.STOPPED]
        return [*lines, *(name for name in lacking if name not in lines)]

    @property
    def lasting(self) -> dict[str, Gap]:
        """The gaps that were told and have no end, by pair."""
        last = {name: pending[-1] for name, pending in self.state.pending.items()}
        return {name: self._gap(name, pending) for name, pending in last.items() if pending.lasts}

    def _take(self, header: Header, value: bytes) -> Iterator[Gap]:
        if header.kind is Kind.OPENED:
            opened = self._begin(header, value)
            opened.unheard = [*opened.pairs] if opened.is_feed else []
            self._expect(opened.pairs, header.received_time)
            return
        line = self.state.lines.get(header.connection)
        if line is None:  # it opened before what we know
            line = self._begin(header, value)
            line.number = header.number - header.kind.is_frame
        yield from self._count(line, header)
        if header.kind is Kind.CLOSED:
            del self.state.lines[header.connection]
            yield from self._end(line, unpack_facts(value), header.received_time)
        elif header.kind.is_frame:
            yield from self._hear(line, header, value)
        else:
            yield from self._change(line, unpack_facts(value), header)

    def _begin(self, header: Header, value: bytes) -> Line:
        facts = None if header.kind.is_frame or header.kind is Kind.CLOSED else unpack_facts(value)
        line = Line(header.epoch, header.number, header.received_time, list(facts.pairs) if facts else [], is_feed=True)
        if facts is not None:
            line.is_feed = facts.transport == Transport.SOCKET or (
                facts.transport == Transport.REST and not self._is_streamed
            )
        self.state.lines[header.connection] = line
        return line

    def _count(self, line: Line, header: Header) -> Iterator[Gap]:
        """Numbers rise by one with each frame; our other records carry the number of the last one."""
        missing = header.number - line.number - header.kind.is_frame
        if missing > 0:
            told = f"{missing} frames of {header.connection} never reached the log"
            for name in line.pairs or [""]:
                yield self._gap(name, Pending(line.time, Cause.LOST_FRAMES, told, header.received_time))
        line.number = max(line.number, header.number)

    def _hear(self, line: Line, header: Header, value: bytes) -> Iterator[Gap]:
        line.time = max(line.time, header.received_time)
        if header.kind is Kind.REST and header.pair is not None and self.channel in _FILLED:
            yield from self._fill(header, value)
        if self._books or not line.is_feed or not line.unheard:
            return
        for name in self._heard(line, header, value):
            line.unheard.remove(name)
            yield from self._close(name, header.received_time)

    def _heard(self, line: Line, header: Header, value: bytes) -> list[str]:
        """Return the pairs that a frame brings first on its connection.

        An answer over REST proves a pair where nothing is streamed. On a streamed connection, which asked for what was
        before it, the answer ends a gap only if it tells all that happened since the gap began.
        """
        if header.kind is Kind.REST and self._is_streamed:
            pending = self.state.pending.get(str(header.pair), [])
            is_covered = bool(pending) and pending[-1].stop is None and pending[-1].reached == header.received_time
            names = {str(header.pair)} if is_covered else set()
        else:
            events = self._events(header, value)
            names = {str(event.pair) for event in events or () if isinstance(event, Data)}
            if events is not None and TICKER_WITHOUT_PRICE in events:
                names.add(str(self.exchange.only_pair_in(value, map(Pair.read, line.pairs))))
            is_refused_now = events is None or any(isinstance(event, Refused) for event in events)
            if header.kind is Kind.REST and not is_refused_now:
                names.add(str(header.pair))
        return [name for name in line.unheard if name in names]

    def _events(self, header: Header, value: bytes) -> list[Event] | None:
        try:
            return self.exchange.decode(frame(self.exchange.name, self.channel, header, value))
        except Exception:
            return None  # whatever it is: a dead letter elsewhere

    def _change(self, line: Line, facts: Facts, header: Header) -> Iterator[Gap]:
        time = line.time = max(line.time, header.received_time)
        if header.kind is Kind.PAIRS:
            added = [name for name in facts.pairs if name not in line.pairs]
            line.unheard = [name for name in line.unheard if name in facts.pairs] + (added if line.is_feed else [])
            for name in set(line.pairs) - set(facts.pairs):
                yield from self._close(name, header.received_time)  # no longer wanted
            self._expect(added, header.received_time)
        if facts.book is not None:
            _serve(line, facts.book.pair)
        line.pairs = list(facts.pairs)
        if facts.transport == Transport.NONE and facts.reason:
            for name in line.pairs:
                if not self._is_carried(name):
                    yield from self._open(name, time, Cause.UNREACHABLE, facts.reason)
        for name, reason in facts.refused.items() if line.is_feed else ():
            if name in line.pairs and name not in line.unheard:
                line.unheard.append(name)
            if not self._is_heard(name):
                yield from self._open(name, time, Cause.REFUSED, reason)

    def _expect(self, names: list[str], time: Microseconds) -> None:
        """Wait for the data of pairs that are wanted from now on: what does not come by then is a gap since now."""
        for name in names:
            pending = self.state.pending.get(name)
            if (pending and pending[-1].stop is None) or self._is_heard(name):
                continue
            self.state.pending.setdefault(name, []).append(Pending(time, "", "", reached=time, due=time + START))
            self._due = min(self._due, time + START)

    def _remind(self, time: Microseconds) -> Iterator[Gap]:
        """Tell the gaps of those that were waited for."""
        if time < self._due:
            return
        for name, pending in list(self.state.pending.items()):
            last = pending[-1]
            if not last.due or last.due > time:
                continue
            is_carried = self._is_carried(name)
            if is_carried and self.channel in _FILLED and last.due < last.start + QUIET:
                last.due = last.start + QUIET
            elif is_carried:
                yield from self._open(name, time, Cause.SILENCE, "nothing has come since it was asked for")
            else:
                yield from self._open(name, time, Cause.UNREACHABLE, "no connection to the exchange")
        self._due = self._next_due()

    def _next_due(self) -> Microseconds:
        dues = (pending[-1].due for pending in self.state.pending.values())
        return min(filter(None, dues), default=_NEVER)

    def _end(self, line: Line, facts: Facts, time: Microseconds) -> Iterator[Gap]:
        reason = facts.reason
        if facts.transport == Transport.NONE and reason == End.STOPPED:
            yield from self._stop(line.pairs, time)
        if reason == End.NO_PAIRS or not line.is_feed:
            return
        cause = Cause.STOPPED if reason == End.STOPPED else Cause.DISCONNECT
        if (seconds := unheard(reason)) is not None:
            cause, time = Cause.SILENCE, time - int(seconds * SECOND)
        elif _KEEPALIVE in reason:
            cause, time = Cause.SILENCE, line.time
        elif is_over_budget(reason):
            cause, time = Cause.BUDGET, line.time  # the message that found no room was not stored
        elif is_refused(reason):
            cause = Cause.REFUSED
        for name in self._uncovered(line):
            yield from self._open(name, time, cause, reason)

    def _succeed(self, header: Header, value: bytes) -> Iterator[Gap]:
        """A new collector has begun: the one before it has ended, if it said so or not, unless it collects beside.

        Then it has ended with the first of our records that does not say so any more.
        """
        state, is_new = self.state, header.epoch > self.state.epoch
        if not is_new and (header.epoch < state.epoch or not state.beside or header.kind.is_frame):
            return
        is_beside = not header.kind.is_frame and unpack_facts(value).beside
        if is_new:
            state.beside = (state.beside or state.epoch) if is_beside else 0
            state.epoch, state.epoch_time = header.epoch, header.received_time
        elif not is_beside:
            state.beside = 0
        if state.beside:
            return
        for connection, line in list(state.lines.items()):
            if line.epoch == state.epoch:
                continue
            del state.lines[connection]
            if line.is_feed:
                for name in self._uncovered(line):
                    yield from self._open(name, line.time, Cause.KILLED, f"{connection} was never closed")

    def _carried(self) -> set[str]:
        return {name for line in self.state.lines.values() for name in line.pairs}

    def _forget_the_moved(self, header: Header, value: bytes) -> Iterator[Gap]:
        """Take a record; then, the first time after a new start, what no connection carries is no longer wanted."""
        since, self.state.epoch_time = self.state.epoch_time, 0
        carried = self._carried()
        yield from self._take(header, value)
        carried |= self._carried()
        for name in [name for name in self.state.pending if name not in carried]:
            yield from self._close(name, since)

    def _expected(self) -> list[str]:
        return list(dict.fromkeys(name for line in self.state.lines.values() if line.is_feed for name in line.pairs))

    def _stop(self, names: list[str], time: Microseconds) -> Iterator[Gap]:
        """Somebody stopped the collector: whatever a pair lacked until now, from now on that is why."""
        for name in names:
            pending = self.state.pending.get(name)
            if pending and pending[-1].lasts and pending[-1].cause != Cause.STOPPED:
                yield from self._close(name, time)
            if not self._is_heard(name):
                yield from self._open(name, time, Cause.STOPPED, End.STOPPED)

    def _uncovered(self, ended: Line) -> list[str]:
        """The pairs that no other connection brings: one that has only opened, or has no book yet, brings nothing."""
        return [name for name in ended.pairs if not self._is_heard(name)]

    def _is_heard(self, name: str) -> bool:
        """Whether an open connection has brought a pair."""
        lines = self.state.lines.values()
        return any(line.is_feed and name in line.pairs and name not in line.unheard for line in lines)

    def _is_carried(self, name: str) -> bool:
        """Whether an open connection should bring a pair."""
        lines = (line for line in self.state.lines.values() if line.is_feed and name in line.pairs)
        return any(line.number or self._is_streamed for line in lines)  # what is polled is there with its first answer

    def _open(self, name: str, start: Microseconds, cause: Cause, reason: str) -> list[Gap]:
        pending = self.state.pending.setdefault(name, [])
        if pending and pending[-1].lasts:
            return []
        if pending and pending[-1].due:  # it was waited for, and lacks all since then
            pending[-1].due, pending[-1].cause, pending[-1].reason = 0, cause, reason
        else:
            pending.append(Pending(start, cause, reason, reached=start))
        return [self._gap(name, pending[-1])]

    def _close(self, name: str, time: Microseconds) -> list[Gap]:
        pending = self.state.pending.get(name)
        if not pending or pending[-1].stop is not None:
            return []
        if pending[-1].due:  # it came in time
            pending.pop()
            self._tidy(name, time)
            return []
        pending[-1].stop = max(time, pending[-1].start)
        changed = self._gap(name, pending[-1])
        if self.channel not in _FILLED or changed.filled_by:
            pending.pop()
        self._tidy(name, time)
        return [changed]

    def _fill(self, header: Header, value: bytes) -> Iterator[Gap]:
        """An answer tells all that happened since `covered_since`; of a gap that is older, its reason says so."""
        name = str(header.pair)
        pending = self.state.pending.get(name)
        if not pending:
            return
        events = self._events(header, value)
        if events is None or any(isinstance(event, Refused) for event in events):
            return
        since = self.exchange.covered_since(frame(self.exchange.name, self.channel, header, value), events)
        for one in list(pending):
            if since is not None and since <= one.reached < header.received_time:
                one.reached = header.received_time
                if one.stop is not None and one.reached >= one.stop:
                    one.note = ""
                    yield self._gap(name, one)
                    pending.remove(one)
            elif one.stop is not None and one.reached < one.stop and not one.note:
                one.note = _UNKNOWN if since is None else f"REST reaches back to {time_text(since)} only"
                yield self._gap(name, one)
        self._tidy(name, header.received_time)

    def _tidy(self, name: str, time: Microseconds) -> None:
        kept = [one for one in self.state.pending.get(name, ()) if one.stop is None or time - one.stop < PATIENCE]
        if kept:
            self.state.pending[name] = kept
        else:
            self.state.pending.pop(name, None)

    def _gap(self, name: str, pending: Pending) -> Gap:
        is_filled = pending.stop is not None and self.channel in _FILLED and pending.reached >= pending.stop
        return Gap(
            exchange=self.exchange.name,
            channel=self.channel,
            pair=Pair.read(name) if name else None,
            start=pending.start,
            stop=pending.stop,
            cause=pending.cause,
            reason="; ".join(filter(None, (pending.reason, pending.note))),
            filled_by="rest" if is_filled else None,
        )


def _serve(line: Line, name: str) -> None:
    """Note that a connection has a book of this pair."""
    if name in line.unheard:
        line.unheard.remove(name)


def _up_to_date(line: dict[str, Any]) -> dict[str, Any]:
    """Return a connection as it is kept now: older windows kept whether it had spoken, and which books it had not."""
    if "unheard" in line:
        return line
    silent = [] if line.get("has_spoken") else line["pairs"]
    return {**line, "unheard": line.get("bookless") or (silent if line["is_feed"] else [])}
