"""Processed records as a worker writes them, appended to a broker in memory."""

import json
from typing import Any

from coin_platform.broker import Broker
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Kind, Microseconds
from coin_platform.records import Header
from coin_platform.tables.json_times import time_text
from coin_platform.topic_names import GAPS, processed_topic

BODIES: dict[Channel, dict[str, Any]] = {
    Channel.TICKER: {"timestamp": 1.0, "data": [{"trade_price": "100"}]},
    Channel.ORDERBOOK: {"highest_bid": 99.0, "lowest_ask": 101.0, "spread": 2.0, "proof": "sequence"},
    Channel.TRADE: {"id": "1", "price": 100.0, "size": 1.0, "side": "buy"},
}


def append_processed(
    broker: Broker,
    exchange: str,
    pair: str,
    *,
    channel: Channel = Channel.TICKER,
    offset: int = 0,
    index: int = 0,
    epoch: int = 1,
    time: Microseconds = 0,
    **body: Any,
) -> None:
    """Append a record to the processed topic of a channel. `body` replaces keys of its JSON."""
    adapter, (base, quote) = EXCHANGES[exchange], pair.split("-")
    value = {
        "region": adapter.region.capitalize(),
        "market": adapter.title,
        "coin_symbol": base,
        **BODIES[channel],
        "quote": quote,
        "received_time": time_text(time),
        "transport": "websocket",
        "offset": offset,
        "index": index,
        **body,
    }
    header = Header(Kind.SOCKET, epoch, "c", 1, time)
    topic = processed_topic(adapter.region, channel)
    broker.append(topic, adapter.partition, header.pack(), json.dumps(value, separators=(",", ":")).encode())
    broker.flush()


def append_gap(broker: Broker, exchange: str, pair: str | None, *, stop: str | None = None, **words: str) -> None:
    """Append a gap to the topic of gaps. `words` replace texts of its JSON, such as its reason."""
    value = {"exchange": exchange, "channel": "ticker", "pair": pair, "from": "2026-11-02 00:00:00.000000+00:00"}
    value |= {"to": stop, "cause": "killed", "reason": "", "filled_by": None, **words}
    broker.append(GAPS, EXCHANGES[exchange].gap_partition, "", json.dumps(value).encode())
    broker.flush()
