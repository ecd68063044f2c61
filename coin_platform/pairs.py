"""The pairs that an exchange's connections should carry."""

from coin_platform.exchanges.base import Exchange
from coin_platform.model import Pair
from coin_platform.settings import Settings

BASES = ("BTC", "ETH", "XRP", "SOL")


def wanted(exchange: Exchange, settings: Settings) -> tuple[Pair, ...]:
    """Return the pairs of COIN_PAIRS with the exchange's quote, or the defaults; Korean exchanges add USDT-KRW."""
    if settings.pairs:
        return tuple(dict.fromkeys(pair for pair in settings.pairs if pair.quote == exchange.quote))
    defaults = tuple(Pair(base, exchange.quote) for base in BASES)
    return (*defaults, Pair("USDT", "KRW")) if exchange.quote == "KRW" else defaults
