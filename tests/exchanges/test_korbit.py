"""Korbit: numbers that its tickers leave out, empty books, several trades at once."""

from coin_platform.exchanges.korbit import Korbit
from coin_platform.model import BookUpdate, Channel, Pair, Side, Ticker, Trade
from tests.kit.recordings import frames, say

KORBIT = Korbit()
BTC_KRW = Pair("BTC", "KRW")


def test_best_prices_of_zero_and_missing_numbers_are_not_known() -> None:
    text = (
        b'{"symbol":"btc_krw","type":"ticker","data":{"close":"100650000","prevClose":"0","priceChange":"0",'
        b'"bestAskPrice":"0","bestBidPrice":"0"}}'
    )
    assert say("korbit", Channel.TICKER, text) == [Ticker(pair=BTC_KRW, last="100650000", change_24h="0")]


def test_a_stopped_market_has_an_empty_book() -> None:
    text = (
        b'{"symbol":"xrp_krw","timestamp":1790134242857,"type":"orderbook","snapshot":true,'
        b'"data":{"timestamp":1780134242563,"asks":[],"bids":[]}}'
    )
    assert say("korbit", Channel.ORDERBOOK, text) == [
        BookUpdate(pair=Pair("XRP", "KRW"), exchange_time=1_780_134_242_563_000, is_snapshot=True, bids=[], asks=[])
    ]


def test_trades_come_as_a_list() -> None:
    [frame] = frames("korbit", "trade")
    [bought] = KORBIT.decode(frame)
    row = b'{"timestamp":1700000001240,"price":"98909000","qty":"0.5","isBuyerTaker":false}'
    first, second = say("korbit", Channel.TRADE, frame.payload.replace(b"}]}", b"}," + row + b"]}"))
    assert first == bought
    assert second == Trade(
        pair=BTC_KRW, exchange_time=1_700_000_001_240_000, id=None, price=98_909_000, size=0.5, side=Side.SELL
    )
