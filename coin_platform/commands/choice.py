"""Names of things, as they are chosen on the command line."""

from collections.abc import Iterable, Sequence

from coin_platform.errors import CoinPlatformError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.settings import Settings, load


class UnknownName(CoinPlatformError):
    """There is no such thing; the line lists those there are."""


def chosen(option: str, names: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """Return the chosen names, by default all. Raises `UnknownName`."""
    there = list(known)
    unknown = [name for name in names or () if name not in there]
    if unknown:
        raise UnknownName(f"{option} {unknown[0]}: there is no such; there are {', '.join(there)}")
    return list(dict.fromkeys(names or there))


def exchanges_named(names: Sequence[str] | None, settings: Settings | None = None) -> list[Exchange]:
    """Return the chosen exchanges, by default all that are enabled. Raises `UnknownName`."""
    from coin_platform.collect.collector import exchanges_of  # with polars, which other commands need not wait for

    if not names:
        return exchanges_of(None, settings or load())
    return [EXCHANGES[name] for name in chosen("--exchange", names, EXCHANGES)]
