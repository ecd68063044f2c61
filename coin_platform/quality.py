"""Rules over tables: what must hold before a window may be trusted."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl


class Finding(NamedTuple):
    """The result of one rule: whether it holds, one sentence, and the numbers behind it."""

    rule: str
    passed: bool
    sentence: str
    numbers: dict[str, int]


def tiling(offsets: pl.Series, start: int, stop: int) -> Finding:
    """Every offset of `[start, stop)` is in the raw table, once."""
    found = offsets.n_unique()
    double = offsets.len() - found
    missing = stop - start - offsets.filter((offsets >= start) & (offsets < stop)).n_unique()
    passed = not missing and not double and found == stop - start
    sentence = f"{found} of the {stop - start} records of the window, {missing} missing, {double} double"
    return Finding("conservation", passed, sentence, {"records": found, "missing": missing, "double": double})


def conservation(rows: pl.DataFrame, counts: Mapping[str, int]) -> Finding:
    """Frames in = frames with rows + dead + declared others, and the rows are really there."""
    ends = sum(count for name, count in counts.items() if name.startswith("frames_"))
    stored = rows["offset"].n_unique()
    double = rows.height - rows.select("offset", "index").n_unique()
    passed = counts["frames"] == ends and stored == counts["frames_rows"] and not double
    sentence = (
        f"{counts['frames']} frames in, {stored} stored as rows, {ends - counts['frames_rows']} accounted otherwise"
    )
    return Finding("conservation", passed, sentence, {"frames": counts["frames"], "stored": stored, "double": double})


def columns(rows: pl.DataFrame, schema: pl.Schema) -> Finding:
    """The table has exactly the columns and types that it should have, and says where each row is from."""
    wrong = [name for name in {**schema, **rows.schema} if rows.schema.get(name) != schema.get(name)]
    origin = [name for name in ("pair", "topic", "partition", "offset", "received_time") if name in rows.columns]
    empty = sum(rows[name].null_count() for name in origin)
    sentence = (
        f"columns {', '.join(wrong)} differ" if wrong else f"all {len(schema)} columns, {empty} rows without origin"
    )
    return Finding("schema", not wrong and not empty, sentence, {"wrong_columns": len(wrong), "no_origin": empty})


def crossed(rows: pl.DataFrame) -> Finding:
    """The best bid is below the best ask in every row that has both."""
    bad = rows.filter(pl.col("best_bid") >= pl.col("best_ask"))
    pairs = ", ".join(sorted(bad["pair"].unique()))
    sentence = f"{bad.height} rows are crossed: {pairs}" if bad.height else f"none of {rows.height} rows is crossed"
    return Finding("crossed_book", not bad.height, sentence, {"rows": rows.height, "crossed": bad.height})
