"""What a feed lacks: the gaps of one channel of one exchange, as its own records tell them.

Nothing is taken for a gap because nothing was heard: late records come late, from the spool. Evidence is a number that
was left out, an ended connection without another that carries its pairs, a successor of one that never ended, or a
book that lost its proof. So the same records give the same gaps, whenever they are read.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Gap, Kind, Microseconds, Pair, Refused
from coin_platform.wire import End, Facts, Header, frame, is_over_budget, time_text, unheard, unpack_facts

PATIENCE: Microseconds = 3600 * SECOND  # how long after its end a gap may still be filled: bans last 10 minutes
MOVED: Microseconds = 300 * SECOND  # after a new start, until which a pair that nobody carries is still expected back
_FILLED = (Channel.TRADE, Channel.CANDLE)  # what a REST answer can make good
_UNKNOWN = "REST answers without rows, and how far back that tells is not documented"
_KEEPALIVE = "keepalive ping timeout"  # what the library says of a connection that was dead before it ended


class Cause(StrEnum):
    """Why there is a gap."""

    DISCONNECT = "disconnect"  # the exchange or the network ended the connection
    SILENCE = "silence"  # it was open, but nothing came
    STOPPED = "stopped"  # the collector was told to stop
    KILLED = "killed"  # the collector ended without a word
    LOST_FRAMES = "lost_frames"  # numbers are missing: frames were read, but never reached the log
    SPOOL_OVERFLOW = "spool_overflow"  # the same, as the collector itself says it
    SEQUENCE = "sequence"  # a book message is missing, by its number
    CHECKSUM = "checksum"  # the book does not have the checksum that was sent
    CHECKPOINT = "checkpoint"  # the stored book is not the one that the collector had
    NO_BOOK = "no_book"  # changes of a book of which no record says how it began
    BUDGET = "budget"  # it brought more than the disk took
    UNREADABLE = "unreadable"  # a message could not be read, and nothing else proves the book
    RETENTION = "retention_loss"  # records were trimmed before they were stored
    NEW_LOG = "new_log"  # the topic was lost and began anew: its last records were never stored


class Line(msgspec.Struct):
    """A connection, as far as its records tell."""

    epoch: int
    number: int  # of its last frame
    time: Microseconds  # received, of its last record
    pairs: list[str]
    is_feed: bool  # what it brings is the channel itself; REST beside a stream is not
    has_spoken: bool = False
    bookless: list[str] = []  # of its pairs, where books come as changes: those that have no book on it yet


class Pending(msgspec.Struct):
    """A gap that may still end, or still be filled."""

    start: Microseconds
    cause: str
    reason: str
    stop: Microseconds | None = None
    reached: Microseconds = 0  # up to here REST answers tell what happened
    note: str = ""  # why REST does not fill it


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
        return msgspec.convert(body, cls)


class Ledger:
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

    def record(self, header: Header, value: bytes) -> list[Gap]:
        """Take one record in the order of the log. Raises `DecodeError` for one of ours that cannot be read."""
        line = self.state.lines.get(header.connection)
        if line is not None and self._is_next(line, header):
            line.number, line.time = header.number, max(line.time, header.received_time)
            return []
        if header.epoch < (self.state.beside or self.state.epoch):
            return []  # a collector that was thought dead: its successor counts
        return [*self._succeed(header, value), *self._take(header, value), *self._forget_the_moved(header)]

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
        if line is not None and str(pair) in line.bookless:
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
            and (line.has_spoken or not line.is_feed)
            and header.received_time - (self.state.epoch_time or header.received_time) < MOVED
        )

    def _take(self, header: Header, value: bytes) -> Iterator[Gap]:
        if header.kind is Kind.OPENED:
            self._begin(header, value)
            return
        line = self.state.lines.get(header.connection)
        if line is None:  # it opened before what we know
            line = self._begin(header, value)
            line.number = header.number - header.kind.is_frame
            line.bookless = []
        yield from self._count(line, header)
        if header.kind is Kind.CLOSED:
            del self.state.lines[header.connection]
            yield from self._end(line, unpack_facts(value).reason, header.received_time)
        elif header.kind.is_frame:
            yield from self._hear(line, header, value)
        else:
            yield from self._change(line, unpack_facts(value), header)

    def _begin(self, header: Header, value: bytes) -> Line:
        facts = None if header.kind.is_frame or header.kind is Kind.CLOSED else unpack_facts(value)
        is_feed = not self._is_streamed or not (facts and facts.transport == "rest")
        pairs = list(facts.pairs) if facts else []
        bookless = [*pairs] if self._books else []
        line = Line(header.epoch, header.number, header.received_time, pairs, is_feed, bookless=bookless)
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
        if line.is_feed and not line.has_spoken:
            line.has_spoken = True
            for name in () if self._books else line.pairs:
                yield from self._close(name, header.received_time)
        if header.kind is Kind.REST and header.pair is not None and self.channel in _FILLED:
            yield from self._fill(header, value)

    def _change(self, line: Line, facts: Facts, header: Header) -> Iterator[Gap]:
        line.time = max(line.time, header.received_time)
        if header.kind is Kind.PAIRS:
            added = [name for name in facts.pairs if self._books and name not in line.pairs]
            line.bookless = [name for name in line.bookless if name in facts.pairs] + added
            for name in set(line.pairs) - set(facts.pairs):
                yield from self._close(name, header.received_time)  # no longer wanted
        if facts.book is not None:
            _serve(line, facts.book.pair)
        line.pairs = list(facts.pairs)

    def _end(self, line: Line, reason: str, time: Microseconds) -> Iterator[Gap]:
        if not line.is_feed or reason == End.NO_PAIRS:
            return
        cause = Cause.STOPPED if reason == End.STOPPED else Cause.DISCONNECT
        if (seconds := unheard(reason)) is not None:
            cause, time = Cause.SILENCE, time - int(seconds * SECOND)
        elif _KEEPALIVE in reason:
            cause, time = Cause.SILENCE, line.time
        elif is_over_budget(reason):
            cause, time = Cause.BUDGET, line.time  # the message that found no room was not stored
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

    def _forget_the_moved(self, header: Header) -> Iterator[Gap]:
        """After a new start, what no connection carries is no longer wanted."""
        since = self.state.epoch_time
        if not since or header.received_time - since < MOVED:
            return
        self.state.epoch_time = 0
        carried = {name for line in self.state.lines.values() for name in line.pairs}
        for name in [name for name in self.state.pending if name not in carried]:
            yield from self._close(name, since)

    def _expected(self) -> list[str]:
        return list(dict.fromkeys(name for line in self.state.lines.values() if line.is_feed for name in line.pairs))

    def _uncovered(self, ended: Line) -> list[str]:
        """The pairs that no other connection brings: one that has only opened, or has no book yet, brings nothing."""
        others = [line for line in self.state.lines.values() if line.is_feed and line.has_spoken]
        served = {name for line in others for name in line.pairs if name not in line.bookless}
        return [name for name in ended.pairs if name not in served]

    def _open(self, name: str, start: Microseconds, cause: Cause, reason: str) -> list[Gap]:
        pending = self.state.pending.setdefault(name, [])
        if pending and pending[-1].stop is None:
            return []  # it lasts already
        pending.append(Pending(start, cause, reason, reached=start))
        return [self._gap(name, pending[-1])]

    def _close(self, name: str, time: Microseconds) -> list[Gap]:
        pending = self.state.pending.get(name)
        if not pending or pending[-1].stop is not None:
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
        answer = frame(self.exchange.name, self.channel, header, value)
        try:
            events = self.exchange.decode(answer)
            since = self.exchange.covered_since(answer, events)
        except Exception:
            return  # whatever it is: a dead letter elsewhere
        if any(isinstance(event, Refused) for event in events):
            return
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
    if name in line.bookless:
        line.bookless.remove(name)
