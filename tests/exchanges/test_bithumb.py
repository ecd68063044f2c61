"""Bithumb: its units of time, and levels of its books that are none."""

from coin_platform.model import BookUpdate, Channel, Level, Pair, Ticker
from tests.kit.recordings import frames, say
from tests.kit.sequences import updates

BTC_KRW = Pair("BTC", "KRW")


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


def test_a_rest_ticker_that_does_not_tell_its_clock_has_no_time() -> None:
    [ticker] = say(
        "bithumb", Channel.TICKER, b'[{"market":"KRW-BTC","trade_price":1,"timestamp":1785430110156}]', BTC_KRW
    )
    assert ticker == Ticker(pair=BTC_KRW, last="1")


def test_a_rest_book_is_timed_in_milliseconds_and_was_in_microseconds() -> None:
    [book] = updates("bithumb", "rest_orderbook")
    assert book.exchange_time == 1_785_397_720_965_000
    assert 91_234_000 not in [level.price for level in book.asks]  # size 0
    payload = frames("bithumb", "rest_orderbook")[0].payload.replace(b"1785397720965", b"1785397720965123")
    [former] = say("bithumb", Channel.ORDERBOOK, payload, BTC_KRW)
    assert isinstance(former, BookUpdate) and former.exchange_time == 1_785_397_720_965_123
