"""The JSON contract of processed records, and that they are the rows of the tables."""

from typing import Any

import pytest

from coin_platform.model import Channel
from coin_platform.tables.dataframes import batch
from coin_platform.tables.processed import encode
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import processed_topic
from tests.kit.raw_log import SETTINGS, ConnectionLog
from tests.kit.recordings import files


def contract(exchange: str, channel: Channel, stem: str) -> dict[str, Any]:
    log = ConnectionLog(exchange, channel)
    log.recorded(stem)
    log.run()
    return log.processed[0]


OURS = ["quote", "received_time", "transport", "offset", "index"]


def test_the_contract_of_ticker_records() -> None:
    record = contract("okx", Channel.TICKER, "ticker")
    data = {
        "opening_price": "64324",
        "trade_price": "64028.6",
        "max_price": "64496.9",
        "min_price": "63237.6",
        "prev_closing_price": "64324",
        "acc_trade_volume_24h": "5874.19398956",
        "signed_change_price": "-295.4",
        "signed_change_rate": "-0.004592",
    }
    assert list(record) == ["region", "market", "coin_symbol", "timestamp", "data", *OURS]
    assert (record["region"], record["market"], record["coin_symbol"]) == ("Asia", "OKX", "BTC")
    assert isinstance(record["timestamp"], float) and record["timestamp"] == 1786538789464.0
    assert list(record["data"][0]) == list(data)
    assert record["data"] == [data]


def test_the_contract_of_order_book_records() -> None:
    record = contract("upbit", Channel.ORDERBOOK, "orderbook")
    names = ["highest_bid", "lowest_ask", "spread", "total_bid_volume", "total_ask_volume", "timestamp"]
    assert list(record) == ["region", "market", "coin_symbol", *names, "sequence", "proof", *OURS]
    assert (record["region"], record["market"], record["coin_symbol"], record["quote"]) == (
        *("Korea", "Upbit", "BTC", "KRW"),
    )
    assert all(isinstance(record[name], float) for name in names[:-1])
    assert record["spread"] == record["lowest_ask"] - record["highest_bid"]
    assert record["timestamp"].endswith("+00:00") and record["timestamp"][10] == " "
    assert len(record["timestamp"]) == len("2024-10-23 10:25:00.050791+00:00")
    assert record["sequence"] is None


def test_trades_and_candles_have_records_of_their_own() -> None:
    trade = contract("kraken", Channel.TRADE, "trade")
    assert {"id", "price", "size", "side", "timestamp"} <= trade.keys() and trade["side"] in ("buy", "sell")
    candle = contract("okx", Channel.CANDLE, "candle")
    assert {"open_time", "open", "high", "low", "close", "volume", "quote_volume", "is_closed"} <= candle.keys()
    assert candle["market"] == "OKX"


@pytest.mark.parametrize(("exchange", "path"), files(), ids=lambda value: getattr(value, "stem", value))
def test_S6_live_records_are_the_rows_of_the_tables(exchange: str, path: Any) -> None:
    stem = path.stem
    channel = next((channel for channel in Channel if channel.value in stem), Channel.ORDERBOOK)
    log = ConnectionLog(exchange, channel)
    log.recorded(stem)
    log.run()
    transform = Transform(log.source, 0, SETTINGS.window_length)
    expected = [
        encode(log.source.exchange, channel, entry) for raw in log.records() for entry in transform.entries(raw)
    ]
    assert log.values(processed_topic(log.region, channel)) == expected
    table = batch(log.source, log.records())
    assert len(log.letters) == table.dead.height
    if channel is not Channel.CANDLE:  # of which a table keeps a minute's last update only
        places = sorted((record["offset"], record["index"]) for record in log.processed)
        assert places == sorted(table.rows.select("offset", "index").iter_rows())
