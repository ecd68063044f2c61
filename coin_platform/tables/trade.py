"""Trades -> values of the trade table."""

from coin_platform.model import Trade


def values(event: Trade) -> tuple[object, ...]:
    """Return the columns from `id` to `side` of one row."""
    return event.id, event.price, event.size, None if event.side is None else event.side.value
