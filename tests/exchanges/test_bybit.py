"""Bybit: its documented answers over REST, and the markets that it lists."""

from coin_platform.exchanges.bybit import Bybit
from coin_platform.model import Candle, Channel, Pair, Side, Trade
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import frames, say

BYBIT = Bybit()
BTC_USDT = Pair("BTC", "USDT")


def test_rest_trades_and_candles_as_documented() -> None:
    # https://bybit-exchange.github.io/docs/v5/market/recent-trade and …/kline
    trades = (
        b'{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"execId":"2100000000007764263",'
        b'"symbol":"BTCUSDT","price":"16618.49","size":"0.00012","side":"Buy","time":"1672052955758",'
        b'"isBlockTrade":false}]},"retExtInfo":{},"time":1672053054358}'
    )
    assert say("bybit", Channel.TRADE, trades, BTC_USDT) == [
        Trade(
            pair=BTC_USDT,
            exchange_time=1_672_052_955_758_000,
            id="2100000000007764263",
            price=16_618.49,
            size=0.00012,
            side=Side.BUY,
        )
    ]
    candles = (
        b'{"retCode":0,"retMsg":"OK","result":{"symbol":"BTCUSD","category":"inverse","list":[["1670608800000",'
        b'"17071","17073","17027","17055.5","268611","15.74462667"]]},"retExtInfo":{},"time":1672025956592}'
    )
    assert say("bybit", Channel.CANDLE, candles, BTC_USDT) == [
        Candle(
            pair=BTC_USDT,
            open_time=1_670_608_800_000_000,
            open=17_071,
            high=17_073,
            low=17_027,
            close=17_055.5,
            volume=268_611,
            quote_volume=15.74462667,
        )
    ]


def test_symbols_without_a_separator_are_read_as_the_exchange_lists_them() -> None:
    payload = frames("bybit", "markets")[0].payload
    listed = traded_pairs(BYBIT, payload)
    assert len(listed) == 21 and {pair.quote for pair in listed} >= {"USDT", "USDC", "USD1", "RLUSD", "BTC", "BRL"}
    assert traded_pairs(BYBIT, payload.replace(b'"Trading"', b'"PreLaunch"')) == []
