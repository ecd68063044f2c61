"""Book updates -> values of the order book table; the books of every connection, started from checkpoints."""

from collections.abc import Iterable, Mapping, Set
from decimal import Decimal
from typing import NamedTuple

from coin_platform.book import Applied, Book, BookSide
from coin_platform.errors import BookError
from coin_platform.exchanges.base import Exchange
from coin_platform.exchanges.books import BookShelf
from coin_platform.model import BookUpdate, Cause, Kind, Pair, Subscribed
from coin_platform.records import Checkpoint, Facts, Header
from coin_platform.tables.schema import LEVELS, Values


class BookFault(NamedTuple):
    """The reason why a pair's book cannot be trusted from this record on."""

    pair: Pair
    cause: Cause  # `NO_BOOK` at the begin of the log is no fault: nothing tells how a book began
    reason: str


class ConnectionBooks:
    """The books of all connections and pairs of one exchange, as the log tells them.

    After a known loss a book is trusted again as soon as a record shows it whole:
    1. A snapshot of the exchange always does.
    2. A checkpoint does after frames that never reached the log: the collector has read them.
    3. A checkpoint does not after a frame that nobody could read: the collector's own book missed the same change,
       until the exchange sends it a snapshot.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._shelves: dict[str, BookShelf] = {}  # by connection
        self.orphans: set[Pair] = set()  # pairs with changes but no book to apply them to
        self._proved: dict[tuple[str, Pair], int] = {}  # number of the last frame before the newest checkpoint
        self._unread: dict[str, set[Pair]] = {}  # pairs without a snapshot since a frame of theirs was unreadable

    def take_own_record(self, header: Header, facts: Facts) -> list[BookFault]:
        """Take one of our own records: a checkpoint starts or proves a book, a closed connection ends its books."""
        if header.kind is Kind.CLOSED:
            for pair in self._shelves.pop(header.connection, {}):
                self._proved.pop((header.connection, pair), None)
            self._unread.pop(header.connection, None)
        if header.kind is not Kind.CHECKPOINT or facts.book is None:
            return []
        update = facts.book.update()
        book = self.shelf(header.connection)[update.pair]
        if not book.is_valid and update.pair in self._unread.get(header.connection, ()):
            return []
        self._proved[header.connection, update.pair] = header.number
        if book.is_valid and not _equal(book, update):
            reason = f"{update.pair}: the book of the window is not the one the collector had at its checkpoint"
            book.apply(update)
            return [BookFault(update.pair, Cause.CHECKPOINT, reason)]
        if not book.is_valid:
            book.apply(update)
            self.orphans.discard(update.pair)
        return []

    def lose(self, connection: str, cause: Cause, reason: str, *, number: int | None = None) -> list[BookFault]:
        """Trust no book of a connection any more, except those that a checkpoint showed after frame `number`."""
        pairs = self._shelves.get(connection, {}).keys()
        proved = {pair for pair in pairs if number is not None and self._proved.get((connection, pair), -1) >= number}
        return self._invalidate(connection, pairs - proved, cause, reason)

    def lose_unreadable(
        self, connection: str, payload: bytes, pairs: Iterable[Pair] | None, reason: str
    ) -> list[BookFault]:
        """Trust no book that an unreadable frame may have changed, until the next snapshot of that book.

        That is the book of the pair that the frame's bytes name, or else every book of the `pairs` of the connection.
        The collector asks for books again by the same rule. If `pairs` are not known, they are those that have a book.
        """
        carried = set(self._shelves.get(connection, {}) if pairs is None else pairs)
        named = self._exchange.only_pair_in(payload, carried)
        concerned = carried if named is None else {named}
        self._unread.setdefault(connection, set()).update(concerned)
        return self._invalidate(connection, concerned, Cause.UNREADABLE, reason)

    def _invalidate(self, connection: str, pairs: Set[Pair], cause: Cause, reason: str) -> list[BookFault]:
        shelf: Mapping[Pair, Book] = self._shelves.get(connection, {})
        lost = sorted(pair for pair, book in shelf.items() if pair in pairs and book.is_valid)
        for pair in lost:
            shelf[pair].invalidate()
        return [BookFault(pair, cause, reason) for pair in lost]

    def subscribed(self, connection: str, event: Subscribed) -> None:
        """Remember the depth that an exchange confirmed."""
        self.shelf(connection).set_depth(event.pair, event.depth)

    def row(self, connection: str, update: BookUpdate) -> tuple[Applied, Values | None, list[BookFault]]:
        """Bring an update into its book; return the columns from `is_snapshot` on if the book can be trusted."""
        shelf = self.shelf(connection)
        try:
            applied = shelf.apply(update)
        except BookError as error:
            return Applied.WAITING, None, [BookFault(update.pair, Cause(error.cause), str(error))]
        if applied is Applied.WAITING and update.pair not in self.orphans:
            self.orphans.add(update.pair)
            return applied, None, [BookFault(update.pair, Cause.NO_BOOK, "a change without a book to go into")]
        if applied is not Applied.WAITING:
            self.orphans.discard(update.pair)
        if update.is_snapshot and connection in self._unread:
            self._unread[connection].discard(update.pair)
        book = shelf[update.pair]
        if applied is not Applied.APPLIED or not book.is_valid:
            return applied, None, []
        return applied, self._values(book, update), []

    def sequence(self, connection: str, pair: Pair) -> int | None:
        """Return the sequence that a pair's book has reached; None if the exchange does not count."""
        return self.shelf(connection)[pair].sequence

    def shelf(self, connection: str) -> BookShelf:
        """Return the books of a connection."""
        shelf = self._shelves.get(connection)
        if shelf is None:
            shelf = self._shelves[connection] = BookShelf(self._exchange)
        return shelf

    def _values(self, book: Book, update: BookUpdate) -> Values:
        bids, asks = book.bids, book.asks
        return (
            update.is_snapshot,
            book.sequence,
            self._exchange.proof.value,
            bids.best,
            _best_size(bids),
            asks.best,
            _best_size(asks),
            spread(bids.best, asks.best),
            bids.total,
            asks.total,
            len(bids.levels),
            len(asks.levels),
            [level.price for level in bids.top(LEVELS)],
            [level.size for level in bids.top(LEVELS)],
            [level.price for level in asks.top(LEVELS)],
            [level.size for level in asks.top(LEVELS)],
        )


def spread(bid: float | None, ask: float | None) -> float | None:
    """Return ask - bid rounded to the digits of the two numbers, so that 66619.98 - 66609.22 is 10.76."""
    if bid is None or ask is None:
        return None
    return round(ask - bid, max(_fraction_digits(bid), _fraction_digits(ask)))


def _fraction_digits(value: float) -> int:
    text = repr(value)
    if "e" in text:
        exponent = Decimal(text).as_tuple().exponent
        return max(0, -exponent) if isinstance(exponent, int) else 0
    return len(text) - text.index(".") - 1


def _best_size(side: BookSide) -> float | None:
    return None if side.best is None else side.levels[side.best].size


def _equal(book: Book, checkpoint: BookUpdate) -> bool:
    ours = Checkpoint.of(book.snapshot(checkpoint.pair))
    return (ours.bids, ours.asks, ours.sequence) == (checkpoint.bids, checkpoint.asks, checkpoint.last_sequence)
