"""Records of one partition -> rows, dead letters and counts: the one way from the log to what tables hold."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, TypeAlias

from coin_platform.book import Applied
from coin_platform.errors import (
    DecodeError,
    UnknownPair,
)
from coin_platform.exchanges.base import Source
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Event,
    Kind,
    Microseconds,
    Pair,
    Subscribed,
    Ticker,
    Trade,
)
from coin_platform.records import Header, Record, Transport, frame, unpack_dated, unpack_facts
from coin_platform.tables import candle, schema, ticker, trade
from coin_platform.tables.duplicates import LEAD, Duplicates
from coin_platform.tables.frame_numbers import LastNumber, LastNumbers
from coin_platform.tables.known_trades import LONGEST_MEMORY, KnownTrades
from coin_platform.tables.orderbook import Books, Fault, FaultKind

Row: TypeAlias = tuple[object, ...]
Told: TypeAlias = tuple[str, Microseconds | None, Row]  # pair, exchange time, and the columns that the event gives


class Outcome(StrEnum):
    """What became of a frame: there is no other case."""

    ROWS = "rows"
    DEAD = "dead"
    CONTROL = "control"  # says nothing about the market
    DUPLICATE = "duplicate"  # the same frame again, or nothing but events that are rows already
    IGNORED = "ignored"  # a book update older than its book
    INVALID = "invalid"  # a book update while its book cannot be trusted


Found: TypeAlias = tuple[Outcome, Told | None]
Values: TypeAlias = Callable[[Any], Row]
Reader: TypeAlias = Callable[["Transform", Record, Header, int, Any, Any], Found]
LONGEST_REASON = 1000  # characters of an error's text that are kept
_NO_ROWS = (Outcome.INVALID, Outcome.IGNORED, Outcome.DUPLICATE)  # what a frame without rows counts as, worst first


class Entry(NamedTuple):
    """One row, and the event that it was made of."""

    row: Row
    event: Any


class Dead(NamedTuple):
    """A record that did not become rows: it could not be decoded, or our code failed on it."""

    record: Record
    header: Header | None
    error: Exception

    @property
    def kind(self) -> str:
        """The class of the error."""
        return type(self.error).__name__

    @property
    def is_ours(self) -> bool:
        """Whether nobody expected the error: our code is at fault, not the record."""
        return not isinstance(self.error, DecodeError)

    @property
    def reason(self) -> str:
        """The error's text, at most `LONGEST_REASON` characters; with its class where the fault is ours."""
        text = f"{self.kind}: {self.error}" if self.is_ours else str(self.error)
        return text[:LONGEST_REASON].encode(errors="backslashreplace").decode()


class Transform:
    """Turns the records of one partition, in order, into rows; keeps the books and what is needed to see doubles.

    This is the one place where doubles are removed: frames by their identity, trades as `KnownTrades` knows them, and
    what two connections bring at the same time by a book's sequence, or by a frame's bytes where nothing has a number.
    A window keeps a minute's last update only. At its begin the trades from before the `LEAD` are forgotten, but for
    the newest of each pair.
    Without a length of `window` (µs) all that is fed is one window.
    """

    def __init__(
        self,
        source: Source,
        start: int = 0,
        window: Microseconds | None = None,
        numbers: Iterable[LastNumber] = (),
    ) -> None:
        """`numbers` are those of all connections before offset `start`, see `LastNumbers`."""
        self.source = source
        self.start = start  # records before this offset only prepare what is kept
        self.window = window
        self.frames: Counter[Outcome] = Counter()
        self.emitted = 0  # rows
        self.repeated = 0  # events that were rows already
        self.replaced = 0  # rows of minutes that were told again: a table keeps the last
        self.same_id = 0  # trades under an id that another trade has, too
        self.missing = 0  # frames whose number was skipped within their connection
        self.own_records = 0
        self.knows_since: Microseconds = 0  # log time from which it was fed; 0: from where the log begins
        self.dead: list[Dead] = []
        self.faults: list[tuple[int, Fault]] = []  # with the offset
        self.books = Books(source.exchange)
        self._is_inside = False
        self._numbers = LastNumbers()
        self._numbers_before: Iterable[LastNumber] | None = numbers  # until the first record from `start` on
        self._overlap = Duplicates(start)
        self._trades = KnownTrades(
            has_ids_by_transport=source.exchange.has_ids_by_transport,
            trades_per_answer=source.exchange.trades_per_answer,
        )
        self._minutes: defaultdict[Pair, set[Microseconds]] = defaultdict(set)  # of candles in the window so far
        self._told_in = 0  # which window that is
        self._kind: Any
        self._kind, self._values, self._read = self._READERS[source.channel]
        self._fit = schema.FITS[source.channel]
        is_book = source.channel is Channel.ORDERBOOK
        self._has_deltas = is_book and source.exchange.has_deltas
        self._can_hide_losses = is_book and source.exchange.can_hide_losses

    def feed(self, record: Record) -> list[Row]:
        """Return the rows of one record, as tuples in the order of the table's columns."""
        return [row for row, _ in self.entries(record)]

    def learn(self, numbers: Iterable[LastNumber]) -> None:
        """Take over the last numbers of connections before the next record."""
        self._numbers.learn(numbers)

    def entries(self, record: Record) -> list[Entry]:
        """Return the rows of one record, each with the event that it was made of."""
        is_inside = record.offset >= self.start
        if is_inside and self._numbers_before is not None:
            self.learn(self._numbers_before)
            self._numbers_before = None
        header: Header | None = None
        try:
            header = unpack_dated(record.header)
            if not header.kind.is_frame:
                self._own(record, header, is_inside=is_inside)
                return []
            outcome, entries = self._frame(record, header)
        except Exception as error:  # whatever it is: it costs this record alone
            outcome, entries = Outcome.DEAD, []
            if is_inside:
                self.dead.append(Dead(record, header, error))
        if not is_inside:
            return []
        self.frames[outcome] += 1
        self.emitted += len(entries)
        return entries

    def _own(self, record: Record, header: Header, *, is_inside: bool) -> None:
        self.own_records += is_inside
        if not self._numbers.reach((header.epoch, header.connection), header.number, record.time):
            return  # sent again after a crash of the collector: the books are further by now
        facts = unpack_facts(record.value)
        if facts.transport != Transport.NONE:  # what a feed wants brings nothing twice
            self._overlap.own(record, header, facts)
        faults = self.books.own(header, facts)
        if facts.book is not None and facts.book.sequence is not None:
            self._overlap.has_book(header, Pair.read(facts.book.pair), facts.book.sequence)
        self._note(record, faults)

    def _frame(self, record: Record, header: Header) -> tuple[Outcome, list[Entry]]:
        identity = (header.epoch, header.connection)
        skipped = self._numbers.take(identity, header.number, record.time)
        if skipped is None:
            return Outcome.DUPLICATE, []
        if skipped:
            self._skipped(record, header, skipped)
        if self._overlap.is_open or identity not in self._overlap.lives:
            self._overlap.heard(record, identity)
        try:
            events = self.source.exchange.decode(
                frame(self.source.exchange.name, self.source.channel, header, record.value)
            )
            told = [self._told(event) for event in events]  # checked before anything is remembered of the frame
        except Exception as error:
            if self._can_hide_losses and header.kind is Kind.SOCKET:
                reason = f"frame {header.number} of {header.connection} could not be read: {error}"
                names = self._overlap.lives[identity].pairs
                pairs = None if names is None else [Pair.read(name) for name in names]
                self._note(record, self.books.unreadable(header.connection, record.value, pairs, reason))
            raise
        try:
            return self._become(record, header, events, told)
        except Exception as error:
            if self._has_deltas:
                reason = (
                    f"frame {header.number} of {header.connection} was not applied: {type(error).__name__}: {error}"
                )
                self._note(record, self.books.lose(header.connection, FaultKind.UNREADABLE, reason))
            raise

    def _skipped(self, record: Record, header: Header, missing: int) -> None:
        """Count frames that never reached the log. A book that can hide losses is not to be trusted after them."""
        if record.offset >= self.start:
            self.missing += missing
        if self._can_hide_losses:
            reason = f"{missing} frames of {header.connection} before number {header.number} never reached the log"
            faults = self.books.lose(header.connection, FaultKind.LOST_FRAMES, reason, number=header.number - 1)
            self._note(record, faults)

    def _note(self, record: Record, faults: list[Fault]) -> None:
        """Keep the faults of the window; those before it are told by the window before."""
        if record.offset >= self.start:
            self.faults += [(record.offset, fault) for fault in faults]

    def _told(self, event: Event) -> Told | None:
        """Return what an event gives to its row, if it alone decides that. Raises `DecodeError` if it does not fit."""
        if self._values is None or not isinstance(event, self._kind):
            return None
        return self._checked(event, self._values(event))

    def _checked(self, event: Any, values: Row) -> Told:
        """Return what a row holds of an event. Raises `DecodeError` if its columns, or readers, could not take it."""
        name, time = str(event.pair), event.exchange_time
        try:
            is_readable = Pair.read(name) == event.pair
        except UnknownPair:
            is_readable = False
        if not is_readable:
            raise DecodeError(f"{name!r:.100} is no pair that can be read back")
        self._fit.check((name, time, *values))
        return name, time, values

    def _become(
        self, record: Record, header: Header, events: list[Event], told: list[Told | None]
    ) -> tuple[Outcome, list[Entry]]:
        found = [self._event(record, header, index, *each) for index, each in enumerate(zip(events, told, strict=True))]
        entries = [
            Entry(self._row(record, header, index, told), event)
            for index, (event, (_, told)) in enumerate(zip(events, found, strict=True))
            if told is not None
        ]
        if entries:
            return Outcome.ROWS, entries
        outcomes = {outcome for outcome, _ in found}
        return next((outcome for outcome in _NO_ROWS if outcome in outcomes), Outcome.CONTROL), []

    def _event(self, record: Record, header: Header, index: int, event: Event, told: Told | None) -> Found:
        if isinstance(event, self._kind):
            return self._read(self, record, header, index, event, told)
        if isinstance(event, Subscribed):
            self.books.subscribed(header.connection, event)
        return Outcome.CONTROL, None

    def _ticker(self, record: Record, header: Header, index: int, event: Ticker, told: Told) -> Found:
        if self._is_copy(record, header, index, event.pair):
            return self._repeat(record)
        return Outcome.ROWS, told

    def _book(self, record: Record, header: Header, index: int, event: BookUpdate, _: None) -> Found:
        if not self._is_inside and record.offset >= self.start:
            self._is_inside = True
            self.books.orphans.clear()  # of what begins here, it is to be told
        applied, row, faults = self.books.row(header.connection, event)
        self._note(record, faults)
        if row is None:
            return Outcome.IGNORED if applied is Applied.IGNORED else Outcome.INVALID, None
        if self._is_told(record, header, index, event):
            return self._repeat(record)
        return Outcome.ROWS, self._checked(event, row)

    def _is_told(self, record: Record, header: Header, index: int, event: BookUpdate) -> bool:
        # Some exchanges number the books of REST answers otherwise than those of the socket.
        is_numbered = header.kind is Kind.SOCKET or self.source.exchange.is_bridged
        sequence = self.books.sequence(header.connection, event.pair) if is_numbered else None
        if sequence is None:
            return self._is_copy(record, header, index, event.pair)
        first = None if event.is_snapshot else event.first_sequence
        return self._overlap.has_book(header, event.pair, sequence, first)

    def _trade(self, record: Record, header: Header, index: int, event: Trade, told: Told) -> Found:
        if event.id is None:
            is_known = self._is_copy(record, header, index, event.pair)
        else:
            self._turn(record)
            same_id = self._trades.same_id
            is_known = self._trades.add(event, event.id, header.kind, record.time)
            self.same_id += self._trades.same_id - same_id if record.offset >= self.start else 0
        if is_known:
            return self._repeat(record)
        return Outcome.ROWS, told

    def _candle(self, record: Record, header: Header, index: int, event: Candle, told: Told) -> Found:
        if self._is_copy(record, header, index, event.pair):
            return self._repeat(record)
        if record.offset >= self.start:
            self._turn(record)
            minutes = self._minutes[event.pair]
            self.replaced += event.open_time in minutes
            minutes.add(event.open_time)
        return Outcome.ROWS, told

    def _is_copy(self, record: Record, header: Header, index: int, pair: Pair) -> bool:
        """Whether another connection has brought the event, which has no number of its own."""
        if self._overlap.is_open and self._overlap.has_bytes(record, header, index):
            return True
        self._overlap.newest[pair] = (record, header, index)
        return False

    def _repeat(self, record: Record) -> Found:
        self.repeated += record.offset >= self.start
        return Outcome.DUPLICATE, None

    def _turn(self, record: Record) -> None:
        """Forget, when a window begins, what nothing in it tells again; its own job forgets the same."""
        if self.window is None or record.time // self.window == self._told_in:
            return
        self._told_in = record.time // self.window
        begin = self._told_in * self.window
        self._minutes.clear()
        self._trades.forget(begin - LEAD, begin - LONGEST_MEMORY)

    def _row(self, record: Record, header: Header, index: int, told: Told) -> Row:
        pair, exchange_time, values = told
        return (
            pair,
            exchange_time,
            header.received_time,
            record.time,
            *values,
            *origin(self.source, record, header, index),
        )

    _READERS: ClassVar[dict[Channel, tuple[type, Values | None, Reader]]] = {
        Channel.TICKER: (Ticker, ticker.values, _ticker),
        Channel.ORDERBOOK: (BookUpdate, None, _book),  # the values come from the book
        Channel.TRADE: (Trade, trade.values, _trade),
        Channel.CANDLE: (Candle, candle.values, _candle),
    }


def origin(source: Source, record: Record, header: Header | None, index: int) -> Row:
    """Return the columns that say where a row comes from."""
    place = (source.topic, source.partition, record.offset, index)
    if header is None:
        return (None, None, None, None, *place)
    transport = "rest" if header.kind is Kind.REST else "ws"
    return (transport, header.epoch, header.connection, header.number, *place)


def columns(event: Event) -> dict[str, Any]:
    """Return an event's fields by the names of its table's columns."""
    values: tuple[object, ...]
    match event:
        case Ticker():
            names, values = schema.TICKER_COLUMNS, ticker.values(event)
        case Trade():
            names, values = schema.TRADE_COLUMNS, trade.values(event)
        case Candle():
            names, values = schema.CANDLE_COLUMNS, candle.values(event)
        case _:
            fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "pair"}
            return {name: value for name, value in fields.items() if value is not None}
    own = list(names)[1 + len(schema.WHEN) :]  # behind pair and the three times
    return {"exchange_time": event.exchange_time, **dict(zip(own, values, strict=False))}
