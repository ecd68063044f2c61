"""`coin decode` and `coin book`: what recorded messages say."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from coin_platform.book import Applied
from coin_platform.errors import BookError, DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.exchanges.books import BookShelf
from coin_platform.model import (
    BookUpdate,
    Candle,
    Cause,
    Channel,
    Event,
    Frame,
    Pair,
    Refused,
    Subscribed,
    Ticker,
    Trade,
)


def word_of(event: Event) -> str:
    """Return the word for an event: ticker, orderbook, trade, candle, control or error."""
    names = {Ticker: "ticker", BookUpdate: "orderbook", Trade: "trade", Candle: "candle", Refused: "error"}
    return names.get(type(event), "control")


class BookReplay:
    """Recorded book messages, replayed as the collector would take them."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._books = BookShelf(exchange)
        self._counts = dict.fromkeys(("updates", "gaps", "checksum_matches", "checksum_mismatches", "crossed"), 0)

    def feed(self, frame: Frame) -> None:
        """Take a message. Raises `BookError` when a book is lost, `DecodeError` for what is no message."""
        for event in self._exchange.decode(frame):
            if isinstance(event, Subscribed):
                self._books.set_depth(event.pair, event.depth)
            elif isinstance(event, BookUpdate):
                self._apply(event)

    def _apply(self, update: BookUpdate) -> None:
        self._counts["updates"] += 1
        try:
            applied = self._books.apply(update)
        except BookError as error:
            self._counts["checksum_mismatches" if error.cause == Cause.CHECKSUM else "gaps"] += 1
            raise
        if applied is Applied.APPLIED:
            self._counts["checksum_matches"] += update.checksum is not None
            self._counts["crossed"] += self._books[update.pair].is_crossed

    def result(self) -> dict[str, Any]:
        """Return the counts and, per pair, the best prices and numbers of levels."""
        pairs = {
            str(pair): {
                "best_bid": book.bids.best,
                "best_ask": book.asks.best,
                "bids": len(book.bids.levels),
                "asks": len(book.asks.levels),
            }
            for pair, book in self._books.items()
        }
        return {**self._counts, "pairs": pairs}


def decode(exchange: str, file: Path) -> None:
    """Print what recorded messages say, one JSON object a line per event."""
    from coin_platform.simulator.recordings import read

    kind = _exchange(exchange)
    for line, frame in read(kind, file):
        try:
            events = kind.decode(frame)
        except DecodeError as error:
            print(json.dumps({"kind": "dead", "line": line, "reason": str(error)}, ensure_ascii=False))
            continue
        for event in events:
            print(json.dumps(_describe(line, event), ensure_ascii=False))


def book(exchange: str, file: Path, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Replay recorded book messages and say whether the books hold."""
    from coin_platform.commands.decode import BookReplay
    from coin_platform.simulator.recordings import read

    kind = _exchange(exchange)
    replay = BookReplay(kind)
    for line, frame in read(kind, file, channel=Channel.ORDERBOOK):
        try:
            replay.feed(frame)
        except (BookError, DecodeError) as error:
            print(f"line {line}: {error}", file=sys.stderr)
    print(json.dumps(replay.result(), indent=None if as_json else 2))


def _exchange(name: str) -> Exchange:
    if name not in EXCHANGES:
        raise typer.BadParameter(f"{name!r} is no exchange; there are {', '.join(EXCHANGES)}")
    return EXCHANGES[name]


def _describe(line: int, event: Event) -> dict[str, Any]:
    import msgspec

    from coin_platform.commands.decode import word_of
    from coin_platform.tables.rows import columns_of

    body = columns_of(event)
    pair: Pair | None = getattr(event, "pair", None)
    return {"kind": word_of(event), "line": line, **({"pair": str(pair)} if pair else {}), **msgspec.to_builtins(body)}
