"""How exchanges write numbers, times, symbols and lists."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TypeVar

import msgspec

from coin_platform.errors import UnknownPair
from coin_platform.model import (
    SECOND,
    Microseconds,
    Pair,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAP_SECOND = re.compile(r"([T ]\d\d:?59:?)60")  # of UTC; zones are whole hours away from it
PARSE_ERRORS = (msgspec.MsgspecError, UnknownPair, ValueError, ArithmeticError, LookupError, RecursionError)
T = TypeVar("T")
ABSENT = msgspec.Raw(b"")


def number(raw: msgspec.Raw | str | None) -> str | None:
    """Return the exchange's own digits of a number, or None for null and the empty text."""
    if raw is None or isinstance(raw, str):
        return raw or None
    text = bytes(raw).decode()
    return text.strip('"') if text not in ("", "null", '""') else None


def last_price(raw: msgspec.Raw | str | None) -> str:
    """Return the exchange's own digits of a last price, or the empty text where there is none: see `price`."""
    return price(raw) or ""


def price(raw: msgspec.Raw | str | None) -> str | None:
    """Return the exchange's own digits of a price; None for null, the empty text and 0, which mean "none here"."""
    text = number(raw)
    return None if text is None or float(text) == 0 else text


def from_milliseconds(value: int) -> Microseconds:
    """Return a time given in whole ms since 1970."""
    return value * 1000


def from_rfc3339(text: str) -> Microseconds | None:
    """Return a time written like `2026-08-02T03:35:51.660084Z`; None for 1970 and before, which mean "unknown".

    A leap second, `23:59:60`, is the second after it: our times have none. Raises `ValueError`.
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
    return (time - _EPOCH) // timedelta(microseconds=1) + leap * SECOND if time.year > 1970 else None


def difference(one: str | None, other: str | None) -> str | None:
    """Return `one - other` as a plain decimal, exact to the last digit that either text has; None if one is unknown."""
    if not one or not other:
        return None
    return f"{Decimal(one) - Decimal(other):f}"


decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


def split_symbol(symbol: str, quotes: Iterable[str], known: Mapping[str, str]) -> Pair:
    """Return the pair of a symbol without a separator, by the quote currency that it ends in.

    `known` has the quote of symbols that could be cut in two ways. Raises `UnknownPair` for any other such symbol.
    """
    fitting = [known[symbol]] if symbol in known else [quote for quote in quotes if symbol.endswith(quote)]
    if len(fitting) != 1:
        raise UnknownPair(
            f"{symbol[:80]!r} cannot be cut surely: it ends in {' or '.join(fitting) or 'no known quote'}"
        )
    return Pair.read(f"{symbol.removesuffix(fitting[0])}-{fitting[0]}")


def chunks(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Cut what comes into tuples of at most `size`."""
    rest = iter(items)
    while some := tuple(islice(rest, size)):
        yield some
