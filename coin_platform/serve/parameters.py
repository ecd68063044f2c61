"""What requests name: exchanges, channels, pairs, times and pages, each with its limits."""

from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, TypeAlias

from fastapi import Path, Query
from pydantic import AfterValidator

from coin_platform.errors import UnknownPair
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Microseconds, Pair
from coin_platform.serve.problems import Problem

MOST_ROWS = 500  # of one page
MOST_PAIRS = 1_000  # of one request
_PAIR_CHARACTERS = 129  # two names of 64, and the hyphen
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ExchangeName = StrEnum("ExchangeName", {name.upper(): name for name in EXCHANGES})  # type: ignore[misc]
"""The names of the exchanges: another name is a wrong request, and never becomes part of an address or a key."""


class PairChannel(StrEnum):
    """A channel whose pairs can be set. `all` stands for every channel without pairs of its own."""

    ALL = "all"
    TICKER = Channel.TICKER.value
    ORDERBOOK = Channel.ORDERBOOK.value
    TRADE = Channel.TRADE.value
    CANDLE = Channel.CANDLE.value
    INSTRUMENT = Channel.INSTRUMENT.value


def _pair_text(text: str) -> str:
    try:
        return str(Pair.parse(text))
    except UnknownPair as error:
        raise ValueError(str(error)) from error


def _in_utc(time: datetime) -> datetime:
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    try:
        aware.astimezone(UTC)
    except OverflowError:
        raise ValueError("this time is out of range") from None
    return aware.astimezone(UTC)


ExchangePath: TypeAlias = Annotated[ExchangeName, Path(description="An exchange, such as `upbit`.")]
PairText: TypeAlias = Annotated[str, AfterValidator(_pair_text)]
Time: TypeAlias = Annotated[datetime, AfterValidator(_in_utc)]
PageStart: TypeAlias = Annotated[int, Query(ge=0, le=1_000_000_000, description="Leave out so many rows.")]
PageSize: TypeAlias = Annotated[int, Query(ge=1, le=MOST_ROWS, description="The most rows of this page.")]


def microseconds_of(time: datetime) -> Microseconds:
    """Return a time as µs since 1970."""
    return (time - _EPOCH) // (datetime.resolution)


def time_of(time: Microseconds) -> datetime:
    """Return µs since 1970 as a time in UTC."""
    return _EPOCH + time * datetime.resolution


def not_available(detail: str, remedy: str = "ask again later") -> Problem:
    """Return the problem of something outside that does not answer now."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-available", detail, remedy, headers={"Retry-After": "5"})
