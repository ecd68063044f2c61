"""Names, times and durations as they are written on the command line."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from coin_platform.clock import wall
from coin_platform.errors import BadArgument, UnknownName
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.settings import Settings, load
from coin_platform.times import microseconds_of, minute_text

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def chosen_names(option: str, names: Sequence[str] | None, known_names: Iterable[str]) -> list[str]:
    """Return the chosen names, each once; all known names if none is chosen. Raises `UnknownName`."""
    known = list(known_names)
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UnknownName(f"{option} {unknown[0]}: there is no such name; write one of {', '.join(known)}")
    return list(dict.fromkeys(names or known))


def chosen_exchanges(names: Sequence[str] | None, settings: Settings | None = None) -> list[Exchange]:
    """Return the chosen exchanges; all that are enabled if none is chosen. Raises `UnknownName`."""
    from coin_platform.selection import exchanges_of

    if not names:
        return exchanges_of(None, settings or load())
    return [EXCHANGES[name] for name in chosen_names("--exchange", names, EXCHANGES)]


def parse_time(option: str, text: str) -> Microseconds:
    """Read a time. A time without a zone is UTC. Raises `BadArgument`."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadArgument(f"{option} {text}: this is not a time; write it as 2026-11-24T03:00, in UTC") from None
    return microseconds_of(time if time.tzinfo else time.replace(tzinfo=UTC))


def parse_duration(option: str, text: str) -> Microseconds:
    """Read a length of time: 90s, 15m, 1h, 2d. Raises `BadArgument`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    length = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else timedelta()
    if not length:
        raise BadArgument(f"{option} {text}: this is not a length of time; write it as 90s, 15m, 1h or 2d")
    return length // timedelta(microseconds=1)


def parse_range(start_text: str, stop_text: str | None) -> Window:
    """Read `--from` and `--to`. Without `--to` the range ends now. Raises `BadArgument`."""
    start, stop = parse_time("--from", start_text), wall() if stop_text is None else parse_time("--to", stop_text)
    if start >= stop:
        name = "now" if stop_text is None else "--to"
        raise BadArgument(f"--from {start_text}: this is not before {name}, {minute_text(stop)}; write an earlier time")
    return Window(start, stop)


def parse_windows(
    start_text: str, stop_text: str | None, length: Microseconds, first_start: Microseconds
) -> list[Window]:
    """Read `--from` and `--to` as windows, oldest first. Without `--to` the last window is the last that has ended.

    Raises `BadArgument` for a time that is not the start of a window, or that lies before `first_start`.
    """
    asked = parse_range(start_text, stop_text)
    if asked.start < first_start:
        earliest = minute_text(-(-first_start // length) * length)
        raise BadArgument(f"--from {start_text}: this is before COIN_START; write {earliest} or later")
    for option, text, time in (("--from", start_text, asked.start), ("--to", stop_text, asked.stop)):
        if text is not None and time % length:
            before = time // length * length
            raise BadArgument(
                f"{option} {text}: a window is {length // (60 * SECOND)} minutes long; "
                f"write {minute_text(before)} or {minute_text(before + length)}"
            )
    stop = asked.stop // length * length
    if asked.start >= stop:
        next_end = minute_text(stop + length)
        raise BadArgument(f"--from {start_text}: no window has ended since then; the next one ends at {next_end}")
    return [Window(start, start + length) for start in range(asked.start, stop, length)]
