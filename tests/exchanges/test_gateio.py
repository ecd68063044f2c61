"""Gate.io: its percentages, and its documented answers over REST."""

import pytest

from coin_platform.errors import DecodeError
from coin_platform.model import Candle, Channel, Pair, Side, Ticker, Trade
from tests.kit.recordings import frames, say

BTC_USDT = Pair("BTC", "USDT")


@pytest.mark.parametrize(
    ("percent", "rate"),
    [("-0.4034", "-0.004034"), ("0", "0.00"), ("-100", "-1.00"), ("5.85", "0.0585"), ("0.0000001", "0.000000001")],
)
def test_a_percentage_becomes_a_fraction_digit_by_digit(percent: str, rate: str) -> None:
    payload = frames("gateio", "ticker")[0].payload.replace(b"-0.4034", percent.encode())
    [ticker] = say("gateio", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker) and ticker.change_rate_24h == rate


def test_what_a_ticker_leaves_empty_is_not_known() -> None:
    payload = frames("gateio", "ticker")[0].payload
    for full in (b'"lowest_ask":"64043.9"', b'"highest_bid":"64043.8"', b'"change_percentage":"-0.4034"'):
        assert full in payload
        payload = payload.replace(full, full.partition(b":")[0] + b':""')
    [ticker] = say("gateio", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker)
    assert (ticker.best_ask, ticker.best_bid, ticker.change_rate_24h) == (None, None, None)


def test_a_percentage_that_is_no_plain_number_is_a_dead_letter() -> None:
    for bad in (b"NaN", b"1e999999", b"1_0", b"-"):
        with pytest.raises(DecodeError):
            say("gateio", Channel.TICKER, frames("gateio", "ticker")[0].payload.replace(b"-0.4034", bad))


def test_trades_over_rest_write_numbers_as_text() -> None:
    payload = (
        b'[{"id":"1232893232","create_time":"1548000000","create_time_ms":"1548000000123.456",'
        b'"currency_pair":"BTC_USDT","side":"sell","amount":"0.15","price":"0.03","sequence_id":"588018"}]'
    )
    [trade] = say("gateio", Channel.TRADE, payload, BTC_USDT)
    assert trade == Trade(
        pair=BTC_USDT, exchange_time=1_548_000_000_123_456, id="1232893232", price=0.03, size=0.15, side=Side.SELL
    )


def test_candles_over_rest_have_the_close_before_the_open() -> None:
    payload = b'[["1539852480","971519.677","0.0021724","0.0021922","0.0021711","0.0021923","447513890","true"]]'
    [candle] = say("gateio", Channel.CANDLE, payload, BTC_USDT)
    assert candle == Candle(
        pair=BTC_USDT,
        open_time=1_539_852_480_000_000,
        open=0.0021923,
        high=0.0021922,
        low=0.0021711,
        close=0.0021724,
        volume=447_513_890.0,
        quote_volume=971_519.677,
        is_closed=True,
    )
