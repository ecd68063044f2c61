"""Times as the JSON records of the processed topics and of `MarketGaps` write them."""

from datetime import UTC, datetime
from functools import lru_cache

from coin_platform.model import SECOND, Microseconds


def time_text(time: Microseconds | None) -> str | None:
    """Return a time as text: `2024-10-23 10:25:00.050791+00:00`."""
    if time is None:
        return None
    seconds, microseconds = divmod(time, SECOND)
    return f"{_second_text(seconds)}.{microseconds:06}+00:00"


@lru_cache(maxsize=256)  # most records of one moment name the same few seconds
def _second_text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
