"""Ticker events -> values of the ticker table, derived ones included."""

import math

from coin_platform.exchanges.parsing import difference
from coin_platform.model import Ticker


def values(event: Ticker) -> tuple[float | None, ...]:
    """Return the columns from `last` to `best_ask_size` of one row.

    Values that the exchange sends are kept. A missing open, change or rate is computed if the other two are known.
    """
    change_24h = event.change_24h or difference(event.last, event.open_24h)
    open_24h = event.open_24h or difference(event.last, event.change_24h)
    change_day = event.change_day or difference(event.last, event.prev_close_day or event.open_day)
    return (
        float(event.last),
        _float(open_24h),
        _float(event.high_24h),
        _float(event.low_24h),
        _float(change_24h),
        _float(event.change_rate_24h) if event.change_rate_24h else _rate(change_24h, open_24h),
        _float(event.open_day),
        _float(event.high_day),
        _float(event.low_day),
        _float(event.prev_close_day),
        _float(change_day),
        _float(event.change_rate_day)
        if event.change_rate_day
        else _rate(change_day, event.prev_close_day or event.open_day),
        _float(event.volume_24h),
        _float(event.quote_volume_24h),
        _float(event.best_bid),
        _float(event.best_bid_size),
        _float(event.best_ask),
        _float(event.best_ask_size),
    )


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)


def _rate(change: str | None, base: str | None) -> float | None:
    if change is None or base is None or float(base) == 0:
        return None
    rate = float(change) / float(base)
    return rate if math.isfinite(rate) else None  # not finite: the base is nearly 0
