"""`coin decode` and `coin book`: print what recorded messages say."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from coin_platform.book import Applied
from coin_platform.commands.output import print_json
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

_EVENT_NAMES = {Ticker: "ticker", BookUpdate: "orderbook", Trade: "trade", Candle: "candle", Refused: "error"}

ExchangeArgument: TypeAlias = Annotated[str, typer.Argument(help="for example upbit")]
FileArgument: TypeAlias = Annotated[Path, typer.Argument(help="a recording, as `coin capture` writes it")]


def decode(exchange: ExchangeArgument, file: FileArgument) -> None:
    """Print the events of recorded messages, one JSON object a line."""
    from coin_platform.simulator.recordings import read

    adapter = _exchange(exchange)
    for line, frame in read(adapter, file):
        try:
            events = adapter.decode(frame)
        except DecodeError as error:
            print_json([{"kind": "dead", "line": line, "reason": str(error)}])
            continue
        print_json(_describe(line, event) for event in events)


def book(
    exchange: ExchangeArgument,
    file: FileArgument,
    as_json: Annotated[bool, typer.Option("--json", help="on one line")] = False,
) -> None:
    """Replay recorded order book messages, and print whether the books hold."""
    from coin_platform.simulator.recordings import read

    adapter = _exchange(exchange)
    replay = BookReplay(adapter)
    for line, frame in read(adapter, file, channel=Channel.ORDERBOOK):
        try:
            replay.feed(frame)
        except (BookError, DecodeError) as error:
            print(f"line {line}: {error}", file=sys.stderr)
    print(json.dumps(replay.result(), indent=None if as_json else 2))


class BookReplay:
    """Applies recorded book messages to books, as a collector does."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._books = BookShelf(exchange)
        self._counts = dict.fromkeys(("updates", "gaps", "checksum_matches", "checksum_mismatches", "crossed"), 0)

    def feed(self, frame: Frame) -> None:
        """Apply the updates of a message. Raises `BookError` if a book loses its proof, `DecodeError` if unreadable."""
        for event in self._exchange.decode(frame):
            if isinstance(event, Subscribed):
                self._books.set_depth(event.pair, event.depth)
            elif isinstance(event, BookUpdate):
                self._apply(event)

    def result(self) -> dict[str, Any]:
        """Return the counts and, for each pair, the best prices and the numbers of levels."""
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


def event_name(event: Event) -> str:
    """Return the word for an event: ticker, orderbook, trade, candle, control or error."""
    return _EVENT_NAMES.get(type(event), "control")


def _describe(line: int, event: Event) -> dict[str, Any]:
    from coin_platform.tables.rows import columns_of

    pair: Pair | None = getattr(event, "pair", None)
    head = {"kind": event_name(event), "line": line, **({"pair": str(pair)} if pair else {})}
    return {**head, **msgspec.to_builtins(columns_of(event))}


def _exchange(name: str) -> Exchange:
    if name not in EXCHANGES:
        raise typer.BadParameter(f"{name!r} is not an exchange; write one of {', '.join(EXCHANGES)}")
    return EXCHANGES[name]
