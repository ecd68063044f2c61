"""Book updates -> values of the order book table; the books of every connection, started from checkpoints."""

from collections import defaultdict
from collections.abc import Iterable, Set
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from coin_platform.book import Applied, Book, Side
from coin_platform.errors import BookError, ChecksumMismatch
from coin_platform.exchanges.base import Exchange
from coin_platform.model import BookUpdate, Kind, Pair, Subscribed
from coin_platform.records import Checkpoint, Facts, Header
from coin_platform.tables.schema import LEVELS, Values


class FaultKind(StrEnum):
    """What can be wrong with a stored book."""

    SEQUENCE = "sequence"  # messages are missing, by their numbers
    CHECKSUM = "checksum"  # the book does not have the checksum that was sent
    CHECKPOINT = "checkpoint"  # the book is not the one that the collector had
    NO_BOOK = "no_book"  # a change, and nothing tells how its book began: at a start that is no fault
    UNREADABLE = "unreadable"  # a change could not be read or applied, and the exchange proves no book
    LOST_FRAMES = "lost_frames"  # frames never reached the log, and the exchange proves no book


class Fault(NamedTuple):
    """Something that makes a pair's book untrustworthy from this record on."""

    pair: Pair
    kind: FaultKind
    reason: str


class Books:
    """The books of all pairs and connections of one exchange, as the log tells them.

    After a known loss a book is trusted again as soon as something shows it whole:
    1. A snapshot of the exchange always does.
    2. A checkpoint does after frames that never reached the log: the collector has read them.
    3. A checkpoint does not after a frame that nobody could read: the collector's own book missed the same change,
       until the exchange sends it a snapshot.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._books: defaultdict[str, dict[Pair, Book]] = defaultdict(dict)
        self.orphans: set[Pair] = set()  # pairs with changes but no book to apply them to
        self._proved: dict[tuple[str, Pair], int] = {}  # number of the last frame before the newest checkpoint
        self._unread: dict[str, set[Pair]] = {}  # pairs without a snapshot since a frame of theirs was unreadable

    def own(self, header: Header, facts: Facts) -> list[Fault]:
        """Take one of our own records: a checkpoint starts or proves a book, a closed connection ends its books."""
        if header.kind is Kind.CLOSED:
            for pair in self._books.pop(header.connection, {}):
                self._proved.pop((header.connection, pair), None)
            self._unread.pop(header.connection, None)
        if header.kind is not Kind.CHECKPOINT or facts.book is None:
            return []
        update = facts.book.update()
        book = self._book(header.connection, update.pair)
        if not book.is_valid and update.pair in self._unread.get(header.connection, ()):
            return []
        self._proved[header.connection, update.pair] = header.number
        if book.is_valid and not _equal(book, update):
            reason = f"{update.pair}: the book of the window is not the one the collector had at its checkpoint"
            book.apply(update)
            return [Fault(update.pair, FaultKind.CHECKPOINT, reason)]
        if not book.is_valid:
            book.apply(update)
            self.orphans.discard(update.pair)
        return []

    def lose(self, connection: str, kind: FaultKind, reason: str, *, number: int | None = None) -> list[Fault]:
        """Trust no book of a connection any more, but those that a checkpoint showed after frame `number`."""
        books = self._books.get(connection, {})
        proved = {pair for pair in books if number is not None and self._proved.get((connection, pair), -1) >= number}
        return self._invalidate(connection, books.keys() - proved, kind, reason)

    def unreadable(self, connection: str, payload: bytes, pairs: Iterable[Pair] | None, reason: str) -> list[Fault]:
        """Trust no book until its next snapshot that an unreadable frame may have changed.

        That is the one that its bytes name of the `pairs` of the connection, or else any of them: the rule by which
        the collector asks for books again. Without `pairs` they are those that have a book.
        """
        known = set(self._books.get(connection, {}) if pairs is None else pairs)
        named = self._exchange.only_pair_in(payload, known)
        concerned = known if named is None else {named}
        self._unread.setdefault(connection, set()).update(concerned)
        return self._invalidate(connection, concerned, FaultKind.UNREADABLE, reason)

    def _invalidate(self, connection: str, pairs: Set[Pair], kind: FaultKind, reason: str) -> list[Fault]:
        lost = sorted(pair for pair, book in self._books.get(connection, {}).items() if pair in pairs and book.is_valid)
        for pair in lost:
            self._book(connection, pair).invalidate()
        return [Fault(pair, kind, reason) for pair in lost]

    def subscribed(self, connection: str, event: Subscribed) -> None:
        """Remember the depth that an exchange confirmed."""
        if event.pair is not None and event.depth is not None:
            self._book(connection, event.pair).depth = event.depth

    def row(self, connection: str, update: BookUpdate) -> tuple[Applied, Values | None, list[Fault]]:
        """Bring an update into its book; return the columns from `is_snapshot` on where the book is right."""
        book = self._book(connection, update.pair)
        try:
            applied = self._exchange.apply(book, update)
        except BookError as error:
            kind = FaultKind.CHECKSUM if isinstance(error, ChecksumMismatch) else FaultKind.SEQUENCE
            return Applied.WAITING, None, [Fault(update.pair, kind, str(error))]
        if applied is Applied.WAITING and update.pair not in self.orphans:
            self.orphans.add(update.pair)
            return applied, None, [Fault(update.pair, FaultKind.NO_BOOK, "a change without a book to go into")]
        if applied is not Applied.WAITING:
            self.orphans.discard(update.pair)
        if update.is_snapshot and connection in self._unread:
            self._unread[connection].discard(update.pair)
        if applied is not Applied.APPLIED or not book.is_valid:
            return applied, None, []
        return applied, self._values(book, update), []

    def sequence(self, connection: str, pair: Pair) -> int | None:
        """Return the sequence that a pair's book has reached; None where the exchange does not count."""
        return self._book(connection, pair).sequence

    def _book(self, connection: str, pair: Pair) -> Book:
        books = self._books[connection]
        if pair not in books:
            books[pair] = self._exchange.book()
        return books[pair]

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
    """Return ask - bid rounded to the digits that the two have, so that 66619.98 - 66609.22 is 10.76."""
    if bid is None or ask is None:
        return None
    return round(ask - bid, max(_fraction_digits(bid), _fraction_digits(ask)))


def _fraction_digits(value: float) -> int:
    text = repr(value)
    if "e" in text:
        exponent = Decimal(text).as_tuple().exponent
        return max(0, -exponent) if isinstance(exponent, int) else 0
    return len(text) - text.index(".") - 1


def _best_size(side: Side) -> float | None:
    return None if side.best is None else side.levels[side.best].size


def _equal(book: Book, checkpoint: BookUpdate) -> bool:
    now = Checkpoint.of(book.snapshot(checkpoint.pair))
    return (now.bids, now.asks, now.sequence) == (checkpoint.bids, checkpoint.asks, checkpoint.last_sequence)
