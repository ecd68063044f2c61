"""What a feed lacks: the gaps of one channel of one exchange, as its own records tell them.

1. Late records come late, from the spool. So no gap begins because no record came. A gap begins with evidence: a number
   that was left out; an ended connection, if no other carries its pairs; the successor of a connection that never
   ended; a book that lost its proof; a refusal; a record that came while a wanted pair had still to be heard. So the
   same records give the same gaps, whenever they are read.
2. A pair is heard when its own market data come. What the exchange says of the connection, of the subscription or of
   another pair proves nothing of this pair.
"""

from collections.abc import Iterator

from coin_platform.end_reasons import End, is_over_budget, is_refused, unheard
from coin_platform.exchanges.base import TICKER_WITHOUT_PRICE, WHOLE_LIST, Exchange
from coin_platform.model import SECOND, Cause, Channel, Data, Event, Gap, Kind, Microseconds, Pair, Refused
from coin_platform.records import Facts, Header, Transport, frame, unpack_facts
from coin_platform.tables.gap_state import LedgerState, LoggedConnection, PendingGap
from coin_platform.tables.pending_gaps import FILLABLE, PendingGaps

RETURN_PATIENCE: Microseconds = 300 * SECOND  # after a new start, in which a pair that no connection carries may return
_KEEPALIVE = "keepalive ping timeout"  # what the library says of a connection that was dead before it ended


class GapLedger:
    """The gaps of one channel of one exchange. Every method returns the gaps that began or changed.

    `books`: the caller tells rows with `row`, and a pair is served again with its first row, not with its connection's
    first frame. A book that is polled meanwhile ends nothing: what the stream would have told is missing all the same.
    """

    def __init__(
        self, exchange: Exchange, channel: Channel, state: LedgerState | None = None, *, books: bool = False
    ) -> None:
        self.exchange = exchange
        self.channel = channel
        self.state = state or LedgerState()
        self._books = books
        self._is_streamed = channel in exchange.channels
        self._pending = PendingGaps(exchange.name, channel, self.state.pending)

    def record(self, header: Header, value: bytes) -> list[Gap]:
        """Take one record in the order of the log. Raises `DecodeError` for one of ours that cannot be read."""
        connection = self.state.connections.get(header.connection)
        if connection is not None and self._is_next(connection, header):
            connection.number, connection.time = header.number, max(connection.time, header.received_time)
            return []
        if header.epoch < (self.state.beside or self.state.epoch):
            return []  # a collector that was thought dead: its successor counts
        changed = [*self._succeed(header, value)]
        since = self.state.epoch_time
        if since and header.received_time - since >= RETURN_PATIENCE:
            changed += self._end_uncarried(header, value)
        else:
            changed += self._take(header, value)
        return [*changed, *self._pending.overdue(header.received_time, self._is_carried)]

    def row(self, pair: Pair, connection_name: str, time: Microseconds) -> list[Gap]:
        """Take the row of a valid book: the gap of its pair ends here."""
        name, connection = str(pair), self.state.connections.get(connection_name)
        if connection is not None:
            if not connection.is_feed:
                return []
            connection.hear(name)
        self.state.last_rows[name] = time
        return self._pending.close(name, time)

    def lost(self, pair: Pair, cause: Cause, reason: str, time: Microseconds) -> list[Gap]:
        """Begin the gap of a book that cannot be trusted any more: at its last row, for its loss was before now."""
        return self._pending.open(str(pair), self.state.last_rows.get(str(pair), time), cause, reason)

    def waits(self, pair: Pair, connection_name: str, time: Microseconds) -> list[Gap]:
        """Begin the gap of a change that has no book to go into, unless its connection has only begun."""
        connection = self.state.connections.get(connection_name)
        if connection is not None and str(pair) in connection.unheard:
            return []
        return self.lost(pair, Cause.NO_BOOK, "no checkpoint and no snapshot tells how the book began", time)

    def handed_over(self, time: Microseconds) -> list[Gap]:
        """End the gaps that last: another ledger goes on from here."""
        return [gap for name in self._pending.names for gap in self._pending.close(name, time)]

    def trimmed(self, reason: str, start: Microseconds, stop: Microseconds) -> list[Gap]:
        """Return the gaps of records of this time, which were trimmed before they were stored."""
        return self._unstored(Cause.RETENTION, reason, start, stop)

    def began_anew(self, reason: str, start: Microseconds, stop: Microseconds) -> list[Gap]:
        """Return the gaps of records of this time, whose log was lost before they were stored."""
        return self._unstored(Cause.NEW_LOG, reason, start, stop)

    def _unstored(self, cause: Cause, reason: str, start: Microseconds, stop: Microseconds) -> list[Gap]:
        feeds = (connection for connection in self.state.connections.values() if connection.is_feed)
        names = dict.fromkeys(name for connection in feeds for name in connection.pairs) or [""]
        return [self._pending.gap(name, PendingGap(start, cause, reason, stop)) for name in names]

    def _is_next(self, connection: LoggedConnection, header: Header) -> bool:
        """Whether this is just one more frame of a feed that is heard, as nearly all are."""
        return (
            header.kind is Kind.SOCKET
            and header.number == connection.number + 1
            and header.epoch == self.state.epoch
            and (self._books or not connection.unheard or not connection.is_feed)
            and header.received_time < self._pending.next_due
            and header.received_time - (self.state.epoch_time or header.received_time) < RETURN_PATIENCE
        )

    @property
    def wanted(self) -> list[str]:
        """The pairs that somebody wants, and those that lack something that nobody stopped."""
        carried = {name: None for connection in self.state.connections.values() for name in connection.pairs}
        lacking = [name for name, gap in self.lasting.items() if gap.cause != Cause.STOPPED]
        return [*carried, *(name for name in lacking if name not in carried)]

    @property
    def lasting(self) -> dict[str, Gap]:
        """The gaps that were told and have no end, by pair."""
        return self._pending.lasting

    def _take(self, header: Header, value: bytes) -> Iterator[Gap]:
        if header.kind is Kind.OPENED:
            opened = self._begin(header, value)
            opened.unheard = [*opened.pairs] if opened.is_feed else []
            self._expect(opened.pairs, header.received_time)
            return
        connection = self.state.connections.get(header.connection)
        if connection is None:  # it opened before the first record that we know
            connection = self._begin(header, value)
            connection.number = header.number - header.kind.is_frame
        yield from self._count(connection, header)
        if header.kind is Kind.CLOSED:
            del self.state.connections[header.connection]
            yield from self._end(connection, unpack_facts(value), header.received_time)
        elif header.kind.is_frame:
            yield from self._hear(connection, header, value)
        else:
            yield from self._change(connection, unpack_facts(value), header)

    def _begin(self, header: Header, value: bytes) -> LoggedConnection:
        facts = None if header.kind.is_frame or header.kind is Kind.CLOSED else unpack_facts(value)
        pairs = list(facts.pairs) if facts else []
        connection = LoggedConnection(header.epoch, header.number, header.received_time, pairs, is_feed=True)
        if facts is not None:
            connection.is_feed = facts.transport == Transport.SOCKET or (
                facts.transport == Transport.REST and not self._is_streamed
            )
        self.state.connections[header.connection] = connection
        return connection

    def _count(self, connection: LoggedConnection, header: Header) -> Iterator[Gap]:
        """Numbers rise by one with each frame. Our other records carry the number of the last frame."""
        missing = header.number - connection.number - header.kind.is_frame
        if missing > 0:
            reason = f"{missing} frames of {header.connection} never reached the log"
            lost = PendingGap(connection.time, Cause.LOST_FRAMES, reason, header.received_time)
            for name in connection.pairs or [""]:
                yield self._pending.gap(name, lost)
        connection.number = max(connection.number, header.number)

    def _hear(self, connection: LoggedConnection, header: Header, value: bytes) -> Iterator[Gap]:
        connection.time = max(connection.time, header.received_time)
        if header.kind is Kind.REST and header.pair is not None and self.channel in FILLABLE:
            yield from self._fill(header, value)
        if self._books or not connection.is_feed or not connection.unheard:
            return
        for name in self._newly_heard(connection, header, value):
            connection.hear(name)
            yield from self._pending.close(name, header.received_time)

    def _newly_heard(self, connection: LoggedConnection, header: Header, value: bytes) -> list[str]:
        """Return the pairs that a frame brings first on its connection.

        If nothing is streamed, an answer over REST proves its pair. A streamed connection asks over REST for what was
        before it: such an answer ends a gap only if it tells all that happened since the gap began.
        """
        if self.channel is Channel.INSTRUMENT:  # the whole list tells of all pairs, also of those that it leaves out
            is_own = header.kind is Kind.SOCKET or not self._is_streamed
            return [*connection.unheard] if is_own and WHOLE_LIST in (self._events(header, value) or ()) else []
        if header.kind is Kind.REST and self._is_streamed:
            gap = self._pending.last(str(header.pair))
            is_covered = gap is not None and gap.stop is None and gap.reached == header.received_time
            names = {str(header.pair)} if is_covered else set()
        else:
            events = self._events(header, value)
            names = {str(event.pair) for event in events or () if isinstance(event, Data)}
            if events is not None and TICKER_WITHOUT_PRICE in events:
                names.add(str(self.exchange.only_pair_in(value, map(Pair.read, connection.pairs))))
            is_refused_now = events is None or any(isinstance(event, Refused) for event in events)
            if header.kind is Kind.REST and not is_refused_now:
                names.add(str(header.pair))
        return [name for name in connection.unheard if name in names]

    def _events(self, header: Header, value: bytes) -> list[Event] | None:
        try:
            return self.exchange.decode(frame(self.exchange.name, self.channel, header, value))
        except Exception:
            return None  # whatever it is: the channel's table keeps it as a dead letter

    def _fill(self, header: Header, value: bytes) -> list[Gap]:
        """Fill the gaps of a pair from an answer over REST, as far back as the answer tells all that happened."""
        name = str(header.pair)
        if self._pending.last(name) is None:
            return []
        events = self._events(header, value)
        if events is None or any(isinstance(event, Refused) for event in events):
            return []
        since = self.exchange.covered_since(frame(self.exchange.name, self.channel, header, value), events)
        return self._pending.fill(name, since, header.received_time)

    def _change(self, connection: LoggedConnection, facts: Facts, header: Header) -> Iterator[Gap]:
        time = connection.time = max(connection.time, header.received_time)
        if header.kind is Kind.PAIRS:
            added = [name for name in facts.pairs if name not in connection.pairs]
            unheard_now = [name for name in connection.unheard if name in facts.pairs]
            connection.unheard = unheard_now + (added if connection.is_feed else [])
            for name in set(connection.pairs) - set(facts.pairs):
                yield from self._pending.close(name, header.received_time)  # no longer wanted
            self._expect(added, header.received_time)
        if facts.book is not None:
            connection.hear(facts.book.pair)
        connection.pairs = list(facts.pairs)
        if facts.transport == Transport.NONE and facts.reason:
            for name in connection.pairs:
                if not self._is_carried(name):
                    yield from self._pending.open(name, time, Cause.UNREACHABLE, facts.reason)
        for name, reason in facts.refused.items() if connection.is_feed else ():
            if name in connection.pairs and name not in connection.unheard:
                connection.unheard.append(name)
            if not self._is_heard(name):
                yield from self._pending.open(name, time, Cause.REFUSED, reason)

    def _expect(self, names: list[str], time: Microseconds) -> None:
        """Expect the data of pairs that are wanted from now on, unless they are heard or lack data already."""
        for name in names:
            if not self._pending.is_open(name) and not self._is_heard(name):
                self._pending.expect(name, time)

    def _end(self, connection: LoggedConnection, facts: Facts, time: Microseconds) -> Iterator[Gap]:
        reason = facts.reason
        if facts.transport == Transport.NONE and reason == End.STOPPED:
            yield from self._stop(connection.pairs, time)
        if reason == End.NO_PAIRS or not connection.is_feed:
            return
        cause = Cause.STOPPED if reason == End.STOPPED else Cause.DISCONNECT
        if (seconds := unheard(reason)) is not None:
            cause, time = Cause.SILENCE, time - int(seconds * SECOND)
        elif _KEEPALIVE in reason:
            cause, time = Cause.SILENCE, connection.time
        elif is_over_budget(reason):
            cause, time = Cause.BUDGET, connection.time  # the message that found no room was not stored
        elif is_refused(reason):
            cause = Cause.REFUSED
        for name in self._uncovered(connection):
            yield from self._pending.open(name, time, cause, reason)

    def _succeed(self, header: Header, value: bytes) -> Iterator[Gap]:
        """End the connections of a collector that has a successor, whether it said so or not.

        A successor may collect beside it for a while, and says so in our records. Then the collector before it ends
        with the first of our records that does not say so any more.
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
        for connection_name, connection in list(state.connections.items()):
            if connection.epoch == state.epoch:
                continue
            del state.connections[connection_name]
            reason = f"{connection_name} was never closed"
            for name in self._uncovered(connection) if connection.is_feed else ():
                yield from self._pending.open(name, connection.time, Cause.KILLED, reason)

    def _carried(self) -> set[str]:
        return {name for connection in self.state.connections.values() for name in connection.pairs}

    def _end_uncarried(self, header: Header, value: bytes) -> Iterator[Gap]:
        """Take a record. Then, the first time after a new start, end the gaps of pairs that no connection carries."""
        since, self.state.epoch_time = self.state.epoch_time, 0
        carried = self._carried()
        yield from self._take(header, value)
        carried |= self._carried()
        for name in self._pending.names:
            if name not in carried:  # no longer wanted
                yield from self._pending.close(name, since)

    def _stop(self, names: list[str], time: Microseconds) -> Iterator[Gap]:
        """Begin the gaps of pairs whose collector somebody stopped. Gaps of other causes end here."""
        for name in names:
            last = self._pending.last(name)
            if last is not None and last.lasts and last.cause != Cause.STOPPED:
                yield from self._pending.close(name, time)
            if not self._is_heard(name):
                yield from self._pending.open(name, time, Cause.STOPPED, End.STOPPED)

    def _uncovered(self, ended: LoggedConnection) -> list[str]:
        """Return the pairs that no other connection brings. A connection without data or books brings nothing yet."""
        return [name for name in ended.pairs if not self._is_heard(name)]

    def _feeds(self, name: str) -> Iterator[LoggedConnection]:
        """Yield the open connections that carry the channel of a pair."""
        for connection in self.state.connections.values():
            if connection.is_feed and name in connection.pairs:
                yield connection

    def _is_heard(self, name: str) -> bool:
        """Whether an open connection has brought a pair."""
        return any(name not in connection.unheard for connection in self._feeds(name))

    def _is_carried(self, name: str) -> bool:
        """Whether an open connection should bring a pair. A polled one exists from its first answer on."""
        return any(connection.number or self._is_streamed for connection in self._feeds(name))
