"""The names of topics and of consumer groups."""

from coin_platform.model import Channel, Region

_TOPIC_CHANNELS = {
    Channel.TICKER: "ticker",
    Channel.ORDERBOOK: "Orderbook",
    Channel.TRADE: "trade",
    Channel.CANDLE: "candle",
    Channel.INSTRUMENT: "instrument",
}
REGION_TITLES = {Region.KOREA: "Korea", Region.ASIA: "Asia", Region.NE: "NE"}
GAPS = "MarketGaps"  # the topic of the gaps that collectors know of


def raw_topic(prefix: str, channel: Channel) -> str:
    """Return the name of a raw topic: `koreaSocketDataIn-ticker`. `prefix` is the region, or what its setting says."""
    return f"{prefix}SocketDataIn-{_TOPIC_CHANNELS[channel]}"


def dead_letter_topic(raw: str) -> str:
    """Return the topic of frames that could not be decoded: `koreaSocketDataIn-ticker-DLT`."""
    return f"{raw}-DLT"


def processed_topic(region: Region, channel: Channel) -> str:
    """Return the topic of the processed records of a channel: `Region.Korea_TickerPreprocessing`."""
    return f"Region.{REGION_TITLES[region]}_{channel.capitalize()}Preprocessing"


def group(region: Region, channel: Channel) -> str:
    """Return the consumer group that preprocesses a channel: `Ticker_group_id_Korea`."""
    return f"{channel.capitalize()}_group_id_{REGION_TITLES[region]}"
