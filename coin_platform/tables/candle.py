"""Candles -> values of the candle table, and which of a minute's updates counts."""

import polars as pl

from coin_platform.model import Candle

KEY = ("pair", "open_time")  # of one minute; an exchange tells it again and again until it is over


def values(event: Candle) -> tuple[object, ...]:
    """Return the columns from `open_time` to `is_closed` of one row."""
    return (
        event.open_time,
        event.open,
        event.high,
        event.low,
        event.close,
        event.volume,
        event.quote_volume,
        event.is_closed,
    )


def latest(rows: pl.LazyFrame, *key: str) -> pl.LazyFrame:
    """Return one row per `key`, the one that the log accepted last, by `key`."""
    newest_last = rows.sort(*key, "log_time", "offset", "index")
    return newest_last.unique(key, keep="last", maintain_order=True)
