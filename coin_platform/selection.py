"""Which exchanges, raw partitions and pairs the settings ask for."""

from collections.abc import Iterator

from coin_platform.errors import SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.model import Pair, Region
from coin_platform.settings import PREFIX, Settings
from coin_platform.tables import schema
from coin_platform.topic_names import raw_topic

BASES = ("BTC", "ETH", "XRP", "SOL")


def sources(exchange: Exchange, settings: Settings) -> Iterator[Source]:
    """Yield the topic partitions of an exchange that become tables: of the channels it streams or is polled for."""
    for channel in schema.CURATED:
        if channel in settings.channels and channel in exchange.channels | exchange.polled:
            topic = raw_topic(settings.topic_prefix(exchange.region), channel)
            yield Source(exchange, channel, topic, exchange.partition)


def wanted_pairs(exchange: Exchange, settings: Settings) -> tuple[Pair, ...]:
    """Return the pairs of COIN_PAIRS with the exchange's quote, or the defaults; Korean exchanges add USDT-KRW."""
    if settings.pairs:
        return tuple(dict.fromkeys(pair for pair in settings.pairs if pair.quote == exchange.quote))
    defaults = tuple(Pair(base, exchange.quote) for base in BASES)
    return (*defaults, Pair("USDT", "KRW")) if exchange.quote == "KRW" else defaults


def exchanges_of(region: Region | None, settings: Settings) -> list[Exchange]:
    """Return the exchanges of COIN_EXCHANGES, by default all; those of one region if `region` is given.

    Raises `SettingsError` for an unknown name, and when the settings leave nothing to collect in any region.
    """
    unknown = [name for name in settings.exchanges if name not in EXCHANGES]
    if unknown:
        known = ", ".join(EXCHANGES)
        raise SettingsError(f"{PREFIX}EXCHANGES={unknown[0]}: there is no such exchange; there are {known}")
    if not any(collects(exchange, settings) for exchange in EXCHANGES.values()):
        raise SettingsError(
            f"{PREFIX}EXCHANGES, {PREFIX}CHANNELS and {PREFIX}PAIRS together leave nothing to collect: "
            "no chosen exchange has a chosen channel and the quote currency of a chosen pair"
        )
    enabled = settings.exchanges or tuple(EXCHANGES)
    return [exchange for name, exchange in EXCHANGES.items() if name in enabled and region in (None, exchange.region)]


def collects(exchange: Exchange, settings: Settings) -> bool:
    """Return whether the chosen exchanges, channels and pairs leave something of an exchange."""
    is_chosen = not settings.exchanges or exchange.name in settings.exchanges
    has_pair = not settings.pairs or any(pair.quote == exchange.quote for pair in settings.pairs)
    has_channel = any(channel in exchange.channels | exchange.polled for channel in settings.channels)
    return is_chosen and has_pair and has_channel
