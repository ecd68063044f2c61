"""Recorded messages: one JSON object a line with source, recorded, transport, url and payload."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from coin_platform.book import Applied, Book
from coin_platform.errors import BookError, ChecksumMismatch, CoinPlatformError
from coin_platform.exchanges.base import Exchange
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Event,
    Frame,
    Kind,
    Microseconds,
    Pair,
    Refused,
    Subscribed,
    Ticker,
    Trade,
)
from coin_platform.preprocess import schema, ticker

_LATE: Microseconds = 4_102_444_800_000_000  # 2100: recordings are of any time before


class RecordingError(CoinPlatformError):
    """A file is not a recording."""


def read(exchange: Exchange, file: Path, channel: Channel | None = None) -> Iterator[tuple[int, Frame]]:
    """Yield line numbers and frames; the file's name has the channel. Raises `RecordingError` with file and line."""
    channel = channel or next((kind for kind in Channel if kind.value in file.stem), Channel.ORDERBOOK)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{file}: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _frame(exchange, channel, file, number, line)


def _frame(exchange: Exchange, channel: Channel, file: Path, number: int, line: str) -> Frame:
    try:
        recorded = json.loads(line)
        payload, transport = recorded["payload"], recorded["transport"]
    except (ValueError, LookupError, TypeError) as error:
        raise RecordingError(f"{file}:{number}: not a recording with transport and payload: {error}") from error
    # A payload that is text is the exact message; a value had no floats and is written as it was.
    text = payload if isinstance(payload, str) else _payload(line)
    return Frame(
        exchange=exchange.name,
        channel=channel,
        connection=file.stem,
        number=number,
        received_time=_LATE,
        payload=text.encode(),
        kind=Kind.REST if transport == "rest" else Kind.SOCKET,
        pair=_pair(exchange, str(recorded.get("url") or "")) if transport == "rest" else None,
    )


def _payload(line: str) -> str:
    """Return the payload's own text: numbers keep the digits they have in the file."""
    decoder = json.JSONDecoder()
    start = line.index('"payload"') + len('"payload"')
    start += len(line[start:]) - len(line[start:].lstrip(" :"))
    _, stop = decoder.raw_decode(line, start)
    return line[start:stop]


def _pair(exchange: Exchange, url: str) -> Pair | None:
    """Return the pair that a REST address asks for, where one of its values is a symbol of the exchange."""
    parts = urlsplit(url)
    values = [value for _, value in parse_qsl(parts.query)]
    path = [part for part in parts.path.split("/") if part]
    for value in [*values, *path, *map("/".join, pairwise(path))]:  # Coinone's symbols are two parts: KRW/BTC
        try:
            pair = exchange.pair(value)
        except (CoinPlatformError, ValueError):
            continue
        if value in values or exchange.symbol(pair) == value:
            return pair
    return None


def kind_of(event: Event) -> str:
    """Return the word for an event: ticker, orderbook, trade, candle, control or error."""
    names = {Ticker: "ticker", BookUpdate: "orderbook", Trade: "trade", Candle: "candle", Refused: "error"}
    return names.get(type(event), "control")


def columns(event: Event) -> dict[str, Any]:
    """Return an event's fields by the names of its table's columns."""
    if isinstance(event, Ticker):
        names = list(schema.TICKER_COLUMNS)[4:]  # behind pair and the three times
        return {"exchange_time": event.exchange_time, **dict(zip(names, ticker.values(event), strict=False))}
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "pair"}
    return {name: value for name, value in fields.items() if value is not None}


class Replay:
    """Recorded book messages, replayed as the collector would take them."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._books: dict[Pair, Book] = {}
        self._counts = dict.fromkeys(("updates", "gaps", "checksum_matches", "checksum_mismatches", "crossed"), 0)

    def feed(self, frame: Frame) -> None:
        """Take a message. Raises `BookError` when a book is lost, `DecodeError` for what is no message."""
        for event in self._exchange.decode(frame):
            if isinstance(event, Subscribed) and event.pair is not None and event.depth is not None:
                self._book(event.pair).depth = event.depth
            elif isinstance(event, BookUpdate):
                self._apply(event)

    def _apply(self, update: BookUpdate) -> None:
        book = self._book(update.pair)
        self._counts["updates"] += 1
        try:
            applied = self._exchange.apply(book, update)
        except BookError as error:
            self._counts["checksum_mismatches" if isinstance(error, ChecksumMismatch) else "gaps"] += 1
            raise
        if applied is Applied.APPLIED:
            self._counts["checksum_matches"] += update.checksum is not None
            self._counts["crossed"] += book.is_crossed

    def _book(self, pair: Pair) -> Book:
        if pair not in self._books:
            self._books[pair] = self._exchange.book()
        return self._books[pair]

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
