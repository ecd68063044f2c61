"""Coinone: the order of its books, sides without orders, markets that cannot be traded."""

import pytest

from coin_platform.exchanges.coinone import Coinone
from coin_platform.model import Channel, Pair, Ticker
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import frames, say
from tests.kit.sequences import updates

COINONE = Coinone()
BTC_KRW, XRP_KRW = Pair("BTC", "KRW"), Pair("XRP", "KRW")


def test_a_side_without_orders_is_not_known() -> None:
    payload = frames("coinone", "ticker")[0].payload
    payload = payload.replace(b'"ask_best_price":"687.9"', b'"ask_best_price":null')
    payload = payload.replace(b'"bid_best_price":"687.8"', b'"bid_best_price":""')
    [ticker] = say("coinone", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker) and (ticker.best_ask, ticker.best_bid) == (None, None)


def test_asks_come_worst_first_and_the_book_still_finds_the_best() -> None:
    whole = updates("coinone", "orderbook")[0]
    assert (len(whole.bids), len(whole.asks)) == (16, 16)
    book = COINONE.book()
    COINONE.apply(book, whole)
    assert (book.bids.best, book.asks.best) == (687.4, 687.5)


@pytest.mark.parametrize("orders", [b"[]", b"null"])
def test_a_rest_ticker_of_a_thin_market_has_no_best_price(orders: bytes) -> None:
    payload = frames("coinone", "rest_ticker")[0].payload
    payload = payload.replace(b'[{"price":"50081000.0","qty":"0.18471358"}]', orders)
    payload = payload.replace(b'[{"price":"50062000.0","qty":"0.04213455"}]', orders)
    [ticker] = say("coinone", Channel.TICKER, payload, BTC_KRW)
    assert isinstance(ticker, Ticker)
    assert (ticker.best_bid, ticker.best_bid_size, ticker.best_ask, ticker.best_ask_size) == (None, None, None, None)


def test_markets_without_trading_or_in_maintenance_are_left_out() -> None:
    [markets] = frames("coinone", "markets")
    assert traded_pairs(COINONE, markets.payload) == [BTC_KRW]
    assert traded_pairs(COINONE, markets.payload.replace(b'"trade_status":1', b'"trade_status":0')) == []
    assert traded_pairs(COINONE, markets.payload.replace(b'"maintenance_status":0', b'"maintenance_status":1')) == []
