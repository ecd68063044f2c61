"""The records of one partition -> rows, dead records and counts: the only way from the log to the tables."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

from coin_platform.book import Applied
from coin_platform.errors import DecodeError, UnknownPair
from coin_platform.exchanges.base import Source
from coin_platform.model import (
    BookUpdate,
    Candle,
    Cause,
    Channel,
    Event,
    Instrument,
    Kind,
    Microseconds,
    Pair,
    Subscribed,
    Ticker,
    Trade,
)
from coin_platform.records import Header, Record, Transport, frame, unpack_dated, unpack_facts
from coin_platform.tables import candle, instrument, schema, ticker, trade
from coin_platform.tables.duplicates import LEAD, Duplicates
from coin_platform.tables.fence import Fence
from coin_platform.tables.frame_numbers import LastNumber, LastNumbers
from coin_platform.tables.instrument import KnownInstruments
from coin_platform.tables.known_trades import TRADE_MEMORY, KnownTrades
from coin_platform.tables.orderbook import BookFault, ConnectionBooks
from coin_platform.tables.outcomes import DeadRecord, FrameOutcome
from coin_platform.tables.rows import Entry, Row, row_of
from coin_platform.tables.schema import Values

EventColumns: TypeAlias = tuple[str, Microseconds | None, Values]  # pair, exchange time, the channel's own columns
EventOutcome: TypeAlias = tuple[FrameOutcome, EventColumns | None]  # with columns: the event becomes a row
EventReader: TypeAlias = Callable[["Transform", Record, Header, int, Any, Any], EventOutcome]

_WITHOUT_ROWS = (FrameOutcome.INVALID, FrameOutcome.IGNORED, FrameOutcome.DUPLICATE)  # worst first


class Transform:
    """Turn the records of one partition, in order, into rows.

    It keeps the books of the partition, and is the only place where duplicates are left out:
    1. `LastNumbers` knows a frame that is sent again by its identity.
    2. `KnownTrades` knows a trade.
    3. `Duplicates` knows what two connections bring: by the sequence of a book, or else by the bytes of the frame.
    4. `Fence` knows what a former leader brings beside its successor.

    Of the updates of one minute a window keeps the last one. When a window begins, trades from before its `LEAD` are
    forgotten, except the newest ones of each pair. If no length of `window` (µs) is given, all records are one window.
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
        self.start = start  # records before this offset give no rows: they prepare books and known trades
        self.window = window
        self.frames: Counter[FrameOutcome] = Counter()
        self.emitted = 0  # rows
        self.repeated = 0  # events that were rows already
        self.replaced = 0  # rows of minutes that have a later row: a table keeps the last
        self.same_id = 0  # trades whose id another trade has, too
        self.missing = 0  # frames whose number was skipped within their connection
        self.own_records = 0
        self.knows_since: Microseconds = 0  # log time of the first record that was fed; 0: the log's first record
        self.dead: list[DeadRecord] = []
        self.faults: list[tuple[int, BookFault]] = []  # with the offset
        self.books = ConnectionBooks(source.exchange)
        self.instruments = KnownInstruments()
        self._is_inside = False
        self._numbers = LastNumbers()
        self._numbers_before: Iterable[LastNumber] | None = numbers  # until the first record from `start` on
        self._duplicates = Duplicates(start)
        self._fence = Fence()
        self._is_former = False  # whether the present frame is of a former leader
        self._trades = KnownTrades(
            has_ids_by_transport=source.exchange.has_ids_by_transport,
            trades_per_answer=source.exchange.trades_per_answer,
        )
        self._minutes: defaultdict[Pair, set[Microseconds]] = defaultdict(set)  # of candles in the window so far
        self._window_number = 0  # of the window that the last record was in
        self._event_type: Any
        self._event_type, self._values, self._read = self._READERS[source.channel]
        self._fit = schema.FITS[source.channel]
        is_book = source.channel is Channel.ORDERBOOK
        self._has_deltas = is_book and source.exchange.has_deltas
        self._can_hide_losses = is_book and source.exchange.can_hide_losses

    def feed(self, record: Record) -> list[Row]:
        """Return the rows of one record, in the order of its events."""
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
                self._take_own_record(record, header, is_inside=is_inside)
                return []
            outcome, entries = self._take_frame(record, header)
        except Exception as error:  # whatever it is: it costs this record alone
            outcome, entries = FrameOutcome.DEAD, []
            if is_inside:
                self.dead.append(DeadRecord(record, header, error))
        if not is_inside:
            return []
        self.frames[outcome] += 1
        self.emitted += len(entries)
        return entries

    def _take_own_record(self, record: Record, header: Header, *, is_inside: bool) -> None:
        self.own_records += is_inside
        if not self._numbers.reach((header.epoch, header.connection), header.number, record.time):
            return  # sent again after a crash of the collector: the books are further by now
        facts = unpack_facts(record.value)
        self._fence.take_own_record(header, facts)
        if facts.transport == Transport.NONE:  # the pairs that a feed wants are no connection
            self.instruments.want(() if header.kind is Kind.CLOSED else facts.pairs, record.time)
        else:
            self._duplicates.take_own_record(record, header, facts)
        faults = self.books.take_own_record(header, facts)
        if facts.book is not None and facts.book.sequence is not None:
            self._duplicates.has_book(header, Pair.read(facts.book.pair), facts.book.sequence)
        self._keep_faults(record, faults)

    def _take_frame(self, record: Record, header: Header) -> tuple[FrameOutcome, list[Entry]]:
        identity = (header.epoch, header.connection)
        skipped = self._numbers.take(identity, header.number, record.time)
        if skipped is None:
            return FrameOutcome.DUPLICATE, []
        self._is_former = self._fence.take_frame(header)
        if skipped:
            self._skip_frames(record, header, skipped)
        if self._duplicates.is_open or identity not in self._duplicates.connections:
            self._duplicates.take_frame(record, identity)
        try:
            events = self.source.exchange.decode(
                frame(self.source.exchange.name, self.source.channel, header, record.value)
            )
            if self.source.channel is Channel.INSTRUMENT:
                self._begin_window(record)
                events = self.instruments.with_delisted(events)
            columns = [self._columns(event) for event in events]  # checked before anything of the frame is remembered
        except Exception as error:
            if self._can_hide_losses and header.kind is Kind.SOCKET:
                reason = f"frame {header.number} of {header.connection} could not be read: {error}"
                names = self._duplicates.connections[identity].pairs
                pairs = None if names is None else [Pair.read(name) for name in names]
                self._keep_faults(record, self.books.lose_unreadable(header.connection, record.value, pairs, reason))
            raise
        try:
            return self._make_entries(record, header, events, columns)
        except Exception as error:
            if self._has_deltas:
                reason = (
                    f"frame {header.number} of {header.connection} was not applied: {type(error).__name__}: {error}"
                )
                self._keep_faults(record, self.books.lose(header.connection, Cause.UNREADABLE, reason))
            raise

    def _skip_frames(self, record: Record, header: Header, missing: int) -> None:
        """Count frames that never reached the log. A book that can hide losses is not to be trusted after them."""
        if record.offset >= self.start:
            self.missing += missing
        if self._can_hide_losses:
            reason = f"{missing} frames of {header.connection} before number {header.number} never reached the log"
            faults = self.books.lose(header.connection, Cause.LOST_FRAMES, reason, number=header.number - 1)
            self._keep_faults(record, faults)

    def _keep_faults(self, record: Record, faults: list[BookFault]) -> None:
        """Keep the faults of the window. Faults before its first offset belong to the window before."""
        if record.offset >= self.start:
            self.faults += [(record.offset, fault) for fault in faults]

    def _columns(self, event: Event) -> EventColumns | None:
        """Return the columns of an event; `None` if its book gives them, or if it gives none. Raises `DecodeError`."""
        if self._values is None or not isinstance(event, self._event_type):
            return None
        return self._checked(event, self._values(event))

    def _checked(self, event: Any, values: Values) -> EventColumns:
        """Return the columns of an event. Raises `DecodeError` if the table could not hold them."""
        name, time = str(event.pair), event.exchange_time
        try:
            is_readable = Pair.read(name) == event.pair
        except UnknownPair:
            is_readable = False
        if not is_readable:
            raise DecodeError(f"{name!r:.100} is no pair that can be read back")
        self._fit.check((name, time, *values))
        return name, time, values

    def _make_entries(
        self, record: Record, header: Header, events: list[Event], columns: list[EventColumns | None]
    ) -> tuple[FrameOutcome, list[Entry]]:
        outcomes = [
            self._take_event(record, header, index, *event_columns)
            for index, event_columns in enumerate(zip(events, columns, strict=True))
        ]
        if self.source.channel is Channel.INSTRUMENT:
            self.instruments.end_frame(events, record.time)
        entries = [
            Entry(row_of(self.source, record, header, index, *row_columns), event)
            for index, (event, (_, row_columns)) in enumerate(zip(events, outcomes, strict=True))
            if row_columns is not None
        ]
        if entries:
            return FrameOutcome.ROWS, entries
        without_rows = {outcome for outcome, _ in outcomes}
        return next((outcome for outcome in _WITHOUT_ROWS if outcome in without_rows), FrameOutcome.CONTROL), []

    def _take_event(
        self, record: Record, header: Header, index: int, event: Event, columns: EventColumns | None
    ) -> EventOutcome:
        if isinstance(event, self._event_type):
            if self._is_former and self._fence.refuses(header, event.pair):
                return self._repeat(record)
            outcome = self._read(self, record, header, index, event, columns)
            if outcome[0] is FrameOutcome.ROWS or outcome[0] is FrameOutcome.DUPLICATE:
                self._fence.hear(header, event.pair)
            return outcome
        if isinstance(event, Subscribed):
            self.books.subscribed(header.connection, event)
        return FrameOutcome.CONTROL, None

    def _take_ticker(
        self, record: Record, header: Header, index: int, event: Ticker, columns: EventColumns
    ) -> EventOutcome:
        if self._is_copy(record, header, index, event.pair):
            return self._repeat(record)
        return FrameOutcome.ROWS, columns

    def _take_book(self, record: Record, header: Header, index: int, event: BookUpdate, _: None) -> EventOutcome:
        if not self._is_inside and record.offset >= self.start:
            self._is_inside = True
            self.books.orphans.clear()  # a change without a book is a fault of this window, too
        applied, row, faults = self.books.row(header.connection, event)
        self._keep_faults(record, faults)
        if row is None:
            return FrameOutcome.IGNORED if applied is Applied.IGNORED else FrameOutcome.INVALID, None
        if self._is_known_book(record, header, index, event):
            return self._repeat(record)
        return FrameOutcome.ROWS, self._checked(event, row)

    def _is_known_book(self, record: Record, header: Header, index: int, event: BookUpdate) -> bool:
        # Some exchanges number the books of REST answers otherwise than those of the socket.
        is_numbered = header.kind is Kind.SOCKET or self.source.exchange.is_bridged
        sequence = self.books.sequence(header.connection, event.pair) if is_numbered else None
        if sequence is None:
            return self._is_copy(record, header, index, event.pair)
        first = None if event.is_snapshot else event.first_sequence
        return self._duplicates.has_book(header, event.pair, sequence, first)

    def _take_trade(
        self, record: Record, header: Header, index: int, event: Trade, columns: EventColumns
    ) -> EventOutcome:
        if event.id is None:
            is_known = self._is_copy(record, header, index, event.pair)
        else:
            self._begin_window(record)
            same_id = self._trades.same_id
            is_known = self._trades.add(event, event.id, header.kind, record.time)
            self.same_id += self._trades.same_id - same_id if record.offset >= self.start else 0
        if is_known:
            return self._repeat(record)
        return FrameOutcome.ROWS, columns

    def _take_candle(
        self, record: Record, header: Header, index: int, event: Candle, columns: EventColumns
    ) -> EventOutcome:
        if self._is_copy(record, header, index, event.pair):
            return self._repeat(record)
        if record.offset >= self.start:
            self._begin_window(record)
            minutes = self._minutes[event.pair]
            self.replaced += event.open_time in minutes
            minutes.add(event.open_time)
        return FrameOutcome.ROWS, columns

    def _take_instrument(
        self, record: Record, header: Header, index: int, event: Instrument, columns: EventColumns
    ) -> EventOutcome:
        name, time, values = columns
        row_values = self.instruments.take(event, values, record.time)
        if row_values is None:
            return self._repeat(record)
        return FrameOutcome.ROWS, (name, time, row_values)

    def _is_copy(self, record: Record, header: Header, index: int, pair: Pair) -> bool:
        """Whether another connection has brought this event, which has no number of its own."""
        if self._duplicates.is_open and self._duplicates.has_bytes(record, header, index):
            return True
        self._duplicates.remember(pair, record, header, index)
        return False

    def _repeat(self, record: Record) -> EventOutcome:
        self.repeated += record.offset >= self.start
        return FrameOutcome.DUPLICATE, None

    def _begin_window(self, record: Record) -> None:
        """Forget what is old if a record is the first of its window: the window's own job begins with the same."""
        if self.window is None or record.time // self.window == self._window_number:
            return
        self._window_number = record.time // self.window
        begin = self._window_number * self.window
        self._minutes.clear()
        self.instruments.begin_window(begin - instrument.memory(self.window))
        self._trades.forget(begin - LEAD, begin - TRADE_MEMORY)

    _READERS: ClassVar[dict[Channel, tuple[type, Callable[[Any], Values] | None, EventReader]]] = {
        Channel.TICKER: (Ticker, ticker.values, _take_ticker),
        Channel.ORDERBOOK: (BookUpdate, None, _take_book),  # the values come from the book
        Channel.TRADE: (Trade, trade.values, _take_trade),
        Channel.CANDLE: (Candle, candle.values, _take_candle),
        Channel.INSTRUMENT: (Instrument, instrument.values, _take_instrument),
    }
