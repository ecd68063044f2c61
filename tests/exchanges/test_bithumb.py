"""Bithumb: its three units of time, its whole books, its refusals and requests."""

import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges.bithumb import Bithumb
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Level,
    Pair,
    Proof,
    Refusal,
    Refused,
    Region,
    Side,
    Ticker,
    Trade,
)
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import events, frames, say
from tests.kit.sequences import updates

BITHUMB = Bithumb()
BTC_KRW, ETH_KRW = Pair("BTC", "KRW"), Pair("ETH", "KRW")


def test_what_bithumb_is() -> None:
    assert (BITHUMB.name, BITHUMB.title, BITHUMB.region, BITHUMB.partition) == ("bithumb", "Bithumb", Region.KOREA, 1)
    assert (BITHUMB.quote, BITHUMB.proof, BITHUMB.replaces_subscription) == ("KRW", Proof.SNAPSHOT, True)
    assert BITHUMB.channels == {Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE}
    assert BITHUMB.ping == "PING" and BITHUMB.ping_every <= 30


def test_a_ticker_is_of_the_korean_day_in_milliseconds() -> None:
    assert list(events("bithumb", "ticker"))[1] == Ticker(
        pair=BTC_KRW,
        exchange_time=1_783_655_148_485_000,
        last="95299000",
        open_day="94223000",
        high_day="95465000",
        low_day="93601000",
        prev_close_day="94201000",
        change_day="1098000",
        change_rate_day="0.01165593",
        volume_24h="310.44065227",
        quote_volume_24h="29226371799.56915",
    )


def test_what_a_ticker_leaves_out_is_not_known() -> None:
    assert list(events("bithumb", "ticker"))[2] == Ticker(
        pair=BTC_KRW, exchange_time=1_790_133_514_044_000, last="116208000"
    )


def test_a_book_is_timed_in_microseconds() -> None:
    assert updates("bithumb", "orderbook")[2] == BookUpdate(
        pair=ETH_KRW,
        exchange_time=1_790_133_505_546_514,
        is_snapshot=True,
        bids=[Level(3_714_000, 3.012), Level(3_713_000, 15.399), Level(3_712_000, 135.5129)],
        asks=[Level(3_715_000, 8.4592), Level(3_716_000, 3.3766), Level(3_717_000, 4.1755)],
    )


def test_levels_whose_cut_size_is_zero_are_dropped() -> None:
    book = updates("bithumb", "orderbook")[1]
    assert len(book.bids) == 12  # of 15: 91175000, 91160000 and 91146000 show size 0
    assert len(book.asks) == 14  # of 15: 91234000 does
    assert book.bids[0] == Level(91_171_000, 0.0289)
    assert {91_175_000, 91_160_000, 91_146_000, 91_234_000}.isdisjoint(level.price for level in book.bids + book.asks)


def test_padding_of_thin_books_is_no_level() -> None:
    text = (
        b'{"type":"orderbook","code":"BTC-ETH","timestamp":1790133505546514,"orderbook_units":['
        b'{"ask_price":0.0334,"bid_price":0,"ask_size":8.4592,"bid_size":0}]}'
    )
    [book] = say("bithumb", Channel.ORDERBOOK, text)
    assert isinstance(book, BookUpdate)
    assert (book.pair, book.bids, book.asks) == (Pair("ETH", "BTC"), [], [Level(0.0334, 8.4592)])


def test_the_format_simple_has_the_same_values() -> None:
    assert updates("bithumb", "orderbook")[3] == BookUpdate(
        pair=BTC_KRW,
        exchange_time=None,  # left out of this recording
        is_snapshot=True,
        bids=[Level(116_267_000, 0.0084), Level(116_248_000, 0.0213), Level(116_239_000, 0.0024)],
        asks=[Level(116_279_000, 0.0892), Level(116_280_000, 0.0087), Level(116_290_000, 0.0025)],
    )


def test_a_trade_keeps_an_id_that_no_double_can_hold() -> None:
    sold, bought = events("bithumb", "trade")
    assert sold == Trade(
        pair=BTC_KRW,
        exchange_time=1_783_658_381_138_000,  # of the trade, not of the message
        id="862683813820523888",
        price=95_539_000,
        size=0.00022664,
        side=Side.SELL,
    )
    assert isinstance(bought, Trade) and bought.side is Side.BUY


def test_a_rest_ticker_nine_hours_ahead_is_set_right() -> None:
    ahead, right = events("bithumb", "rest_ticker")
    assert ahead == Ticker(
        pair=BTC_KRW,
        exchange_time=1_785_397_710_156_000,  # 2026-07-30 07:48:30.156 UTC; the row says 1785430110156, 16:48:30
        last="91171000",
        open_day="92112000",
        high_day="92770000",
        low_day="90904000",
        prev_close_day="92144000",
        change_day="-973000",
        change_rate_day="-0.0106",
        volume_24h="294.0810771",
        quote_volume_24h="27001571740.8207",
    )
    assert isinstance(right, Ticker) and right.exchange_time == 1_698_125_744_837_000  # of 2023: as the row says


def test_a_rest_ticker_that_does_not_tell_its_clock_has_no_time() -> None:
    [ticker] = say(
        "bithumb", Channel.TICKER, b'[{"market":"KRW-BTC","trade_price":1,"timestamp":1785430110156}]', BTC_KRW
    )
    assert ticker == Ticker(pair=BTC_KRW, last="1")


def test_a_rest_book_is_timed_in_milliseconds_and_was_in_microseconds() -> None:
    [book] = updates("bithumb", "rest_orderbook")
    assert book.exchange_time == 1_785_397_720_965_000
    assert book.bids[0] == Level(91_196_000, 0.0002) and book.asks[0] == Level(91_226_000, 0.0469)
    assert (book.pair, book.is_snapshot, book.last_sequence) == (BTC_KRW, True, None)
    assert 91_234_000 not in [level.price for level in book.asks]  # size 0
    payload = frames("bithumb", "rest_orderbook")[0].payload.replace(b"1785397720965", b"1785397720965123")
    [former] = say("bithumb", Channel.ORDERBOOK, payload, BTC_KRW)
    assert isinstance(former, BookUpdate) and former.exchange_time == 1_785_397_720_965_123


def test_rest_candles_are_minutes_and_nothing_else() -> None:
    minute, *months = events("bithumb", "rest_candle")
    assert minute == Candle(
        pair=BTC_KRW,
        exchange_time=1_785_397_710_000_000,
        open_time=1_785_397_680_000_000,  # 07:48:00 UTC
        open=91_226_000,
        high=91_233_000,
        low=91_171_000,
        close=91_171_000,
        volume=0.07725993,
        quote_volume=7_044_404.52985,
    )
    assert months == [Control(name="candle of another length")] * 3


def test_errors_with_http_200_are_refusals() -> None:
    assert list(events("bithumb", "control")) == [
        Control(name="pong"),
        Refused(reason="NO_TICKET: 티켓이 존재하지 않거나, 유효하지 않습니다.", refusal=Refusal.CONNECTION),
    ]
    unknown, path, former, gone = events("bithumb", "error")
    assert unknown == Refused(pair=Pair("NOPE", "KRW"), reason="404: Code not found", refusal=Refusal.FINAL)
    assert path == Refused(reason="not_found: No Route matched with those values")
    assert isinstance(former, Refused) and former.reason == "5500: 상장 코인 아님"
    assert isinstance(gone, Refused) and gone.reason.startswith("5100: After May 23th")


@pytest.mark.parametrize("payload", [b'{"type":"orderbookdepth","content":{}}', b'{"status":"0000"}', b"{}"])
def test_messages_of_the_former_api_are_dead_letters(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        say("bithumb", Channel.ORDERBOOK, payload)
    with pytest.raises(DecodeError):
        say("bithumb", Channel.ORDERBOOK, payload, BTC_KRW)


def test_a_subscription_always_asks_for_the_whole_set() -> None:
    [request] = BITHUMB.subscribe(Channel.ORDERBOOK, [BTC_KRW, Pair("ETH", "BTC")], id=3, time=7)
    assert request.payload == (
        '[{"ticket":"coin-platform-7-3"},{"type":"orderbook","codes":["KRW-BTC","BTC-ETH"]},{"format":"DEFAULT"}]'
    )
    assert (request.pairs, request.id) == ((BTC_KRW, Pair("ETH", "BTC")), None)
    for channel in BITHUMB.channels:
        [request] = BITHUMB.subscribe(channel, [BTC_KRW], id=1, time=0)
        assert f'{{"type":"{channel}","codes":["KRW-BTC"]}}' in request.payload
    assert list(BITHUMB.unsubscribe(Channel.TICKER, [BTC_KRW], id=1, time=0)) == []


def test_addresses_and_markets() -> None:
    urls = {channel: BITHUMB.request_url(channel, BTC_KRW) for channel in Channel}
    assert urls == {
        Channel.TICKER: "https://api.bithumb.com/v1/ticker?markets=KRW-BTC",
        Channel.ORDERBOOK: "https://api.bithumb.com/v1/orderbook?markets=KRW-BTC",
        Channel.TRADE: "https://api.bithumb.com/v1/trades/ticks?market=KRW-BTC&count=200",
        Channel.CANDLE: "https://api.bithumb.com/v1/candles/minutes/1?market=KRW-BTC&count=200",
        Channel.INSTRUMENT: BITHUMB.markets_url(),
    }
    assert BITHUMB.socket_url(Channel.TICKER) == "wss://ws-api.bithumb.com/websocket/v1"
    assert BITHUMB.markets_url() == "https://api.bithumb.com/v1/market/all?isDetails=true"
    [markets] = frames("bithumb", "markets")
    assert traded_pairs(BITHUMB, markets.payload) == [BTC_KRW, Pair("ZIL", "KRW"), Pair("ACS", "KRW")]


def test_symbols_read_both_ways() -> None:
    assert BITHUMB.symbol(Pair("USDT", "KRW")) == "KRW-USDT"
    assert BITHUMB.pair("BTC-ETH") == Pair("ETH", "BTC")
