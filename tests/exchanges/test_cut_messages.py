"""Messages that were cut off or damaged on their way: a dead letter, and no other error."""

import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from tests.kit.recordings import cut, frames, spoilt

STEMS = {
    "upbit": ("ticker", "orderbook", "trade", "candle", "rest_ticker", "rest_candle"),
    "bithumb": ("ticker", "orderbook", "trade", "rest_ticker", "rest_candle", "error"),
    "korbit": ("ticker", "orderbook", "trade", "control", "rest_ticker", "rest_candle", "error"),
    "coinone": ("ticker", "orderbook", "trade", "candle", "rest_ticker", "rest_candle", "error"),
    "bybit": ("ticker", "orderbook", "trade", "candle", "control", "rest_ticker", "rest_orderbook"),
    "gateio": ("ticker", "trade", "candle", "control", "error", "rest_ticker", "rest_orderbook"),
    "binance": ("ticker", "trade", "candle", "control", "error", "orderbook", "rest_ticker", "rest_orderbook"),
    "coinbase": ("ticker", "trade", "candle", "control", "error", "rest_ticker", "rest_orderbook", "rest_trades"),
}
RECORDINGS = [(exchange, stem) for exchange, stems in STEMS.items() for stem in stems]


@pytest.mark.parametrize(("exchange", "stem"), RECORDINGS)
def test_cut_messages_are_dead_letters(exchange: str, stem: str) -> None:
    for shorter in cut(frames(exchange, stem)[0]):
        with pytest.raises(DecodeError):
            EXCHANGES[exchange].decode(shorter)


@pytest.mark.parametrize(("exchange", "stem"), RECORDINGS)
def test_spoilt_messages_raise_no_other_error(exchange: str, stem: str) -> None:
    for spoilt_frame in spoilt(frames(exchange, stem)[0]):
        try:
            EXCHANGES[exchange].decode(spoilt_frame)
        except DecodeError:
            continue
