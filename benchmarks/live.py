"""P12 and P13: the time of the worker for each message, and for each change of a book."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from benchmarks import seeds
from benchmarks.compare import Outcome, in_turns, same
from benchmarks.messages import data
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import BookUpdate, Channel
from coin_platform.tables.processed import encode
from coin_platform.tables.transform import Transform
from tests.kit.recordings import events

COUNT = 10_000
RECORDED = {"coinbase": "book_sequence_1", "kraken": "book_sequence_2", "okx": "book_sequence_1"}
FEW_LEVELS = 5  # of a message: with more of them, it is worth less to keep the best price

Tops: TypeAlias = list[tuple[float | None, float | None]]


def run(folder: Path) -> Iterator[Outcome]:
    """Measure. `folder` is not used."""
    yield _processed()
    yield from (_replayed(exchange, stem) for exchange, stem in RECORDED.items())


def _processed() -> Outcome:
    source, records = data("okx", Channel.TICKER, COUNT, b'"data"')

    def ours() -> list[bytes]:
        transform = Transform(source, 0)
        return [
            encode(source.exchange, source.channel, entry) for record in records for entry in transform.entries(record)
        ]

    decode = msgspec.json.decode
    expected = [decode(value) for value in seeds.processed(source, records)]
    results = [{name: body[name] for name in expected[0]} for body in map(decode, ours())]
    same(results, expected, "P12")
    taken = in_turns({"ours": ours, "seeds": lambda: seeds.processed(source, records)})
    scale = 1e6 / len(records)  # µs a message
    note = f"{taken['ours'] * scale:.1f} against {taken['seeds'] * scale:.1f} µs a message"
    return Outcome("P12", "raw to processed JSON, against pydantic", taken["seeds"] / taken["ours"], must=12, note=note)


def _replayed(exchange: str, stem: str) -> Outcome:
    """Replay recorded changes ten times, with the best prices after each message."""
    updates = [event for event in events(exchange, stem) if isinstance(event, BookUpdate)]
    first = next(at for at, update in enumerate(updates) if update.is_snapshot)
    pair = updates[first].pair
    updates = [update for update in updates[first:] if update.pair == pair]

    def ours() -> Tops:
        book, tops = EXCHANGES[exchange].book(), list[tuple[float | None, float | None]]()
        for update in updates:
            book.apply(update)
            tops.append((book.bids.best, book.asks.best))
        return tops

    same(ours(), _maximum(updates), f"P13 {exchange}")
    taken = in_turns({"ours": _times(ours), "maximum": _times(lambda: _maximum(updates))})
    scale = 1e6 / len(updates) / 10  # µs a message
    levels = sum(len(update.bids) + len(update.asks) for update in updates[1:]) / max(1, len(updates) - 1)
    note = f"{taken['ours'] * scale:.1f} µs a message of {levels:.1f} levels"
    what = f"{exchange}'s recorded book, against max() per message"
    must = 5 if levels < FEW_LEVELS else None
    return Outcome("P13", what, taken["maximum"] / taken["ours"], must=must, note=note)


def _times(work: Callable[[], object]) -> Callable[[], object]:
    return lambda: [work() for _ in range(10)]


def _maximum(updates: list[BookUpdate]) -> Tops:
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    tops: Tops = []
    for update in updates:
        if update.is_snapshot:
            bids, asks = {}, {}
        for side, levels in ((bids, update.bids), (asks, update.asks)):
            for level in levels:
                if level.size:
                    side[level.price] = level.size
                else:
                    side.pop(level.price, None)
        tops.append((max(bids, default=None), min(asks, default=None)))
    return tops
