"""Rows of many Parquet files as one lazy frame, whose failures are told by whoever knows the files."""

from collections.abc import Callable, Iterator

import polars as pl
from polars.io.plugins import register_io_source


def told(frame: pl.LazyFrame, schema: pl.Schema, explain: Callable[[BaseException], None]) -> pl.LazyFrame:
    """Return a frame of the same rows; when polars fails to read them, `explain` may raise another error instead.

    Columns, conditions and limits are passed on to the files, and rows come in batches, as without this.
    """

    def batches(
        columns: list[str] | None, predicate: pl.Expr | None, most: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = frame if predicate is None else frame.filter(predicate)
        wanted = wanted if columns is None else wanted.select(columns)
        wanted = wanted if most is None else wanted.head(most)
        try:
            yield from wanted.collect_batches(chunk_size=size)
        except (Exception, pl.exceptions.PanicException) as error:
            explain(error)
            raise

    return register_io_source(batches, schema=schema)
