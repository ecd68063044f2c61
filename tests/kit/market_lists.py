"""Lists of markets as each exchange sends them over REST."""

import json
from typing import Any

from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Frame, Kind, Microseconds, Pair

NOW: Microseconds = 1_790_000_000 * SECOND  # 2026-09-21

# A list of markets of each exchange: what comes before and after its rows, and a row of one market.
LISTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "upbit": ("[", "]", {"market": "KRW-BTC"}),
    "bithumb": ("[", "]", {"market": "KRW-BTC"}),
    "coinone": (
        '{"result":"success","error_code":"0","markets":[',
        "]}",
        {"quote_currency": "KRW", "target_currency": "BTC", "trade_status": 1, "maintenance_status": 0},
    ),
    "korbit": ('{"success":true,"data":[', "]}", {"symbol": "btc_krw", "status": "launched"}),
    "okx": ('{"code":"0","msg":"","data":[', "]}", {"instId": "BTC-USDT", "state": "live"}),
    "bybit": (
        '{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[',
        "]}}",
        {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading"},
    ),
    "gateio": ("[", "]", {"id": "BTC_USDT", "trade_status": "tradable"}),
    "binance": (
        '{"symbols":[',
        "]}",
        {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "isSpotTradingAllowed": True,
        },
    ),
    "kraken": ('{"error":[],"result":{', "}}", {"wsname": "XBT/USD", "status": "online"}),
    "coinbase": ("[", "]", {"id": "BTC-USD", "status": "online", "trading_disabled": False}),
}


def list_frame(exchange: str, payload: bytes, time: Microseconds, kind: Kind = Kind.REST) -> Frame:
    """Return a frame of channel `instrument`, which names no pair."""
    return Frame(
        exchange=exchange,
        channel=Channel.INSTRUMENT,
        connection="c",
        number=1,
        received_time=time,
        payload=payload,
        kind=kind,
    )


def listed(exchange: str, rows: list[Any]) -> bytes:
    """Return an exchange's list of these rows."""
    before, after, _ = LISTS[exchange]
    texts = [json.dumps(row) for row in rows]
    if exchange == "kraken":
        texts = [f'"{number}":{text}' for number, text in enumerate(texts)]
    return (before + ",".join(texts) + after).encode()


def traded_pairs(exchange: Exchange, payload: bytes) -> list[Pair]:
    """Return the pairs that can be traded, as an exchange's list of markets says. Raises `DecodeError`."""
    markets = exchange.decode_list(list_frame(exchange.name, payload, NOW))
    return [market.pair for market in markets if market.state.is_traded]
