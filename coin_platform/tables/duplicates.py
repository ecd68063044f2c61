"""Leaves out what two connections bring twice: by the sequence of a book, or by the bytes of a frame.

A rotation opens the successor before the old connection closes, and two leaders may collect at once: each event then
comes on each connection. The copy that the log accepted first counts, so the same records always give the same rows.
"""

from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations
from typing import NamedTuple

from coin_platform.model import SECOND, Kind, Microseconds, Pair
from coin_platform.records import Facts, Header, Record
from coin_platform.tables.frame_numbers import ConnectionIdentity

LEAD: Microseconds = 30 * SECOND
"""How far back in log time a window's job reads at least. The checkpoints of books are younger.

The job reads on where the window's books began earlier, or where its trades are older.
"""

ON_THE_WAY: Microseconds = SECOND  # from a record's begin on one machine to its place in the log, at most
RECENT_EVENTS = 200  # of a pair that are remembered: more than come in that time

MAX_SEQUENCE_SPANS = 100  # of a pair and connection: an exchange that only sends whole books has one for each


class _SequenceSpan(NamedTuple):
    """The sequences `[first, last]` of a pair's book. A connection has brought every one of them."""

    first: int
    last: int


@dataclass(slots=True)
class _KnownConnection:
    """What the log has told of a connection."""

    since: int  # offset from which it has been there; -1: from before the first record that was fed
    pairs: frozenset[str] | None = None  # None: not known, so it may be any
    closed: int | None = None  # offset
    left: Microseconds | None = None  # when it was closed, or last heard of while a newer epoch collects
    spans: dict[Pair, deque[_SequenceSpan]] = field(default_factory=dict)

    def overlaps(self, other: "_KnownConnection") -> bool:
        """Whether both are open and may carry the same pair."""
        if self.closed is not None or other.closed is not None:
            return False
        return self.pairs is None or other.pairs is None or not self.pairs.isdisjoint(other.pairs)

    def has(self, pair: Pair, sequence: int) -> bool:
        """Whether it has brought the book of this sequence."""
        return any(span.first <= sequence <= span.last for span in self.spans.get(pair, ()))

    def add(self, pair: Pair, sequence: int, first: int | None) -> None:
        """Remember that the book is at `sequence`, by a change that begins at `first`, or as a whole (None)."""
        spans = self.spans.setdefault(pair, deque(maxlen=MAX_SEQUENCE_SPANS))
        if spans and sequence < spans[-1].last:
            spans.clear()  # the exchange began to count anew
        if not spans or (spans[-1].last < sequence and (first is None or first > spans[-1].last + 1)):
            spans.append(_SequenceSpan(sequence, sequence))
        else:
            spans[-1] = _SequenceSpan(spans[-1].first, sequence)


class _KnownEvent(NamedTuple):
    """An event that became a row, and the connections that have brought it."""

    key: tuple[bytes, int]  # the frame's hash, and the index of the event within the frame
    offset: int  # connections that were opened before it may bring the event again
    time: Microseconds
    brought_by: set[ConnectionIdentity]


class _RecentEvent(NamedTuple):
    """An event without a number that became a row."""

    record: Record
    header: Header
    number: int  # within the frame


class Duplicates:
    """The connections of one partition that may bring the same events, and the events they have brought.

    1. Bytes are remembered only while connections overlap, and for `LEAD`. A book's sequences are remembered always,
       as they are two numbers.
    2. A copy is a duplicate also after the other connection was closed. So is a copy of a pair's newest event: some
       exchanges greet a subscriber with it. Of another machine's last second, so are all.
    3. Before offset `start` everything is remembered. A connection that was opened before the records that are fed
       shows itself only by its frames.
    """

    def __init__(self, start: int = 0) -> None:
        self.is_open = start > 0  # whether events have to be compared: while it is false nobody need ask
        self.connections: dict[ConnectionIdentity, _KnownConnection] = {}
        self._start = start
        self._epoch = 0  # the highest
        self._overlapping: frozenset[ConnectionIdentity] = frozenset()
        self._events: dict[tuple[bytes, int], list[_KnownEvent]] = {}
        self._oldest_first: deque[_KnownEvent] = deque()
        self._recent: dict[Pair, deque[_RecentEvent]] = {}  # each pair's last events that have no number
        self._hashed = (-1, b"")  # offset and hash of the frame that was asked for last

    def take_own_record(self, record: Record, header: Header, facts: Facts) -> None:
        """Take one of our own records. It tells when a connection begins and ends, and which pairs it carries."""
        identity = (header.epoch, header.connection)
        connection = self._open(identity, record, record.offset if header.kind is Kind.OPENED else -1)
        pairs = frozenset(facts.pairs) or None
        if header.kind is Kind.CLOSED:
            connection.closed, connection.left = record.offset, record.time
            self._find_overlaps()
        elif pairs != connection.pairs:
            connection.pairs = pairs
            self._find_overlaps()
        if connection.since == record.offset and identity in self._overlapping:
            self._expect_copies(identity, connection, record, is_beside=facts.beside)
        self._forget(record)

    def take_frame(self, record: Record, identity: ConnectionIdentity) -> None:
        """Take note of a frame. Needed while `is_open`, and for a connection that is not in `connections`."""
        self._open(identity, record, -1)
        self._forget(record)

    def has_bytes(self, record: Record, header: Header, index: int) -> bool:
        """Whether another connection has brought event `index` of these bytes once more often than this connection.

        From now on both have brought it. Bytes that one connection brings twice are two events.
        """
        identity = (header.epoch, header.connection)
        is_kept = identity in self._overlapping or record.offset < self._start
        if not is_kept and not self._events:
            return False
        key = (self._hash(record, header), index)
        copies, since = self._events.get(key, []), self.connections[identity].since
        for copy in copies:
            if copy.offset >= since and copy.time >= record.time - LEAD and identity not in copy.brought_by:
                copy.brought_by.add(identity)
                return True
        if is_kept:
            self._keep(_KnownEvent(key, record.offset, record.time, {identity}))
        return False

    def has_book(self, header: Header, pair: Pair, sequence: int, first: int | None = None) -> bool:
        """Whether another connection has brought the book of this sequence. From now on this one has, too.

        A change begins at sequence `first`, a whole book has none. A book that is merely older does not count: a
        successor may be ahead of a connection that has still to bring the changes between.
        """
        identity = (header.epoch, header.connection)
        connection = self.connections[identity]
        is_known = self.is_open and any(
            other is not connection
            and (other.closed is None or other.closed > connection.since)
            and other.has(pair, sequence)
            for other in self.connections.values()
        )
        connection.add(pair, sequence, first)
        return is_known

    def remember(self, pair: Pair, record: Record, header: Header, index: int) -> None:
        """Remember an event without a number that became a row. Those of the last second, and the newest, stay."""
        recent = self._recent.get(pair)
        if recent is None:
            recent = self._recent[pair] = deque(maxlen=RECENT_EVENTS)
        horizon = record.time - ON_THE_WAY
        while recent and recent[0].record.time < horizon:
            recent.popleft()
        recent.append(_RecentEvent(record, header, index))

    def _expect_copies(
        self, identity: ConnectionIdentity, connection: _KnownConnection, record: Record, *, is_beside: bool
    ) -> None:
        """Remember the events that a new connection may bring again, though they came before its opening.

        1. The newest event of each pair: the connection may begin with it.
        2. Those that another machine brought in the last `ON_THE_WAY`: our opening was on its way to the log, while the
           exchange sent the same to both machines. On one machine the disk keeps the order.
        """
        others, is_other_machine = {*self.connections} - {identity}, not is_beside
        for pair, recent in self._recent.items():
            if connection.pairs is not None and str(pair) not in connection.pairs:
                continue
            for event in recent:
                is_late = event.header.epoch != identity[0] and record.time - event.record.time <= ON_THE_WAY
                if event is recent[-1] or (is_other_machine and is_late):
                    key = (self._hash(event.record, event.header), event.number)
                    self._keep(_KnownEvent(key, record.offset, event.record.time, others.copy()))

    def _keep(self, event: _KnownEvent) -> None:
        self._events.setdefault(event.key, []).append(event)
        self._oldest_first.append(event)

    def _open(self, identity: ConnectionIdentity, record: Record, since: int) -> _KnownConnection:
        """Return the connection that a record came from. It is new if it is not known, or was closed."""
        connection, epoch = self.connections.get(identity), identity[0]
        if epoch > self._epoch:
            self._epoch = epoch
            for other in self.connections.values():
                other.left = other.left or record.time
        if connection is None or connection.closed is not None:
            connection = self.connections[identity] = _KnownConnection(since)
            self._find_overlaps()
        connection.left = record.time if epoch < self._epoch else None
        return connection

    def _find_overlaps(self) -> None:
        """Find the connections that overlap. Their number is small, and it changes a few times a day."""
        pairs = combinations(self.connections.items(), 2)
        self._overlapping = frozenset(
            identity
            for (first, connection), (second, other) in pairs
            if connection.overlaps(other)
            for identity in (first, second)
        )

    def _forget(self, record: Record) -> None:
        """Forget events and connections that are older than `LEAD`."""
        horizon = record.time - LEAD
        while self._oldest_first and self._oldest_first[0].time < horizon:
            over = self._oldest_first.popleft()
            kept = [event for event in self._events.pop(over.key) if event is not over]
            if kept:
                self._events[over.key] = kept
        gone = [
            identity
            for identity, connection in self.connections.items()
            if connection.left is not None and connection.left < horizon
        ]
        for identity in gone:
            del self.connections[identity]
        if gone:
            self._find_overlaps()
        is_leaving = any(connection.left is not None for connection in self.connections.values())
        self.is_open = bool(self._overlapping or self._events or is_leaving or record.offset < self._start)

    def _hash(self, record: Record, header: Header) -> bytes:
        if self._hashed[0] != record.offset:
            pair = str(header.pair).encode() if header.pair else b""  # REST answers often do not name it
            self._hashed = (record.offset, blake2b(record.value + pair, digest_size=8).digest())
        return self._hashed[1]
