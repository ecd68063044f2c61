"""Korbit: facts of its tickers and whole books, its answers and requests."""

import msgspec
import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges.korbit import Korbit
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Kind,
    Level,
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

KORBIT = Korbit()
BTC_KRW, ETH_KRW = Pair("BTC", "KRW"), Pair("ETH", "KRW")


def test_what_korbit_is() -> None:
    assert (KORBIT.name, KORBIT.title, KORBIT.region, KORBIT.partition) == ("korbit", "Korbit", Region.KOREA, 3)
    assert (KORBIT.quote, KORBIT.proof) == ("KRW", Proof.SNAPSHOT)
    assert KORBIT.channels == {Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE}
    assert KORBIT.ping is None  # no message of ours is documented: the server pings
    assert KORBIT.ws_url == "wss://ws-api.digitalx.miraeasset.com/v2/public"


def test_a_ticker_is_of_24_hours_and_its_rate_a_fraction() -> None:
    assert next(events("korbit", "ticker")) == Ticker(
        pair=BTC_KRW,
        exchange_time=1_730_365_099_072_000,
        last="100650000",
        open_24h="100500000",
        high_24h="100651000",
        low_24h="100492000",
        change_24h="153000",
        change_rate_24h="0.0015224335",  # 153000 / 100497000, sent as "0.15" per cent
        volume_24h="0.89102242",
        quote_volume_24h="89632429.21566",
        best_bid="100650000",
        best_ask="100651000",
    )


def test_later_tickers_have_no_field_snapshot() -> None:
    _, second, third = events("korbit", "ticker")
    assert isinstance(second, Ticker) and isinstance(third, Ticker)
    assert (second.exchange_time, second.change_24h) == (1_730_365_220_489_000, "158000")
    assert (third.last, third.change_rate_24h) == ("99027000", "0.0459235945")


def test_best_prices_of_zero_and_missing_numbers_are_not_known() -> None:
    text = (
        b'{"symbol":"btc_krw","type":"ticker","data":{"close":"100650000","prevClose":"0","priceChange":"0",'
        b'"bestAskPrice":"0","bestBidPrice":"0"}}'
    )
    assert say("korbit", Channel.TICKER, text) == [Ticker(pair=BTC_KRW, last="100650000", change_24h="0")]


def test_a_book_is_timed_by_its_last_change() -> None:
    _, book, grouped = events("korbit", "orderbook")
    assert book == BookUpdate(
        pair=BTC_KRW,
        exchange_time=1_790_134_242_563_000,  # sent at …2857
        is_snapshot=True,
        bids=[Level(116_455_000, 0.00499), Level(116_453_000, 0.01919775), Level(116_451_000, 0.00059)],
        asks=[Level(116_506_000, 0.27522), Level(116_538_000, 0.00665633), Level(116_542_000, 0.03897506)],
    )
    assert isinstance(grouped, BookUpdate)
    assert (grouped.pair, grouped.bids[0]) == (ETH_KRW, Level(3_700_000, 43.33530415))


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
    bought = Trade(
        pair=BTC_KRW,
        exchange_time=1_700_000_001_239_000,
        id="123456",
        price=98_909_000,
        size=0.00146702,
        side=Side.BUY,
    )
    assert KORBIT.decode(frame) == [bought]
    row = b'{"timestamp":1700000001240,"price":"98909000","qty":"0.5","isBuyerTaker":false}'
    first, second = say("korbit", Channel.TRADE, frame.payload.replace(b"}]}", b"}," + row + b"]}"))
    assert first == bought
    assert second == Trade(
        pair=BTC_KRW, exchange_time=1_700_000_001_240_000, id=None, price=98_909_000, size=0.5, side=Side.SELL
    )


def test_a_message_with_a_status_is_an_answer() -> None:
    assert list(events("korbit", "control")) == [
        Subscribed(request=1),
        Refused(
            request=1,
            pair=Pair("ETH", "BTC"),
            reason="INVALID_SYMBOL: The symbol does not exist (eth_btc)",
            refusal=Refusal.FINAL,
        ),
        Refused(
            pair=Pair("NOPE2", "KRW"),
            reason="INVALID_SYMBOL: The symbol does not exist (nope2_krw)",
            refusal=Refusal.FINAL,
        ),
        Refused(request=4, reason="INVALID_REQUEST: unknown_type"),
        Refused(reason="error: ..."),
    ]
    no_array = b'{"status":"fail","message":"invalid_format"}'
    assert say("korbit", Channel.TICKER, no_array) == [Refused(reason="fail: invalid_format")]


def test_what_is_not_documented_is_a_dead_letter() -> None:
    with pytest.raises(DecodeError, match="'candle' is not known"):
        say("korbit", Channel.TICKER, b'{"symbol":"btc_krw","type":"candle","data":{}}')


def test_a_rest_ticker_has_no_time_of_its_own() -> None:
    btc, eth = events("korbit", "rest_ticker")
    assert btc == Ticker(
        pair=BTC_KRW,
        exchange_time=None,
        last="77136000",
        open_24h="77060000",
        high_24h="79650000",
        low_24h="76550000",
        change_24h="76000",
        change_rate_24h="0.0009862445",
        volume_24h="48.73739983",
        quote_volume_24h="3785149733.32633",
        best_bid="77136000",
        best_ask="77193000",
    )
    assert isinstance(eth, Ticker)
    assert (eth.pair, eth.change_24h, eth.change_rate_24h) == (ETH_KRW, "-9000", "-0.0027615833")


def test_rest_books_trades_and_candles() -> None:
    [book] = events("korbit", "rest_orderbook")
    assert isinstance(book, BookUpdate)
    assert (book.pair, book.exchange_time, book.is_snapshot) == (BTC_KRW, 1_708_057_740_895_000, True)
    assert (len(book.bids), book.bids[0]) == (5, Level(73_303_000, 0.00898326))
    assert (len(book.asks), book.asks[0]) == (5, Level(73_304_000, 0.00985212))
    trades = list(events("korbit", "rest_trade"))
    assert len(trades) == 4
    assert trades[0] == Trade(
        pair=BTC_KRW,
        exchange_time=1_708_057_271_149_000,
        id="1004",
        price=70_507_000,
        size=0.00981535,
        side=Side.SELL,
    )
    candles = list(events("korbit", "rest_candle"))
    assert len(candles) == 5
    assert candles[0] == Candle(
        pair=BTC_KRW,
        open_time=1_708_041_600_000_000,
        open=71_211_000,
        high=9_999_990_000,
        low=300_000,
        close=71_392_000,
        volume=1.932320026577213946,
    )


def test_errors_over_rest_are_refusals() -> None:
    symbol, path = (frame.payload for frame in frames("korbit", "error"))
    for channel in Channel:
        assert say("korbit", channel, symbol, BTC_KRW) == [
            Refused(pair=BTC_KRW, reason="400: INVALID_CURRENCY_PAIR", refusal=Refusal.FINAL)
        ]
    assert say("korbit", Channel.TICKER, path, BTC_KRW) == [Refused(pair=BTC_KRW, reason="404: NOT_FOUND")]
    assert say("korbit", Channel.TICKER, b'{"success":false}', BTC_KRW) == [Refused(pair=BTC_KRW, reason="no success")]
    with pytest.raises(DecodeError, match="INVALID_CURRENCY_PAIR"):
        traded_pairs(KORBIT, symbol)


def test_an_unknown_symbol_is_answered_with_success_and_nothing() -> None:
    assert say("korbit", Channel.TICKER, b'{"success":true,"data":[]}', BTC_KRW) == [
        Refused(pair=BTC_KRW, reason="no such market", refusal=Refusal.FINAL)
    ]


@pytest.mark.parametrize("stem", ["rest_orderbook", "rest_trade", "rest_candle"])
def test_rest_answers_that_do_not_name_their_pair_need_it(stem: str) -> None:
    [frame] = frames("korbit", stem)
    with pytest.raises(DecodeError, match="needs its pair"):
        KORBIT.decode(msgspec.structs.replace(frame, kind=Kind.REST, pair=None))


def test_requests_are_arrays_of_one_command() -> None:
    [request] = KORBIT.subscribe(Channel.TICKER, [BTC_KRW, ETH_KRW], id=1, time=0)
    assert request.payload == ('[{"requestId":1,"method":"subscribe","type":"ticker","symbols":["btc_krw","eth_krw"]}]')
    assert (request.pairs, request.id) == ((BTC_KRW, ETH_KRW), 1)
    [given_up] = KORBIT.unsubscribe(Channel.ORDERBOOK, [BTC_KRW], id=5, time=0)
    assert given_up.payload == '[{"method":"unsubscribe","type":"orderbook","symbols":["btc_krw"]}]'
    assert given_up.id is None
    many = [Pair(f"A{number}", "KRW") for number in range(120)]
    requests = list(KORBIT.subscribe(Channel.TRADE, many, id=7, time=0))
    assert [(len(request.pairs), request.id) for request in requests] == [(50, 7), (50, 8), (20, 9)]


def test_addresses_and_markets() -> None:
    urls = {channel: KORBIT.request_url(channel, BTC_KRW) for channel in Channel}
    assert urls == {
        Channel.TICKER: "https://api.digitalx.miraeasset.com/v2/tickers?symbol=btc_krw",
        Channel.ORDERBOOK: "https://api.digitalx.miraeasset.com/v2/orderbook?symbol=btc_krw",
        Channel.TRADE: "https://api.digitalx.miraeasset.com/v2/trades?symbol=btc_krw&limit=200",
        Channel.CANDLE: "https://api.digitalx.miraeasset.com/v2/candles?symbol=btc_krw&interval=1&limit=200",
        Channel.INSTRUMENT: KORBIT.markets_url(),
    }
    assert KORBIT.markets_url() == "https://api.digitalx.miraeasset.com/v2/currencyPairs"
    old, new = (traded_pairs(KORBIT, frame.payload) for frame in frames("korbit", "markets"))
    assert (old, new) == ([BTC_KRW, ETH_KRW], [BTC_KRW])  # xrp_krw is stopped


def test_symbols_are_lower_case_and_read_both_ways() -> None:
    assert KORBIT.symbol(BTC_KRW) == "btc_krw"
    assert KORBIT.pair("btc_krw") == BTC_KRW
