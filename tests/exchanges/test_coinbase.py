"""Coinbase: times that may be missing, what it confirms and refuses, books whose changes bear no numbers."""

import pytest

from coin_platform.book import Applied
from coin_platform.collect.actions import Failed
from coin_platform.collect.session import Session
from coin_platform.errors import DecodeError
from coin_platform.exchanges.coinbase import Coinbase
from coin_platform.model import BookUpdate, Channel, Instant, Pair, Subscribed, Ticker
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import frames, say
from tests.kit.sequences import folded, sides, updates

COINBASE = Coinbase()
BTC_USD, ETH_USD, BTC_EUR = Pair("BTC", "USD"), Pair("ETH", "USD"), Pair("BTC", "EUR")


@pytest.mark.parametrize("opened", [b'""', b'"0"', b'"0.00000000"'])
def test_a_price_24_hours_ago_that_is_not_known_makes_no_change(opened: bytes) -> None:
    payload = frames("coinbase", "ticker")[24].payload.replace(b'"42637.36"', opened)
    [ticker] = say("coinbase", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker) and (ticker.open_24h, ticker.change_24h) == (None, None)


def test_a_ticker_without_a_time_is_of_no_time() -> None:
    payload = frames("coinbase", "ticker")[24].payload.replace(b'"time": "2024-01-18T21:32:54.368300Z", ', b"")
    [ticker] = say("coinbase", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker) and (ticker.last, ticker.exchange_time) == ("40813.37", None)


def test_a_whole_book_may_have_a_time() -> None:
    timed = frames("coinbase", "orderbook")[22].payload.replace(b"}", b',"time":"2025-08-18T07:41:57.816974Z"}')
    [book] = say("coinbase", Channel.ORDERBOOK, timed)
    assert isinstance(book, BookUpdate) and book.exchange_time == 1_755_502_917_816_974


def test_a_size_that_was_never_recorded_is_no_size() -> None:
    other = frames("coinbase", "orderbook")[25].payload.replace(b"0.-10000", b"many")
    with pytest.raises(DecodeError):
        say("coinbase", Channel.ORDERBOOK, other)


def test_a_trade_without_a_time_is_a_dead_letter() -> None:
    payload = frames("coinbase", "trade")[0].payload.replace(b"2021-04-17T16:43:30.244075Z", b"0001-01-01T00:00:00Z")
    with pytest.raises(DecodeError, match="bad_time"):
        say("coinbase", Channel.TRADE, payload)


def test_an_answer_that_lists_more_than_anyone_can_ask_for_is_a_dead_letter() -> None:
    listed = b",".join([b'"BTC-USD"'] * 2001)
    payload = b'{"type":"subscriptions","channels":[{"name":"ticker","product_ids":[%s]}]}' % listed
    with pytest.raises(DecodeError, match="more subscriptions than a connection of ours has"):
        say("coinbase", Channel.TICKER, payload)


@pytest.mark.parametrize(
    ("channel", "pairs"),
    [
        (Channel.TICKER, [Pair("SKL", "USD"), Pair("BAND", "GBP")]),
        (Channel.TRADE, [Pair("SKL", "BTC"), Pair("DASH", "BTC")]),
        (Channel.ORDERBOOK, [Pair("SKL", "BTC"), Pair("NU", "GBP")]),
    ],
)
def test_only_a_connections_own_channel_is_confirmed(channel: Channel, pairs: list[Pair]) -> None:
    _, *confirmed = say("coinbase", channel, frames("coinbase", "control")[2].payload)
    assert len(confirmed) == 10
    assert confirmed[:2] == [Subscribed(pair=pair) for pair in pairs]


def test_a_refused_pair_costs_none_of_the_others() -> None:
    session = Session(COINBASE, Channel.TICKER, [BTC_USD, Pair("LOOM", "USDC")])
    assert len(session.opened(Instant(0, 0))) == 2  # one request each
    [failed] = session.received(frames("coinbase", "error")[1], Instant(0, 1))
    assert isinstance(failed, Failed) and failed.pair == Pair("LOOM", "USDC")
    assert session.received(frames("coinbase", "ticker")[24], Instant(0, 1)) == []
    assert session.unconfirmed == frozenset()


def test_a_rest_book_may_have_a_time() -> None:
    timed = frames("coinbase", "rest_orderbook")[0].payload.replace(b"}", b',"time":"2025-08-18T07:41:57.816974Z"}')
    [book] = say("coinbase", Channel.ORDERBOOK, timed, BTC_EUR)
    assert isinstance(book, BookUpdate) and book.exchange_time == 1_755_502_917_816_974


def test_markets_that_cannot_be_traded_are_left_out() -> None:
    recorded = frames("coinbase", "markets")[1].payload
    markets = traded_pairs(COINBASE, recorded)
    assert len(markets) == 15 and markets[:2] == [Pair("BTC", "USDT"), ETH_USD]
    assert Pair("GAL", "USDT") not in markets  # delisted
    disabled = recorded.replace(b'"trading_disabled": false', b'"trading_disabled":true', 1)
    assert traded_pairs(COINBASE, disabled) == markets[1:]


def test_F2_a_repeated_change_does_no_harm_and_a_lost_one_cannot_be_proved() -> None:
    whole, *changes = updates("coinbase", "book_sequence_1")
    book = COINBASE.book()
    COINBASE.apply(book, whole)
    for update in changes:
        COINBASE.apply(book, update)
        COINBASE.apply(book, update)
    assert sides(book) == folded([whole, *changes])
    book = COINBASE.book()
    for update in (whole, *changes[1:]):
        assert COINBASE.apply(book, update) is Applied.APPLIED
    assert sides(book) == folded([whole, *changes[1:]]) != folded([whole, *changes])


def test_changes_before_the_whole_book_wait_and_are_forgotten() -> None:
    whole, *changes = updates("coinbase", "book_sequence_2")
    book = COINBASE.book()
    assert COINBASE.apply(book, changes[0]) is Applied.WAITING
    assert COINBASE.apply(book, whole) is Applied.APPLIED
    assert sides(book) == folded([whole])


def test_a_second_whole_book_replaces_the_first() -> None:
    whole, *changes = updates("coinbase", "book_sequence_1")
    book = COINBASE.book()
    for update in (whole, *changes[:50], whole):
        COINBASE.apply(book, update)
    assert sides(book) == folded([whole])
