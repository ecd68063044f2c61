"""Candles -> values of the candle table."""

from coin_platform.model import Candle


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
