"""Coinone: its two forms of a message, its two kinds of ticker, its answers and requests."""

import msgspec
import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges.coinone import Coinone
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
    Subscribed,
    Ticker,
    Trade,
)
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import events, frames, say
from tests.kit.sequences import updates

COINONE = Coinone()
BTC_KRW, XRP_KRW = Pair("BTC", "KRW"), Pair("XRP", "KRW")


def test_what_coinone_is() -> None:
    assert (COINONE.name, COINONE.title, COINONE.region, COINONE.partition) == ("coinone", "Coinone", Region.KOREA, 2)
    assert (COINONE.quote, COINONE.proof) == ("KRW", Proof.SNAPSHOT)
    assert COINONE.channels == set(Channel) - {Channel.INSTRUMENT}
    assert COINONE.ping == '{"request_type":"PING"}' and COINONE.ping_every <= 30


def test_a_ticker_of_the_socket_is_of_the_utc_day() -> None:
    assert next(events("coinone", "ticker")) == Ticker(
        pair=XRP_KRW,
        exchange_time=1_693_560_360_010_000,
        last="687.9",
        open_day="698.7",
        high_day="699.5",
        low_day="683.9",
        prev_close_day="698.7",
        change_day="-10.8",
        volume_24h="80021677.1681579",
        quote_volume_24h="55904975548.1528",
        best_bid="687.8",
        best_bid_size="13861.6179",
        best_ask="687.9",
        best_ask_size="7594.1842",
    )


def test_the_format_short_has_the_same_values() -> None:
    assert list(events("coinone", "ticker"))[1] == Ticker(
        pair=XRP_KRW,
        exchange_time=1_693_560_378_928_000,
        last="687.9",
        open_day="698.7",
        high_day="699.5",
        low_day="683.9",
        prev_close_day="698.7",
        change_day="-10.8",
        volume_24h="79912892.7741579",
        quote_volume_24h="55827441390.8456",
        best_bid="687.8",
        best_bid_size="13861.6179",
        best_ask="688.3",
        best_ask_size="84992.9448",
    )
    assert updates("coinone", "orderbook")[3] == BookUpdate(
        pair=BTC_KRW,
        exchange_time=1_790_134_177_753_000,
        is_snapshot=True,
        bids=[Level(116_450_000, 0.0118)],
        asks=[Level(116_650_000, 0.01198956), Level(116_460_000, 0.0232)],
    )
    assert list(events("coinone", "trade"))[1] == Trade(
        pair=XRP_KRW, exchange_time=1_693_560_563_084_000, id="1693560563084003", price=688.3, size=290.745, side=None
    )


def test_a_side_without_orders_is_not_known() -> None:
    payload = frames("coinone", "ticker")[0].payload
    payload = payload.replace(b'"ask_best_price":"687.9"', b'"ask_best_price":null')
    payload = payload.replace(b'"bid_best_price":"687.8"', b'"bid_best_price":""')
    [ticker] = say("coinone", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker) and (ticker.best_ask, ticker.best_bid) == (None, None)


def test_asks_come_worst_first_and_the_book_still_finds_the_best() -> None:
    whole, _, stale, _ = updates("coinone", "orderbook")
    assert (len(whole.bids), len(whole.asks)) == (16, 16)
    assert whole.asks[0] == Level(695.5, 5000) and whole.asks[-1] == Level(687.5, 47022.8803)
    book = COINONE.book()
    COINONE.apply(book, whole)
    assert (book.bids.best, book.asks.best) == (687.4, 687.5)
    assert stale == BookUpdate(
        pair=BTC_KRW,
        exchange_time=1_790_134_167_554_000,  # its last change, 10 s before it was sent
        is_snapshot=True,
        bids=[Level(116_450_000, 0.0118), Level(116_440_000, 0.04695328), Level(116_250_000, 0.01325806)],
        asks=[
            Level(116_650_000, 0.01198956),
            Level(116_640_000, 0.000657),
            Level(116_470_000, 0.00171821),
            Level(116_460_000, 0.0232),
        ],
    )


def test_a_trade_has_no_side() -> None:
    assert next(events("coinone", "trade")) == Trade(
        pair=XRP_KRW, exchange_time=1_693_560_450_996_000, id="1693560450996001", price=688.3, size=5000, side=None
    )


def test_a_candle_is_a_minute() -> None:
    assert list(events("coinone", "candle")) == [
        Candle(
            pair=XRP_KRW,
            exchange_time=1_693_560_360_010_000,
            open_time=1_693_560_360_000_000,
            open=698.7,
            high=699.5,
            low=683.9,
            close=687.9,
            volume=80_021_677.1681579,
            quote_volume=55_904_975_548.1528,
        )
    ]
    longer = frames("coinone", "candle")[0].payload.replace(b'"interval":"1m"', b'"interval":"1h"')
    assert say("coinone", Channel.CANDLE, longer) == [Control(name="candle of 1h")]


def test_an_unknown_pair_is_confirmed_before_it_is_refused() -> None:
    assert list(events("coinone", "control")) == [
        Subscribed(pair=XRP_KRW),
        Subscribed(pair=XRP_KRW),  # of a candle, which names its interval, too
        Control(name="connected"),
        Subscribed(pair=BTC_KRW),
        Control(name="pong"),
        Refused(reason="160012: Invalid Topic", refusal=Refusal.FINAL),
    ]
    given_up = frames("coinone", "control")[0].payload.replace(b"SUBSCRIBED", b"UNSUBSCRIBED")
    assert say("coinone", Channel.TICKER, given_up) == [Control(name="unsubscribed")]


@pytest.mark.parametrize("payload", [b'{"response_type":"NEW"}', b'{"r":"DATA","c":"NEW","d":{}}', b"{}"])
def test_what_is_not_documented_is_a_dead_letter(payload: bytes) -> None:
    with pytest.raises(DecodeError, match="is not known"):
        say("coinone", Channel.TICKER, payload)


def test_a_rest_ticker_is_of_24_hours_and_in_lower_case() -> None:
    recorded, *documented = events("coinone", "rest_ticker")
    assert recorded == Ticker(
        pair=BTC_KRW,
        exchange_time=1_701_073_357_818_000,
        last="50062000.0",
        open_24h="50487000.0",
        high_24h="50543000.0",
        low_24h="49945000.0",
        change_24h="-425000.0",
        volume_24h="226.07268994",
        quote_volume_24h="11349804285.3859",
        best_bid="50062000.0",
        best_bid_size="0.04213455",
        best_ask="50081000.0",
        best_ask_size="0.18471358",
    )
    assert [event.pair for event in documented if isinstance(event, Ticker)] == [
        *(BTC_KRW, Pair("BCH", "KRW"), Pair("ETH", "KRW")) * 2
    ]


@pytest.mark.parametrize("orders", [b"[]", b"null"])
def test_a_rest_ticker_of_a_thin_market_has_no_best_price(orders: bytes) -> None:
    payload = frames("coinone", "rest_ticker")[0].payload
    payload = payload.replace(b'[{"price":"50081000.0","qty":"0.18471358"}]', orders)
    payload = payload.replace(b'[{"price":"50062000.0","qty":"0.04213455"}]', orders)
    [ticker] = say("coinone", Channel.TICKER, payload, BTC_KRW)
    assert isinstance(ticker, Ticker)
    assert (ticker.best_bid, ticker.best_bid_size, ticker.best_ask, ticker.best_ask_size) == (None, None, None, None)


def test_rest_books_trades_and_candles() -> None:
    [book] = updates("coinone", "rest_orderbook")
    assert (book.pair, book.exchange_time, book.is_snapshot) == (BTC_KRW, 1_644_488_410_702_000, True)
    assert book.bids[0] == Level(75_862_000, 0.5) and book.bids[-1] == Level(75_855_000, 0.5)
    assert book.asks == [
        *(Level(75_863_000, 22.5), Level(75_865_000, 22), Level(75_867_000, 11)),
        *(Level(75_869_000, 23), Level(75_871_000, 24)),
    ]
    assert list(events("coinone", "rest_trade")) == [
        Trade(
            pair=BTC_KRW,
            exchange_time=1_701_075_265_708_000,
            id="1701075265708001",
            price=50_020_000,
            size=0.00155177,
            side=None,
        )
    ]
    candles = list(events("coinone", "rest_candle"))
    assert len(candles) == 3
    assert candles[0] == Candle(
        pair=BTC_KRW,
        open_time=1_582_253_100_000_000,
        open=15_133_000,
        high=15_133_000,
        low=15_133_000,
        close=15_133_000,
        volume=0,
        quote_volume=0,
    )


def test_errors_come_with_http_200_and_are_refusals() -> None:
    parameter, limit = (frame.payload for frame in frames("coinone", "error"))
    for channel in Channel:
        assert say("coinone", channel, parameter, BTC_KRW) == [
            Refused(pair=BTC_KRW, reason="107: Parameter value is wrong")
        ]
    assert say("coinone", Channel.TICKER, limit, BTC_KRW) == [
        Refused(pair=BTC_KRW, reason="4: Blocked user access", ban_seconds=60.0)
    ]
    nothing = b'{"result":"success","error_code":"0","server_time":1701073358487,"tickers":[]}'
    assert say("coinone", Channel.TICKER, nothing, BTC_KRW) == [
        Refused(pair=BTC_KRW, reason="no such market", refusal=Refusal.FINAL)
    ]
    with pytest.raises(DecodeError):
        say("coinone", Channel.TICKER, b"<!DOCTYPE html><html></html>", BTC_KRW)  # an unknown path, also HTTP 200
    with pytest.raises(DecodeError, match="107"):
        traded_pairs(COINONE, parameter)


def test_candles_over_rest_need_their_pair() -> None:
    [frame] = frames("coinone", "rest_candle")
    with pytest.raises(DecodeError, match="needs its pair"):
        COINONE.decode(msgspec.structs.replace(frame, pair=None))


def test_each_pair_is_asked_for_by_itself() -> None:
    first, second = COINONE.subscribe(Channel.TICKER, [BTC_KRW, XRP_KRW], id=1, time=0)
    assert first.payload == (
        '{"request_type":"SUBSCRIBE","channel":"TICKER","topic":{"quote_currency":"KRW","target_currency":"BTC"}}'
    )
    assert (first.pairs, second.pairs, first.id) == ((BTC_KRW,), (XRP_KRW,), None)
    [candle] = COINONE.subscribe(Channel.CANDLE, [BTC_KRW], id=1, time=0)
    assert candle.payload == (
        '{"request_type":"SUBSCRIBE","channel":"CHART",'
        '"topic":{"quote_currency":"KRW","target_currency":"BTC","interval":"1m"}}'
    )
    [given_up] = COINONE.unsubscribe(Channel.ORDERBOOK, [BTC_KRW], id=1, time=0)
    assert given_up.payload == (
        '{"request_type":"UNSUBSCRIBE","channel":"ORDERBOOK","topic":{"quote_currency":"KRW","target_currency":"BTC"}}'
    )


def test_addresses_and_markets() -> None:
    urls = {channel: COINONE.request_url(channel, BTC_KRW) for channel in Channel}
    assert urls == {
        Channel.TICKER: "https://api.coinone.co.kr/public/v2/ticker_new/KRW/BTC",
        Channel.ORDERBOOK: "https://api.coinone.co.kr/public/v2/orderbook/KRW/BTC?size=16",
        Channel.TRADE: "https://api.coinone.co.kr/public/v2/trades/KRW/BTC?size=200",
        Channel.CANDLE: "https://api.coinone.co.kr/public/v2/chart/KRW/BTC?interval=1m&size=500",
        Channel.INSTRUMENT: COINONE.markets_url(),
    }
    assert COINONE.socket_url(Channel.TICKER) == "wss://stream.coinone.co.kr"
    assert COINONE.markets_url() == "https://api.coinone.co.kr/public/v2/markets/KRW"


def test_markets_without_trading_or_in_maintenance_are_left_out() -> None:
    [markets] = frames("coinone", "markets")
    assert traded_pairs(COINONE, markets.payload) == [BTC_KRW]
    assert traded_pairs(COINONE, markets.payload.replace(b'"trade_status":1', b'"trade_status":0')) == []
    assert traded_pairs(COINONE, markets.payload.replace(b'"maintenance_status":0', b'"maintenance_status":1')) == []


def test_symbols_read_both_ways() -> None:
    assert COINONE.symbol(BTC_KRW) == "KRW/BTC"
    assert COINONE.pair("KRW/BTC") == BTC_KRW
    assert COINONE.pair("krw/btc") == BTC_KRW
