"""Times in `Microseconds` as datetimes, and to the minute as commands take them. All are UTC."""

from datetime import UTC, datetime, timedelta

from coin_platform.model import Microseconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def datetime_of(time: Microseconds) -> datetime:
    """Return a time as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=time)


def microseconds_of(moment: datetime) -> Microseconds:
    """Return a datetime as a time, exact to the microsecond. Raises `TypeError` if it has no time zone."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def minute_text(time: Microseconds) -> str:
    """Return a time to the minute: 2026-11-24T03:00."""
    return f"{datetime_of(time):%Y-%m-%dT%H:%M}"
