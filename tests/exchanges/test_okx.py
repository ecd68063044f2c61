"""OKX: facts of its documentation, the rules of its books, its requests."""

import pytest

from coin_platform.book import Applied
from coin_platform.errors import DecodeError, SequenceGap, UnknownPair
from coin_platform.exchanges.okx import Okx
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Level,
    Notice,
    Pair,
    Refusal,
    Refused,
    Side,
    Subscribed,
    Ticker,
    Trade,
)
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import events, say

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


def test_a_ticker_of_its_documentation() -> None:
    payload = (
        b'{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT",'
        b'"last":"64028.6","lastSz":"0.0011553","askPx":"64028.7","askSz":"2.31126955","bidPx":"",'
        b'"bidSz":"0.00503393","open24h":"64324","high24h":"64496.9","low24h":"63237.6","sodUtc0":"63589.4",'
        b'"volCcy24h":"374703695.17","vol24h":"5874.19398956","ts":"1786538789464"}]}'
    )
    assert say("okx", Channel.TICKER, payload) == [
        Ticker(
            pair=BTC_USDT,
            exchange_time=1_786_538_789_464_000,
            last="64028.6",
            open_24h="64324",
            high_24h="64496.9",
            low_24h="63237.6",
            change_24h="-295.4",
            volume_24h="5874.19398956",  # base
            quote_volume_24h="374703695.17",
            best_bid=None,
            best_bid_size="0.00503393",
            best_ask="64028.7",
            best_ask_size="2.31126955",
        )
    ]


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


@pytest.mark.parametrize("action", ["", "updates", "Snapshot"])
def test_a_book_message_of_an_unknown_kind_is_neither_snapshot_nor_update(action: str) -> None:
    with pytest.raises(DecodeError, match="is not known"):
        book_event(action, 9, 4)


def test_a_book_message_without_its_proof_is_a_dead_letter() -> None:
    whole = BOOK % ("update", 9, 4)
    for lost in ('"seqId"', '"prevSeqId"'):
        with pytest.raises(DecodeError, match="neither seqId nor checksum"):
            say("okx", Channel.ORDERBOOK, whole.replace(lost, '"other"').encode())
    unchained = (BOOK % ("snapshot", 9, -1)).replace('"prevSeqId"', '"other"')
    [snapshot] = say("okx", Channel.ORDERBOOK, unchained.encode())
    assert isinstance(snapshot, BookUpdate) and snapshot.last_sequence == 9


def test_a_trade_may_stand_for_several() -> None:
    assert next(events("okx", "trade")) == Trade(
        pair=BTC_USDT,
        exchange_time=1_786_538_760_218_000,
        id="1040968613",
        price=64_040.2,
        size=0.00240857,
        side=Side.BUY,
        count=2,
    )


def test_a_candle_of_its_documentation() -> None:
    payload = (
        b'{"arg":{"channel":"candle1m","instId":"BTC-USDT"},"data":[["1786538760000","64040.2","64041","64025.7",'
        b'"64033.5","2.16787395","138825.265446816","138825.265446816","1"]]}'
    )
    assert say("okx", Channel.CANDLE, payload) == [
        Candle(
            pair=BTC_USDT,
            open_time=1_786_538_760_000_000,
            open=64_040.2,
            high=64_041,
            low=64_025.7,
            close=64_033.5,
            volume=2.16787395,
            quote_volume=138_825.265446816,
            is_closed=True,
        )
    ]


def test_candles_without_a_quote_volume_do_not_say_0() -> None:
    payload = b'{"arg":{"channel":"candle1m","instId":"BTC-USDT"},"data":[["1786538760000","4","5","3","4.5","2"]]}'
    [candle] = say("okx", Channel.CANDLE, payload)
    assert isinstance(candle, Candle) and (candle.quote_volume, candle.is_closed) == (None, None)


def test_answers_and_notices() -> None:
    assert say("okx", Channel.TICKER, b"pong") == [Control(name="pong")]
    ack = b'{"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"},"connId":"d6"}'
    assert say("okx", Channel.TICKER, ack) == [Subscribed(pair=BTC_USDT)]
    assert say("okx", Channel.TICKER, ack.replace(b"subscribe", b"unsubscribe")) == [Control(name="unsubscribe")]
    assert say("okx", Channel.TICKER, b'{"event":"error","code":"60018","msg":"no","id":"12"}') == [
        Refused(reason="60018: no", request=12, refusal=Refusal.FINAL)
    ]
    notice = b'{"event":"notice","code":"64008","msg":"soon"}'
    assert say("okx", Channel.TICKER, notice) == [Notice(reason="64008: soon")]
    other = b'{"arg":{"channel":"status"},"data":[]}'
    assert say("okx", Channel.TICKER, other) == [Control(name="channel status")]


def test_rest_answers_may_be_refusals() -> None:
    refused = say("okx", Channel.TICKER, b'{"code":"51001","data":[],"msg":"none"}', BTC_USDT)
    assert refused == [Refused(pair=BTC_USDT, reason="51001: none", refusal=Refusal.FINAL)]


def test_markets_that_are_not_live_are_left_out() -> None:
    markets = b'{"code":"0","data":[{"instId":"BTC-USDT","state":"live"},{"instId":"X-USDT","state":"suspend"}]}'
    assert traded_pairs(OKX, markets) == [BTC_USDT]


def test_candles_have_a_socket_of_their_own() -> None:
    assert OKX.socket_url(Channel.CANDLE).endswith("/business")


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (Channel.TICKER, "tickers"),
        (Channel.ORDERBOOK, "books"),
        (Channel.TRADE, "trades-all"),
        (Channel.CANDLE, "candle1m"),
    ],
)
def test_requests_are_as_documented(channel: Channel, name: str) -> None:
    payload = '{"id":"3","op":"%s","args":[{"channel":"%s","instId":"BTC-USDT"}]}'
    [request] = OKX.subscribe(channel, [BTC_USDT], id=3, time=7)
    assert (request.payload, request.pairs) == (payload % ("subscribe", name), (BTC_USDT,))
    [request] = OKX.unsubscribe(channel, [BTC_USDT], id=3, time=7)
    assert request.payload == payload % ("unsubscribe", name)


def test_many_pairs_are_asked_for_in_numbered_requests() -> None:
    pairs = [Pair(f"A{number}", "USDT") for number in range(OKX.limits.pairs_per_request + 1)]
    first, second = OKX.subscribe(Channel.TRADE, pairs, id=8, time=0)
    assert (first.id, second.id) == (8, 9)
    assert (first.pairs, second.pairs) == (tuple(pairs[:-1]), tuple(pairs[-1:]))


def test_symbols_read_both_ways() -> None:
    assert (OKX.pair("1INCH-USDT"), OKX.symbol(Pair("1INCH", "USDT"))) == (Pair("1INCH", "USDT"), "1INCH-USDT")


@pytest.mark.parametrize("symbol", ["BTC-USDT-SWAP", ""])
def test_what_is_no_spot_symbol_is_refused(symbol: str) -> None:
    with pytest.raises(UnknownPair):
        OKX.pair(symbol)
