"""Connections that carry the same pairs at the same time, and which of what they bring was told before.

A rotation opens the successor before the old connection closes, and two leaders may collect at once: each event then
comes on each connection. Which copy is first decides the log, so the same records always give the same rows.
"""

from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations
from typing import NamedTuple, TypeAlias

from coin_platform.model import SECOND, Kind, Microseconds, Pair
from coin_platform.records import Facts, Header, Record

LEAD: Microseconds = 30 * SECOND
"""How far back in log time a window's job reads at least; the checkpoints of books are younger.

It reads on where the window's books began before it, or where its trades are older.
"""

SPANS = 100  # of a pair and connection: an exchange that only sends whole books has one for each

Identity: TypeAlias = tuple[int, str]  # epoch and name of a connection


class Span(NamedTuple):
    """The sequences `[first, last]` of a pair's book, every one of them told."""

    first: int
    last: int


@dataclass(slots=True)
class _Life:
    """What the log has said of a connection."""

    since: int  # offset from which it has been there; -1: before all that we were fed
    pairs: frozenset[str] | None = None  # None: not known, so it may be any
    closed: int | None = None  # offset
    left: Microseconds | None = None  # when it was closed, or last heard of while a newer epoch collects
    spans: dict[Pair, deque[Span]] = field(default_factory=dict)

    def shares(self, other: "_Life") -> bool:
        """Whether both are open and may carry the same pair."""
        if self.closed is not None or other.closed is not None:
            return False
        return self.pairs is None or other.pairs is None or not self.pairs.isdisjoint(other.pairs)

    def has(self, pair: Pair, sequence: int) -> bool:
        """Whether a book of this sequence was told of it."""
        return any(span.first <= sequence <= span.last for span in self.spans.get(pair, ()))

    def add(self, pair: Pair, sequence: int, first: int | None) -> None:
        """Remember that the book is at `sequence`, by a change that begins at `first` or as a whole."""
        spans = self.spans.setdefault(pair, deque(maxlen=SPANS))
        if spans and sequence < spans[-1].last:
            spans.clear()  # the exchange began to count anew
        if not spans or (spans[-1].last < sequence and (first is None or first > spans[-1].last + 1)):
            spans.append(Span(sequence, sequence))
        else:
            spans[-1] = Span(spans[-1].first, sequence)


class _Copy(NamedTuple):
    """An event that was told, and the connections that have brought it."""

    key: tuple[bytes, int]  # the frame's hash, and which of its events
    offset: int  # for connections that were opened up to there
    time: Microseconds
    by: set[Identity]


class Duplicates:
    """The connections of one partition: who else may bring the same, and what of it was told.

    Bytes are remembered only while connections overlap, and for `LEAD`; a book's sequences always, as they are two
    numbers. A copy that comes after the other connection was closed is one, too, and so is one of a pair's newest
    event: some exchanges greet a subscriber with it. Before offset `start` all is remembered: a connection that was
    opened before the records that we are fed shows itself only by its frames.
    """

    def __init__(self, start: int = 0) -> None:
        self.is_open = start > 0  # something may have to be compared: else nobody need ask
        self.connections: dict[Identity, _Life] = {}
        self._start = start
        self._epoch = 0  # the highest
        self._contested: frozenset[Identity] = frozenset()  # those that overlap with another
        self._copies: dict[tuple[bytes, int], list[_Copy]] = {}
        self._order: deque[_Copy] = deque()  # oldest first
        self.newest: dict[Pair, tuple[Record, Header, int]] = {}  # the event told last that has no number
        self._hashed = (-1, b"")  # offset and hash of the frame that was asked for last

    def take_own_record(self, record: Record, header: Header, facts: Facts) -> None:
        """Take one of our own records: it says when a connection begins and ends, and what it carries."""
        identity = (header.epoch, header.connection)
        life = self._open(identity, record, record.offset if header.kind is Kind.OPENED else -1)
        pairs = frozenset(facts.pairs) or None
        if header.kind is Kind.CLOSED:
            life.closed, life.left = record.offset, record.time
            self._compare()
        elif pairs != life.pairs:
            life.pairs = pairs
            self._compare()
        if life.since == record.offset and identity in self._contested:
            self._greet(identity, life, record)
        self._forget(record)

    def take_frame(self, record: Record, identity: Identity) -> None:
        """Take note of a frame. Needed while the overlap `is_open`, and for a connection not in `connections`."""
        self._open(identity, record, -1)
        self._forget(record)

    def has_bytes(self, record: Record, header: Header, index: int) -> bool:
        """Whether another connection has brought these bytes once more than this one: their event `index` was told.

        From now on both have brought it. Bytes that one connection brings twice are two events.
        """
        identity = (header.epoch, header.connection)
        is_kept = identity in self._contested or record.offset < self._start
        if not is_kept and not self._copies:
            return False
        key = (self._hash(record, header), index)
        copies, since = self._copies.get(key, []), self.connections[identity].since
        for copy in copies:
            if copy.offset >= since and copy.time >= record.time - LEAD and identity not in copy.by:
                copy.by.add(identity)
                return True
        if is_kept:
            self._keep(_Copy(key, record.offset, record.time, {identity}))
        return False

    def has_book(self, header: Header, pair: Pair, sequence: int, first: int | None = None) -> bool:
        """Whether another connection has told the book of this sequence; from now on this one has, too.

        A change begins at sequence `first`, a whole book has none. Only what was told counts, not what is merely older:
        a successor may be ahead of a connection that has still to bring what lies between.
        """
        identity = (header.epoch, header.connection)
        life = self.connections[identity]
        is_told = self.is_open and any(
            other is not life and (other.closed is None or other.closed > life.since) and other.has(pair, sequence)
            for other in self.connections.values()
        )
        life.add(pair, sequence, first)
        return is_told

    def _greet(self, identity: Identity, life: _Life, record: Record) -> None:
        """Remember for a new connection what was told last of each of its pairs."""
        for pair, (told, header, index) in self.newest.items():
            if life.pairs is None or str(pair) in life.pairs:
                key = (self._hash(told, header), index)
                self._keep(_Copy(key, record.offset, told.time, {*self.connections} - {identity}))

    def _keep(self, copy: _Copy) -> None:
        self._copies.setdefault(copy.key, []).append(copy)
        self._order.append(copy)

    def _open(self, identity: Identity, record: Record, since: int) -> _Life:
        """Return what is known of a connection that a record has just come from; it is new if nothing is."""
        life, epoch = self.connections.get(identity), identity[0]
        if epoch > self._epoch:
            self._epoch = epoch
            for other in self.connections.values():
                other.left = other.left or record.time
        if life is None or life.closed is not None:
            life = self.connections[identity] = _Life(since)
            self._compare()
        life.left = record.time if epoch < self._epoch else None
        return life

    def _compare(self) -> None:
        """Find out who overlaps: their number is small, and it changes a few times a day."""
        pairs = combinations(self.connections.items(), 2)
        self._contested = frozenset(
            name for (one, life), (other, its) in pairs if life.shares(its) for name in (one, other)
        )

    def _forget(self, record: Record) -> None:
        """Let go of what is older than `LEAD`."""
        horizon = record.time - LEAD
        while self._order and self._order[0].time < horizon:
            over = self._order.popleft()
            left = [copy for copy in self._copies.pop(over.key) if copy is not over]
            if left:
                self._copies[over.key] = left
        gone = [
            identity for identity, life in self.connections.items() if life.left is not None and life.left < horizon
        ]
        for identity in gone:
            del self.connections[identity]
        if gone:
            self._compare()
        is_leaving = any(life.left is not None for life in self.connections.values())
        self.is_open = bool(self._contested or self._copies or is_leaving or record.offset < self._start)

    def _hash(self, record: Record, header: Header) -> bytes:
        if self._hashed[0] != record.offset:
            about = str(header.pair).encode() if header.pair else b""  # REST answers often do not name it
            self._hashed = (record.offset, blake2b(record.value + about, digest_size=8).digest())
        return self._hashed[1]
