"""How exchanges write numbers, times, symbols and lists."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TypeVar

import msgspec

from coin_platform.errors import UnknownPair
from coin_platform.model import SECOND, Microseconds, Pair
from coin_platform.times import EPOCH

_LEAP_SECOND = re.compile(r"([T ]\d\d:?59:?)60")  # zones differ from UTC by whole hours, so its minute is 59 in all
# Every error that a malformed frame can raise in an adapter. `Exchange.decode` makes a `DecodeError` of them.
PARSE_ERRORS = (msgspec.MsgspecError, UnknownPair, ValueError, ArithmeticError, LookupError, RecursionError)
ABSENT = msgspec.Raw(b"")  # the value of a field that a message leaves out
_STEP_DIGITS = 30  # behind the point: no market has more
T = TypeVar("T")
decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


def number(raw: msgspec.Raw | str | None) -> str | None:
    """Return the exchange's own digits of a number, or None for null and the empty text."""
    if raw is None or isinstance(raw, str):
        return raw or None
    text = bytes(raw).decode()
    return text.strip('"') if text not in ("", "null", '""') else None


def last_price(raw: msgspec.Raw | str | None) -> str:
    """Return the exchange's own digits of a last price; the empty text where `price` returns None."""
    return price(raw) or ""


def price(raw: msgspec.Raw | str | None) -> str | None:
    """Return the exchange's own digits of a price; None for null, the empty text and 0, which mean "no price"."""
    text = number(raw)
    return None if text is None or float(text) == 0 else text


def step(digits: int | None) -> str | None:
    """Return the step of a number that has so many digits behind the point: 0.001 for 3. Raises `ValueError`."""
    if digits is None:
        return None
    if not 0 <= digits <= _STEP_DIGITS:
        raise ValueError(f"{digits} digits behind the point cannot be")
    return f"0.{'1'.rjust(digits, '0')}" if digits else "1"


def from_milliseconds(value: int) -> Microseconds:
    """Return a time given in whole ms since 1970."""
    return value * 1000


def from_rfc3339(text: str) -> Microseconds | None:
    """Return a time written like `2026-08-02T03:35:51.660084Z`; None for 1970 and before, which mean "unknown".

    A leap second, `23:59:60`, becomes the second after it, because our times have no leap seconds.
    Raises `ValueError`.
    """
    try:
        time, leap = datetime.fromisoformat(text), 0
    except ValueError:
        before, leap = _LEAP_SECOND.subn(r"\g<1>59", text)
        if not leap:
            raise
        time = datetime.fromisoformat(before)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - EPOCH) // timedelta(microseconds=1) + leap * SECOND if time.year > 1970 else None


def difference(value: str | None, base: str | None) -> str | None:
    """Return `value - base` as a plain decimal, exact to the last digit of both texts; None where one is unknown."""
    if not value or not base:
        return None
    return f"{Decimal(value) - Decimal(base):f}"


def split_symbol(symbol: str, quotes: Iterable[str], known: Mapping[str, str]) -> Pair:
    """Return the pair of a symbol without a separator, by the quote currency at its end.

    `known` holds the quote currency of those symbols that end in two of `quotes`. Raises `UnknownPair` for every other
    symbol that does not end in exactly one of `quotes`.
    """
    matches = [known[symbol]] if symbol in known else [quote for quote in quotes if symbol.endswith(quote)]
    if len(matches) != 1:
        endings = " or ".join(matches) or "no known quote currency"
        raise UnknownPair(f"{symbol[:80]!r} cannot be split into base and quote: it ends in {endings}")
    return Pair.read(f"{symbol.removesuffix(matches[0])}-{matches[0]}")


def chunks(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Yield the items in tuples of at most `size`."""
    rest = iter(items)
    while chunk := tuple(islice(rest, size)):
        yield chunk
