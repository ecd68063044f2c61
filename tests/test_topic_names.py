"""Topics and consumer groups keep the names that downstream users know."""

from coin_platform.model import Channel, Region
from coin_platform.topic_names import GAPS, dead_letter_topic, group, processed_topic, raw_topic


def test_raw_topics() -> None:
    assert raw_topic("korea", Channel.TICKER) == "koreaSocketDataIn-ticker"
    assert raw_topic("asia", Channel.ORDERBOOK) == "asiaSocketDataIn-Orderbook"
    assert raw_topic("ne", Channel.TRADE) == "neSocketDataIn-trade"
    assert raw_topic("kora", Channel.CANDLE) == "koraSocketDataIn-candle"


def test_all_other_topics_and_the_groups() -> None:
    assert dead_letter_topic("koreaSocketDataIn-ticker") == "koreaSocketDataIn-ticker-DLT"
    assert processed_topic(Region.NE, Channel.ORDERBOOK) == "Region.NE_OrderbookPreprocessing"
    assert group(Region.KOREA, Channel.TICKER) == "Ticker_group_id_Korea"
    assert GAPS == "MarketGaps"
