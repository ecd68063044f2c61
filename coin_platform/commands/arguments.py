"""Names of things, as they are chosen on the command line."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from coin_platform.clock import wall
from coin_platform.errors import BadArgument, UnknownName
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Microseconds, Window
from coin_platform.settings import Settings, load


def chosen(option: str, names: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """Return the chosen names, by default all. Raises `UnknownName`."""
    there = list(known)
    unknown = [name for name in names or () if name not in there]
    if unknown:
        raise UnknownName(f"{option} {unknown[0]}: there is no such; there are {', '.join(there)}")
    return list(dict.fromkeys(names or there))


def exchanges_named(names: Sequence[str] | None, settings: Settings | None = None) -> list[Exchange]:
    """Return the chosen exchanges, by default all that are enabled. Raises `UnknownName`."""
    from coin_platform.selection import exchanges_of

    if not names:
        return exchanges_of(None, settings or load())
    return [EXCHANGES[name] for name in chosen("--exchange", names, EXCHANGES)]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment_of(time: Microseconds) -> datetime:
    """Return a time as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=time)


def text(moment: Microseconds) -> str:
    """Write a time as it is read: 2026-11-24T03:00."""
    return moment_of(moment).replace(tzinfo=None).isoformat(timespec="minutes")


def moment(option: str, written: str) -> Microseconds:
    """Read a time; without a zone it is UTC. Raises `BadArgument`."""
    try:
        found = datetime.fromisoformat(written.strip())
    except ValueError:
        raise BadArgument(f"{option} {written}: not a time; write it as 2026-11-24T03:00, in UTC") from None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def duration(option: str, written: str) -> Microseconds:
    """Read a length of time: 90s, 15m, 1h, 2d. Raises `BadArgument`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", written.strip())
    length = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else timedelta()
    if not length:
        raise BadArgument(f"{option} {written}: not a length of time; write it as 90s, 15m, 1h or 2d")
    return length // timedelta(microseconds=1)


def stretch(start: str, end: str | None) -> Window:
    """Read `--from` and `--to`; by default it ends now. Raises `BadArgument`."""
    begin, stop = moment("--from", start), wall() if end is None else moment("--to", end)
    if begin >= stop:
        until = "now" if end is None else "--to"
        raise BadArgument(f"--from {start}: not before {until}, {text(stop)}; write an earlier time")
    return Window(begin, stop)


def whole_windows(start: str, end: str | None, length: Microseconds, first: Microseconds) -> list[Window]:
    """Read `--from` and `--to` (by default the last boundary) as windows, oldest first.

    Raises `BadArgument` for what is not the beginning of a window, or lies before `first`.
    """
    asked = stretch(start, end)
    stop = asked.stop // length * length
    if asked.start < first:
        raise BadArgument(f"--from {start}: before COIN_START; write {text(-(-first // length) * length)} or later")
    for option, written, at in (("--from", start, asked.start), ("--to", end, asked.stop)):
        if written is not None and at % length:
            before = at // length * length
            raise BadArgument(
                f"{option} {written}: windows are {length // 60_000_000} minutes long; "
                f"write {text(before)} or {text(before + length)}"
            )
    if asked.start >= stop:
        raise BadArgument(f"--from {start}: no window has ended since then; the next one ends at {text(stop + length)}")
    return [Window(begin, begin + length) for begin in range(asked.start, stop, length)]
