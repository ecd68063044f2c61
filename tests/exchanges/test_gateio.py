"""Gate.io: facts of its tickers, trades and candles, its answers, requests and symbols."""

import msgspec
import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges.gateio import Gateio
from coin_platform.model import (
    Candle,
    Channel,
    Control,
    Kind,
    Pair,
    Proof,
    Refusal,
    Refused,
    Region,
    Side,
    Subscribed,
    Ticker,
    Trade,
)
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import events, frames, say

GATEIO = Gateio()
BTC_USDT, ETH_USDT = Pair("BTC", "USDT"), Pair("ETH", "USDT")
NOW = 1_611_541_000_999_999  # µs


def test_what_gateio_is() -> None:
    assert (GATEIO.name, GATEIO.title, GATEIO.region, GATEIO.partition) == ("gateio", "Gateio", Region.ASIA, 2)
    assert (GATEIO.quote, GATEIO.proof, GATEIO.has_deltas) == ("USDT", Proof.SEQUENCE, True)
    assert GATEIO.channels == set(Channel) - {Channel.INSTRUMENT}
    assert GATEIO.socket_url(Channel.TRADE) == "wss://api.gateio.ws/ws/v4/"
    assert GATEIO.ping == '{"channel":"spot.ping"}' and GATEIO.ping_every <= 15
    assert not GATEIO.is_bridged  # a lost book is asked for again over the socket


def test_a_ticker_has_a_rate_in_percent_and_no_opening_price() -> None:
    assert next(events("gateio", "ticker")) == Ticker(
        pair=BTC_USDT,
        exchange_time=1_786_539_989_549_000,
        last="64043.9",
        high_24h="64473.5",
        low_24h="63234.7",
        change_rate_24h="-0.004034",
        volume_24h="5291.366688",
        quote_volume_24h="337744396.9986996",
        best_bid="64043.8",
        best_ask="64043.9",
    )


def test_a_ticker_of_2021_is_timed_in_seconds() -> None:
    ticker = list(events("gateio", "ticker"))[5]
    assert isinstance(ticker, Ticker)
    assert (ticker.pair, ticker.exchange_time) == (Pair("NEO", "BTC"), 1_619_093_533_000_000)
    assert (ticker.last, ticker.change_rate_24h) == ("0.0018716", "0.029256")


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


def test_a_ticker_of_a_pair_that_never_traded_says_nothing() -> None:
    payload = frames("gateio", "ticker")[0].payload.replace(b'"last":"64043.9"', b'"last":"0"')
    assert say("gateio", Channel.TICKER, payload) == [Control(name="ticker without a price")]


def test_trades_are_timed_in_fractions_of_milliseconds() -> None:
    trades = list(events("gateio", "trade"))
    assert trades[0] == Trade(
        pair=BTC_USDT,
        exchange_time=1_786_539_952_742_901,
        id="214976613",
        price=64_028.2,
        size=0.0803,
        side=Side.BUY,
    )
    assert trades[3] == Trade(
        pair=Pair("DIS", "USDT"),
        exchange_time=1_619_093_543_708_264,
        id="816995772",
        price=121.58,
        size=0.201,
        side=Side.SELL,
    )


def test_the_volume_of_a_candle_is_under_a_and_v_is_the_quote_volume() -> None:
    candles = list(events("gateio", "candle"))
    assert candles[0] == Candle(
        pair=BTC_USDT,
        exchange_time=1_786_539_971_596_000,
        open_time=1_786_539_960_000_000,
        open=64_035.1,
        high=64_044.0,
        low=64_026.5,
        close=64_044.0,
        volume=1.888203,
        quote_volume=120_920.0651408,
        is_closed=False,
    )
    assert isinstance(candles[1], Candle) and candles[1].is_closed is None  # not said in 2022
    assert candles[3] == Control(name="candle 1m_DIS_USDT")  # no base volume in 2021
    other = frames("gateio", "candle")[0].payload.replace(b"1m_BTC", b"5m_BTC")
    assert say("gateio", Channel.CANDLE, other) == [Control(name="candle 5m_BTC_USDT")]


def test_answers_name_the_request_they_are_for() -> None:
    assert list(events("gateio", "control")) == [
        Subscribed(request=1),
        Subscribed(request=1),
        Subscribed(),
        Subscribed(request=8_578_128_440_611_119_318),
        Control(name="unsubscribe"),
        Control(name="spot.pong"),
        Control(name="unsubscribe"),
        Subscribed(),
    ]


def test_refusals_name_the_pair_where_the_reason_does() -> None:
    assert list(events("gateio", "error")) == [
        Refused(reason="2: Alert sub ob.BTC_USDT.400", pair=BTC_USDT, request=1),
        Refused(reason="2: Unknown channel spot.obu"),
        Refused(reason="2: unknown currency pair: NOPE_XXX", pair=Pair("NOPE", "XXX"), refusal=Refusal.FINAL),
        Refused(
            reason="INVALID_CURRENCY_PAIR: Invalid currency pair BTC_USDTT",
            pair=Pair("BTC", "USDTT"),
            refusal=Refusal.FINAL,
        ),
        Refused(reason="INVALID_CURRENCY: Invalid currency", refusal=Refusal.FINAL),
    ]


def test_a_reason_that_contains_the_name_of_another_pair_does_not_name_it() -> None:
    payload = (
        b'{"time":1,"id":3,"channel":"spot.tickers","event":"subscribe","payload":["BTC_USDT","WBTC_USDT"],'
        b'"error":{"code":2,"message":"unknown currency pair: WBTC_USDT"},"result":{"status":"fail"}}'
    )
    reason = "2: unknown currency pair: WBTC_USDT"
    assert say("gateio", Channel.TICKER, payload) == [
        Refused(reason=reason, pair=Pair("WBTC", "USDT"), request=3, refusal=Refusal.FINAL)
    ]


@pytest.mark.parametrize("rest", [b'"result":{"status":"fail"}', b'"payload":null,"error":null,"result":null'])
def test_an_answer_without_success_is_a_refusal(rest: bytes) -> None:
    payload = b'{"time":1,"id":3,"channel":"spot.tickers","event":"subscribe",' + rest + b"}"
    assert say("gateio", Channel.TICKER, payload) == [Refused(reason="0: no success", request=3)]


def test_a_refused_unsubscription_refuses_no_pair() -> None:
    payload = frames("gateio", "error")[0].payload.replace(b'"event":"subscribe"', b'"event":"unsubscribe"')
    assert say("gateio", Channel.ORDERBOOK, payload) == [Control(name="unsubscribe")]


def test_a_channel_that_is_not_known_is_a_dead_letter() -> None:
    payload = frames("gateio", "ticker")[0].payload.replace(b"spot.tickers", b"spot.balances")
    with pytest.raises(DecodeError, match=r"spot\.balances"):
        say("gateio", Channel.TICKER, payload)


def test_a_rest_ticker_is_a_list_without_a_time() -> None:
    tickers = list(events("gateio", "rest_ticker"))
    assert tickers[0] == Ticker(
        pair=BTC_USDT,
        last="84053.3",
        high_24h="84938.1",
        low_24h="82888",
        change_rate_24h="-0.0057",
        volume_24h="6330.010284",
        quote_volume_24h="532061973.7836039",
        best_bid="84049.9",
        best_bid_size="2.306681",
        best_ask="84050",
        best_ask_size="2.192231",
    )
    assert isinstance(tickers[2], Ticker)
    assert (tickers[2].pair, tickers[2].best_bid_size, tickers[2].best_ask_size) == (ETH_USDT, None, None)


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


def test_a_rest_answer_that_does_not_name_its_pair_needs_it() -> None:
    frame = msgspec.structs.replace(frames("gateio", "rest_orderbook")[0], pair=None)
    with pytest.raises(DecodeError, match="needs its pair"):
        GATEIO.decode(frame)


@pytest.mark.parametrize(
    ("channel", "rest"),
    [
        (Channel.TICKER, '"channel":"spot.tickers","event":"subscribe","payload":["BTC_USDT","ETH_USDT"]}'),
        (Channel.TRADE, '"channel":"spot.trades","event":"subscribe","payload":["BTC_USDT","ETH_USDT"]}'),
        (
            Channel.ORDERBOOK,
            '"channel":"spot.obu","event":"subscribe","payload":["ob.BTC_USDT.400","ob.ETH_USDT.400"]}',
        ),
    ],
)
def test_several_pairs_are_asked_for_at_once_with_the_time_in_seconds(channel: Channel, rest: str) -> None:
    [request] = GATEIO.subscribe(channel, [BTC_USDT, ETH_USDT], id=7, time=NOW)
    assert request.payload == '{"time":1611541000,"id":7,' + rest
    assert (request.pairs, request.id) == ((BTC_USDT, ETH_USDT), 7)


def test_candles_are_asked_for_one_pair_at_a_time() -> None:
    first, second = GATEIO.subscribe(Channel.CANDLE, [BTC_USDT, ETH_USDT], id=7, time=NOW)
    assert first.payload == (
        '{"time":1611541000,"id":7,"channel":"spot.candlesticks","event":"subscribe","payload":["1m","BTC_USDT"]}'
    )
    assert (first.pairs, first.id, second.pairs, second.id) == ((BTC_USDT,), 7, (ETH_USDT,), 8)


def test_pairs_are_given_up_in_the_same_form() -> None:
    [request] = GATEIO.unsubscribe(Channel.ORDERBOOK, [BTC_USDT], id=8, time=NOW)
    assert request.payload == (
        '{"time":1611541000,"id":8,"channel":"spot.obu","event":"unsubscribe","payload":["ob.BTC_USDT.400"]}'
    )


def test_addresses() -> None:
    base = "https://api.gateio.ws/api/v4/spot"
    assert {channel: GATEIO.request_url(channel, BTC_USDT) for channel in Channel} == {
        Channel.TICKER: f"{base}/tickers?currency_pair=BTC_USDT",
        Channel.ORDERBOOK: f"{base}/order_book?currency_pair=BTC_USDT&limit=100&with_id=true",
        Channel.TRADE: f"{base}/trades?currency_pair=BTC_USDT&limit=1000",
        Channel.CANDLE: f"{base}/candlesticks?currency_pair=BTC_USDT&interval=1m&limit=1000",
        Channel.INSTRUMENT: GATEIO.markets_url(),
    }
    assert GATEIO.markets_url() == f"{base}/currency_pairs"


def test_markets_that_cannot_be_traded_are_left_out() -> None:
    several, single = frames("gateio", "markets")
    assert traded_pairs(GATEIO, several.payload) == [
        Pair("IHT", "ETH"),
        Pair("AME", "ETH"),
        Pair("ALEPH", "USDT"),
        Pair("OGN", "USDT"),
        Pair("ILV", "ETH"),  # these two can only be sold
        Pair("HORD", "USDT"),
    ]
    assert traded_pairs(GATEIO, single.payload) == [ETH_USDT]


def test_symbols_read_both_ways() -> None:
    assert GATEIO.symbol(BTC_USDT) == "BTC_USDT"
    assert GATEIO.pair("BTC_USDT") == BTC_USDT
    assert GATEIO.pair("BTC3L_USDT") == Pair("BTC3L", "USDT")


@pytest.mark.parametrize("symbol", ["BTC-USDT", "BTCUSDT", "1m_BTC_USDT", "_USDT", ""])
def test_what_is_no_symbol_is_a_dead_letter(symbol: str) -> None:
    payload = frames("gateio", "ticker")[0].payload.replace(b'"BTC_USDT"', f'"{symbol}"'.encode())
    with pytest.raises(DecodeError):
        say("gateio", Channel.TICKER, payload)


def test_rest_frames_of_the_recordings_know_their_pair() -> None:
    assert {frame.pair for frame in frames("gateio", "rest_orderbook")} == {BTC_USDT, Pair("HAI", "ETH")}
    assert all(frame.kind is Kind.REST for frame in frames("gateio", "rest_orderbook"))
