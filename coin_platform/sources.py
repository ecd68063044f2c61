"""Which raw partitions there are: one for each exchange and channel that the settings want."""

from collections.abc import Iterator

from coin_platform.exchanges.base import Exchange
from coin_platform.preprocess import schema
from coin_platform.preprocess.transform import Source
from coin_platform.settings import Settings
from coin_platform.wire import raw_topic


def sources(exchange: Exchange, settings: Settings) -> Iterator[Source]:
    """Yield the topic partitions of an exchange that become tables: of the channels it streams or is polled for."""
    for channel in schema.CURATED:
        if channel in settings.channels and channel in exchange.channels | exchange.polled:
            topic = raw_topic(settings.topic_prefix(exchange.region), channel)
            yield Source(exchange, channel, topic, exchange.partition)
