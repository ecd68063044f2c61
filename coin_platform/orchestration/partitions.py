"""Windows as Dagster partitions, also where the clock of a process is behind."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.settings import Settings

FORMAT = "%Y-%m-%d-%H:%M"  # of a partition key

_by_our_clock = dg.TimeWindowPartitionsDefinition._get_current_timestamp
_latest_come = 0.0  # seconds since 1970


def has_come(time: Microseconds) -> None:
    """Have every window that is over at `time` exist in this process from now on.

    To Dagster a window exists once it is over by the clock of the process. Where that clock is behind, a run of a
    window that is closed by the clock of its log would fail, and so would the sensor that asks for it.
    """
    global _latest_come
    _latest_come = max(_latest_come, time / SECOND)


def _current_timestamp(partitions: dg.TimeWindowPartitionsDefinition) -> float:
    return max(_by_our_clock(partitions), _latest_come)


dg.TimeWindowPartitionsDefinition._get_current_timestamp = _current_timestamp  # type: ignore[method-assign, assignment]


def windows(settings: Settings) -> dg.TimeWindowPartitionsDefinition:
    """Return the partitions of all tables: windows of COIN_WINDOW from COIN_START on, UTC."""
    minutes = settings.window // timedelta(minutes=1)
    schedule = "0 * * * *" if minutes == 60 else f"*/{minutes} * * * *"
    start = settings.start.strftime(FORMAT)
    return dg.TimeWindowPartitionsDefinition(cron_schedule=schedule, start=start, fmt=FORMAT, timezone="UTC")


def window_of(key: str, length: Microseconds) -> Window:
    """Return the window that a partition key names."""
    start = int(datetime.strptime(key, FORMAT).replace(tzinfo=UTC).timestamp()) * SECOND
    return Window(start, start + length)


def key_of(window: Window) -> str:
    """Return the partition key of a window."""
    return datetime.fromtimestamp(window.start // SECOND, UTC).strftime(FORMAT)


def grace_length(settings: Settings) -> Microseconds:
    """Return the time after a window's end in which its last records may still arrive: COIN_GRACE in µs."""
    return int(settings.grace.total_seconds() * SECOND)
