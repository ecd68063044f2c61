"""OKX: the rules of its books, and values that its messages leave out."""

import pytest

from coin_platform.book import Applied
from coin_platform.errors import DecodeError, SequenceGap
from coin_platform.exchanges.okx import Okx
from coin_platform.model import BookUpdate, Candle, Channel, Event, Level, Pair, Ticker
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import frames, say

OKX = Okx()
BTC_USDT = Pair("BTC", "USDT")
BOOK = (
    '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"%s","data":[{"asks":[],"bids":[["1","2","0","1"]],'
    '"ts":"1786182438509","checksum":0,"seqId":%d,"prevSeqId":%d}]}'
)


def book_event(action: str, sequence: int, previous: int) -> Event:
    """Return the event of a book message with these numbers."""
    [event] = say("okx", Channel.ORDERBOOK, (BOOK % (action, sequence, previous)).encode())
    return event


def book_update(action: str, sequence: int, previous: int) -> BookUpdate:
    event = book_event(action, sequence, previous)
    assert isinstance(event, BookUpdate)
    return event


def test_an_empty_best_price_is_not_known() -> None:
    payload = frames("okx", "ticker")[0].payload.replace(b'"bidPx":"64028.6"', b'"bidPx":""')
    [ticker] = say("okx", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker)
    assert (ticker.best_bid, ticker.best_bid_size, ticker.best_ask) == (None, "0.00503393", "64028.7")


def test_books_follow_its_rules() -> None:
    assert book_update("update", 9, 4) == BookUpdate(
        pair=BTC_USDT,
        exchange_time=1_786_182_438_509_000,
        is_snapshot=False,
        bids=[Level(1, 2)],
        asks=[],
        first_sequence=5,
        last_sequence=9,
    )
    book = OKX.book()
    assert OKX.apply(book, book_update("update", 9, 4)) is Applied.WAITING
    assert OKX.apply(book, book_update("snapshot", 10, -1)) is Applied.APPLIED
    assert OKX.apply(book, book_update("update", 10, 10)) is Applied.APPLIED  # a keep-alive
    assert OKX.apply(book, book_update("update", 20, 10)) is Applied.APPLIED
    assert OKX.apply(book, book_update("update", 20, 10)) is Applied.IGNORED  # the same again
    assert OKX.apply(book, book_update("update", 3, 20)) is Applied.APPLIED  # numbering restarts
    assert book.sequence == 3
    with pytest.raises(SequenceGap):
        OKX.apply(book, book_update("update", 6, 5))
    assert not book.is_valid


def test_a_book_message_without_its_proof_is_a_dead_letter() -> None:
    whole = BOOK % ("update", 9, 4)
    for lost in ('"seqId"', '"prevSeqId"'):
        with pytest.raises(DecodeError, match="neither seqId nor checksum"):
            say("okx", Channel.ORDERBOOK, whole.replace(lost, '"other"').encode())
    unchained = (BOOK % ("snapshot", 9, -1)).replace('"prevSeqId"', '"other"')
    [snapshot] = say("okx", Channel.ORDERBOOK, unchained.encode())
    assert isinstance(snapshot, BookUpdate) and snapshot.last_sequence == 9


def test_a_candle_says_that_it_is_closed() -> None:
    [candle] = say("okx", Channel.CANDLE, frames("okx", "candle")[0].payload.replace(b'"0"]', b'"1"]'))
    assert isinstance(candle, Candle) and candle.is_closed is True


def test_candles_without_a_quote_volume_do_not_say_0() -> None:
    payload = b'{"arg":{"channel":"candle1m","instId":"BTC-USDT"},"data":[["1786538760000","4","5","3","4.5","2"]]}'
    [candle] = say("okx", Channel.CANDLE, payload)
    assert isinstance(candle, Candle) and (candle.quote_volume, candle.is_closed) == (None, None)


def test_markets_that_are_not_live_are_left_out() -> None:
    markets = b'{"code":"0","data":[{"instId":"BTC-USDT","state":"live"},{"instId":"X-USDT","state":"suspend"}]}'
    assert traded_pairs(OKX, markets) == [BTC_USDT]
