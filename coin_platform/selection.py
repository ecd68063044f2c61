"""Which exchanges, raw partitions and pairs the settings ask for."""

from collections.abc import Iterator

from coin_platform.errors import SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.model import Pair, Region
from coin_platform.settings import PREFIX, Settings
from coin_platform.tables import schema
from coin_platform.topic_names import raw_topic

DEFAULT_BASES = ("BTC", "ETH", "XRP", "SOL")


def sources(exchange: Exchange, settings: Settings) -> Iterator[Source]:
    """Yield the raw partitions of an exchange, one for each chosen channel that it streams or is polled for."""
    for channel in schema.CURATED:
        if channel in settings.channels and channel in exchange.channels | exchange.polled:
            topic = raw_topic(settings.topic_prefix(exchange.region), channel)
            yield Source(exchange, channel, topic, exchange.partition)


def wanted_pairs(exchange: Exchange, settings: Settings) -> tuple[Pair, ...]:
    """Return the pairs of COIN_PAIRS that have the exchange's quote currency, or the default pairs.

    The default of an exchange that trades in won adds USDT-KRW, because it converts won into dollars.
    """
    if settings.pairs:
        return tuple(dict.fromkeys(pair for pair in settings.pairs if pair.quote == exchange.quote))
    defaults = tuple(Pair(base, exchange.quote) for base in DEFAULT_BASES)
    return (*defaults, Pair("USDT", "KRW")) if exchange.quote == "KRW" else defaults


def exchanges_of(region: Region | None, settings: Settings) -> list[Exchange]:
    """Return the exchanges of COIN_EXCHANGES, of one region if `region` is given. The default is all exchanges.

    Raises `SettingsError` for an unknown name, and if the settings leave nothing to collect in any region.
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


def sources_of(region: Region, settings: Settings) -> list[Source]:
    """Return the topic partitions of a region that become tables."""
    return [source for exchange in exchanges_of(region, settings) for source in sources(exchange, settings)]


def collected_regions(settings: Settings) -> list[Region]:
    """Return the regions in which the settings leave something to collect."""
    collected = {exchange.region for exchange in exchanges_of(None, settings) if collects(exchange, settings)}
    return [region for region in Region if region in collected]


def collects(exchange: Exchange, settings: Settings) -> bool:
    """Return whether the settings leave something to collect at an exchange."""
    is_chosen = not settings.exchanges or exchange.name in settings.exchanges
    has_pair = not settings.pairs or any(pair.quote == exchange.quote for pair in settings.pairs)
    has_channel = any(channel in exchange.channels | exchange.polled for channel in settings.channels)
    return is_chosen and has_pair and has_channel
