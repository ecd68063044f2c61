"""Rows across windows as one lazy frame, with the rows of windows that have not closed yet."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

import polars as pl
from polars.io.plugins import register_io_source

from coin_platform.errors import LakeError
from coin_platform.lake.landing import LandingStore
from coin_platform.lake.layout import Layout, microseconds
from coin_platform.lake.objects import StoredWindow, WindowObjects
from coin_platform.lake.store import Store
from coin_platform.model import Microseconds, Pair, Window
from coin_platform.tables import schema

LATEST = timedelta(hours=24)  # as long as a frame may wait for the broker: rows of a time lie in windows so much later


class Scanner:
    """Makes lazy frames of the committed windows of a lake and of its landing objects."""

    def __init__(self, store: Store, layout: Layout, objects: WindowObjects, landing: LandingStore) -> None:
        self._store, self._layout, self._objects, self._landing = store, layout, objects, landing

    def scan(
        self,
        table: str,
        exchanges: Iterable[str] | None,
        start: datetime | None,
        end: datetime | None,
        late: timedelta,
        pairs: Iterable[Pair | str] | None,
    ) -> pl.LazyFrame:
        """Return rows as `Lake.scan` documents. Raises `LakeError` when there is no window to read."""
        first, last = schema.SPANS.get(table, ("received_time", "received_time"))
        begin = microseconds(start if first == last else start - late) if start else None
        stop = None if end is None else microseconds(end + late)
        names = (
            list(dict.fromkeys((*self._layout.exchanges(table), *self._landing.keys(table))))
            if exchanges is None
            else list(exchanges)
        )
        committed = {name: list(self._layout.windows(table, name, begin, stop)) for name in names}
        # Landing objects are listed after the windows. A window that is committed meanwhile is then missing here, and
        # its rows are not read twice.
        landed: dict[str | None, list[str]] = dict(self._landing.keys(table).items())
        newest = max((window for windows in committed.values() for window in windows), default=None)
        keys = (
            [newest[1]] if newest else [key for name in committed.keys() & landed.keys() for key in landed[name][-1:]]
        )
        if not keys:
            raise LakeError(
                f"{self._store.uri(table)}: no window between {start} and {end}; "
                "is it materialised, is COIN_LAKE_URL the right place?"
            )
        columns = self._schema(keys[0])
        frames = []
        for name, windows in committed.items():
            parts = [self._rows([key for _, key in windows], columns, keys[0])] if windows else []
            if name in landed:
                parts.append(self._tail(self._rows(landed[name], columns, keys[0]), windows, begin, stop))
            frames += [part.with_columns(*_constant("exchange", name)) for part in parts]
        rows, conditions = pl.concat(frames), list(_conditions(columns, last, first, start, end, pairs))
        if first == last:
            return schema.latest(table, rows.filter(*conditions), "exchange")
        return schema.latest(table, rows, "exchange").filter(*conditions)  # the last row alone knows the last moment

    def _tail(
        self,
        landed: pl.LazyFrame,
        windows: list[tuple[Window, str]],
        start: Microseconds | None,
        stop: Microseconds | None,
    ) -> pl.LazyFrame:
        """Return the landed rows of windows that overlap `[start, stop)` and are not committed."""
        length = self._layout.window
        window = pl.col("log_time").to_physical() // length * length
        conditions = [~window.is_in([committed.start for committed, _ in windows])]
        if start is not None:
            conditions.append(window > start - length)
        if stop is not None:
            conditions.append(window < stop)
        return landed.filter(conditions).unique(["topic", "partition", "offset", "index"], keep="last")

    def _schema(self, key: str) -> pl.Schema:
        """Return the columns of an object."""
        if not self._landing.holds(key):
            self._objects.version(key)
        try:
            return self._files([key]).collect_schema()
        except (Exception, pl.exceptions.PanicException) as error:
            self._explain([key], None, error)
            raise

    def _rows(self, keys: list[str], schema: pl.Schema, newest: str) -> pl.LazyFrame:
        """Return the rows of objects, with the columns of the newest one."""
        return _with_explained_errors(
            self._files(keys, schema), schema, partial(self._explain, [newest, *keys], schema)
        )

    def _files(self, keys: list[str], schema: pl.Schema | None = None) -> pl.LazyFrame:
        return pl.scan_parquet(
            [self._store.source(key) for key in keys],  # type: ignore[arg-type]  # a store gives sources of one type
            schema=schema,
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            glob=False,
            storage_options=dict(self._store.scan_options) or None,
        )

    def _explain(self, keys: list[str], schema: pl.Schema | None, error: BaseException) -> None:
        """Raise `LakeError` that names the object because of which polars failed, if it is one of these."""
        text = str(error)
        for key in sorted(keys, key=lambda key: key not in text):
            content = self._landing.read(key) if self._landing.holds(key) else self._objects.load(key)
            if content is None:
                raise LakeError(f"{self._store.uri(key)} was removed while it was read: scan again") from error
            rows = content.rows if isinstance(content, StoredWindow) else content
            wrong = [name for name, dtype in rows.schema.items() if schema and schema.get(name, dtype) != dtype]
            if wrong:
                raise LakeError(
                    f"{self._store.uri(key)}: {', '.join(wrong)} has another type than in the newest window: "
                    f"{self._objects.remedy(key)}"
                ) from error


def _with_explained_errors(
    frame: pl.LazyFrame, schema: pl.Schema, explain: Callable[[BaseException], None]
) -> pl.LazyFrame:
    """Return a frame of the same rows. When polars fails to read them, `explain` may raise another error instead.

    Columns, conditions and limits are passed on to the files, and rows come in batches, as without this.
    """

    def batches(
        columns: list[str] | None, predicate: pl.Expr | None, most: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        rows = frame if predicate is None else frame.filter(predicate)
        rows = rows if columns is None else rows.select(columns)
        rows = rows if most is None else rows.head(most)
        try:
            yield from rows.collect_batches(chunk_size=size)
        except (Exception, pl.exceptions.PanicException) as error:
            explain(error)
            raise

    return register_io_source(batches, schema=schema)


def _constant(name: str, value: str | None) -> list[pl.Expr]:
    return [] if value is None else [pl.lit(value).alias(name)]


def _conditions(
    schema: pl.Schema,
    last: str,
    first: str,
    start: datetime | None,
    end: datetime | None,
    pairs: Iterable[Pair | str] | None,
) -> Iterator[pl.Expr]:
    """Yield what keeps the rows of `[start, end)`: `first` and `last` name the times that a row spans."""
    if start is not None and last in schema:
        yield pl.col(last).is_null() & (first != last) | (pl.col(last) >= start)
    if end is not None and first in schema:
        yield pl.col(first) < end
    if pairs is not None and "pair" in schema:
        yield pl.col("pair").is_in([str(pair) for pair in pairs])
