"""The books of one connection, by the rules of its exchange."""

from coin_platform.book import Applied, Book
from coin_platform.exchanges.base import Exchange
from coin_platform.model import BookUpdate, Pair


class BookShelf(dict[Pair, Book]):
    """The books of one connection or of one recording, by pair. A book is created when it is first looked up."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    def __missing__(self, pair: Pair) -> Book:
        book = self[pair] = self._exchange.book()
        return book

    def set_depth(self, pair: Pair | None, depth: int | None) -> None:
        """Remember how many levels a side the exchange confirmed for a pair, if it named both."""
        if pair is not None and depth is not None:
            self[pair].depth = depth

    def apply(self, update: BookUpdate) -> Applied:
        """Bring an update into the book of its pair. Raises `BookError` with its `cause`; the book is then invalid."""
        return self._exchange.apply(self[update.pair], update)
