"""P1 to P4, P14: from the bytes of messages to tables and files."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from pydantic import BaseModel

from benchmarks import seeds
from benchmarks.compare import Outcome, in_turns, same
from benchmarks.messages import START, books, data
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import SECOND, Channel, Window
from coin_platform.records import Record
from coin_platform.tables.dataframes import batch

COUNT, BOOKS = 20_000, 2_000
HOUR = 3600 * SECOND


def run(folder: Path) -> Iterator[Outcome]:
    """Measure. `folder` is not used."""
    source, records = data("okx", Channel.TICKER, COUNT, b'"data"')
    yield _tickers(source, records)
    yield from _malformed(source, records)
    yield _stored(source, records)
    yield from _books("P2", "book of string pairs", *_cut(*books("bybit", BOOKS)), seeds.Book, (3.0, 1.7))
    yield from _books("P3", "book of objects", *books("upbit", BOOKS), seeds.Units, (8.0, 2.5))


def _cut(source: Source, records: list[Record]) -> tuple[Source, list[Record]]:
    """Return the books with at most 50 levels a side."""
    bodies = [json.loads(record.value) for record in records]
    for body in bodies:
        body["data"].update(b=body["data"]["b"][:50], a=body["data"]["a"][:50])
    values = [json.dumps(body, separators=(",", ":")).encode() for body in bodies]
    return source, [record._replace(value=value) for record, value in zip(records, values, strict=True)]


def _tickers(source: Source, records: list[Record]) -> Outcome:
    ours, (theirs, _) = batch(source, records).rows, seeds.tickers(source, records)
    _same_table(ours, theirs)
    taken = in_turns({"ours": lambda: batch(source, records), "seeds": lambda: seeds.tickers(source, records)})
    scale = 1e6 / len(records)  # µs a message
    note = f"{taken['ours'] * scale:.1f} against {taken['seeds'] * scale:.1f} µs a message, all its checks and columns"
    return Outcome(
        "P1", "ticker bytes to DataFrame, against pydantic", taken["seeds"] / taken["ours"], must=10, note=note
    )


def _same_table(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    expected = ours.select(seeds.TICKER).with_columns(pl.col(pl.Datetime).to_physical())
    results = theirs.select(seeds.TICKER).cast(dict(expected.schema))  # type: ignore[arg-type]
    exact = [name for name in seeds.TICKER if not name.startswith("change")]
    same(expected.select(exact).equals(results.select(exact)), True, "P1")
    difference = (expected["change_rate_24h"] - results["change_rate_24h"]).abs().max()
    same(isinstance(difference, float) and difference < 1e-12, True, "P1, the rate")


def _malformed(source: Source, records: list[Record]) -> Iterator[Outcome]:
    """Measure with every 1000th, and with every 10th, message cut in half."""
    for every, must in ((1000, 1.1), (10, 1.3)):
        bad = [
            record._replace(value=record.value[: len(record.value) // 2]) if not record.offset % every else record
            for record in records
        ]
        tables = batch(source, bad)
        dead = [record.offset for record in records if not record.offset % every]
        same(tables.dead["offset"].to_list(), dead, "P4, the dead frames")
        same(tables.rows.height, len(records) - len(dead), "P4, the rows")
        taken = in_turns({"clean": lambda: batch(source, records), "bad": lambda bad=bad: batch(source, bad)})  # type: ignore[misc]
        yield Outcome(
            "P4",
            f"time with {100 / every:g} % malformed, to clean",
            taken["bad"] / taken["clean"],
            must=must,
            is_least=False,
        )


def _stored(source: Source, records: list[Record]) -> Outcome:
    """Measure the stored size of tickers, with the identity and the place of every row."""
    rows, size = batch(source, records).rows, sum(len(record.value) for record in records)
    lake, start = Lake(MemoryStore(), HOUR), START // HOUR * HOUR
    commit = lake.commit("ticker", "okx", Window(start, start + HOUR), rows, {})
    note = f"{commit.bytes / rows.height:.0f} B a row from {size / len(records):.0f} B of JSON"
    return Outcome(
        "P14", "stored bytes of a ticker to its JSON", commit.bytes / size, must=1 / 8, is_least=False, note=note
    )


def _books(
    id: str, what: str, source: Source, records: list[Record], model: type[BaseModel], must: tuple[float, float]
) -> Iterator[Outcome]:
    names = ["best_bid", "best_ask", "spread", "total_bid_size", "total_ask_size"]

    def ours() -> list[tuple[float, ...]]:
        return batch(source, records).rows.sort("offset").select(names).rows()

    def decimals() -> list[tuple[float, ...]]:
        return [seeds.book_of_decimals(model, record.value) for record in records]

    def floats() -> list[tuple[float, ...]]:
        return [seeds.book_of_floats(record.value) for record in records]

    same([_near(top) for top in ours()], [_near(top) for top in decimals()], id)
    same([_near(top) for top in ours()], [_near(top) for top in floats()], id)
    taken = in_turns({"ours": ours, "decimals": decimals, "floats": floats})
    scale = 1e6 / len(records)  # µs a message
    note = f"{taken['ours'] * scale:.0f} µs with the best ten levels and a book that lives"
    yield Outcome(
        id, f"{what}, against pydantic and Decimal", taken["decimals"] / taken["ours"], must=must[0], note=note
    )
    yield Outcome(id, f"{what}, against a loop of floats", taken["floats"] / taken["ours"], must=must[1])


def _near(top: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in top)
