"""Times and stretches of time, as they are written on the command line."""

import re
import time
from datetime import UTC, datetime, timedelta

from coin_platform.errors import CoinPlatformError
from coin_platform.model import Microseconds, Window

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class BadTime(CoinPlatformError):
    """A time on the command line cannot be used; the line says what to write."""


def now() -> Microseconds:
    """Return the time, UTC."""
    return time.time_ns() // 1000


def moment_of(time: Microseconds) -> datetime:
    """Return a time as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=time)


def text(moment: Microseconds) -> str:
    """Write a time as it is read: 2026-11-24T03:00."""
    return moment_of(moment).replace(tzinfo=None).isoformat(timespec="minutes")


def moment(option: str, written: str) -> Microseconds:
    """Read a time; without a zone it is UTC. Raises `BadTime`."""
    try:
        found = datetime.fromisoformat(written.strip())
    except ValueError:
        raise BadTime(f"{option} {written}: not a time; write it as 2026-11-24T03:00, in UTC") from None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def duration(option: str, written: str) -> Microseconds:
    """Read a length of time: 90s, 15m, 1h, 2d. Raises `BadTime`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", written.strip())
    length = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else timedelta()
    if not length:
        raise BadTime(f"{option} {written}: not a length of time; write it as 90s, 15m, 1h or 2d")
    return length // timedelta(microseconds=1)


def stretch(start: str, end: str | None) -> Window:
    """Read `--from` and `--to`; by default it ends now. Raises `BadTime`."""
    begin, stop = moment("--from", start), now() if end is None else moment("--to", end)
    if begin >= stop:
        until = "now" if end is None else "--to"
        raise BadTime(f"--from {start}: not before {until}, {text(stop)}; write an earlier time")
    return Window(begin, stop)


def whole_windows(start: str, end: str | None, length: Microseconds, first: Microseconds) -> list[Window]:
    """Read `--from` and `--to` (by default the last boundary) as windows, oldest first.

    Raises `BadTime` for what is not the beginning of a window, or lies before `first`.
    """
    asked = stretch(start, end)
    stop = asked.stop // length * length
    if asked.start < first:
        raise BadTime(f"--from {start}: before COIN_START; write {text(-(-first // length) * length)} or later")
    for option, written, at in (("--from", start, asked.start), ("--to", end, asked.stop)):
        if written is not None and at % length:
            before = at // length * length
            raise BadTime(
                f"{option} {written}: windows are {length // 60_000_000} minutes long; "
                f"write {text(before)} or {text(before + length)}"
            )
    if asked.start >= stop:
        raise BadTime(f"--from {start}: no window has ended since then; the next one ends at {text(stop + length)}")
    return [Window(begin, begin + length) for begin in range(asked.start, stop, length)]
