"""Binance: values that are not known, markets that are left out, books bridged from a REST snapshot."""

import msgspec
import pytest

from coin_platform.book import Applied
from coin_platform.collect.actions import Failed, Fetch, Lost, Restored, Rotate
from coin_platform.collect.session import Session
from coin_platform.errors import DecodeError, SequenceGap
from coin_platform.exchanges.binance import Binance
from coin_platform.model import BookUpdate, Channel, Instant, Level, Pair, Ticker
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import frames, say
from tests.kit.sequences import folded, sides, updates

BINANCE = Binance()
BTC_USDT, ETH_USDT, NKN_USDT = Pair("BTC", "USDT"), Pair("ETH", "USDT"), Pair("NKN", "USDT")
REST = "https://data-api.binance.vision/api/v3"


def test_a_ticker_of_a_pair_that_hardly_trades_has_prices_that_are_not_known() -> None:
    payload = frames("binance", "ticker")[0].payload
    for name, text in (("o", "69442.01000000"), ("b", "68004.11000000"), ("a", "68004.12000000")):
        full = f'"{name}": "{text}"'.encode()
        assert full in payload
        payload = payload.replace(full, f'"{name}":"0.00000000"'.encode())
    [ticker] = say("binance", Channel.TICKER, payload)
    assert isinstance(ticker, Ticker)
    assert (ticker.open_24h, ticker.best_bid, ticker.best_ask) == (None, None, None)


def test_a_whole_book_of_the_socket_has_neither_pair_nor_time() -> None:
    payload = (
        b'{"stream":"nknusdt@depth20@100ms","data":{"lastUpdateId":499869768,'
        b'"bids":[["0.35210000","672.00000000"]],"asks":[["0.35260000","3199.00000000"]]}}'
    )
    [book] = say("binance", Channel.ORDERBOOK, payload)
    assert book == BookUpdate(
        pair=NKN_USDT,
        is_snapshot=True,
        bids=[Level(0.3521, 672.0)],
        asks=[Level(0.3526, 3199.0)],
        last_sequence=499_869_768,
        depth=20,
    )
    with pytest.raises(DecodeError):  # of `/ws`: nobody knows of what pair
        say("binance", Channel.ORDERBOOK, payload.partition(b'"data":')[2][:-1])


def test_markets_that_cannot_be_traded_or_read_back_are_left_out() -> None:
    recorded = frames("binance", "markets")[0].payload
    markets = [Pair("ETH", "BTC"), BTC_USDT, ETH_USDT, Pair("LRC", "BTC")]
    assert traded_pairs(BINANCE, recorded) == markets  # without two that are in a BREAK
    no_spot = recorded.replace(b'"isSpotTradingAllowed": true', b'"isSpotTradingAllowed": false', 1)
    assert traded_pairs(BINANCE, no_spot) == markets[1:]
    new_quote = recorded.replace(b'"quoteAsset": "BTC"', b'"quoteAsset": "NEWUSD"', 1)
    assert traded_pairs(BINANCE, new_quote) == markets[1:]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_whole_book_fits_in_wherever_it_comes(count: int) -> None:
    early, whole, *changes = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    for update in (early, *changes[:count]):
        assert BINANCE.apply(book, update) is Applied.WAITING
    for update in (whole, *changes[count:20]):
        assert BINANCE.apply(book, update) is Applied.APPLIED
    assert sides(book) == folded([early, whole, *changes[:20]])
    assert book.sequence == changes[19].last_sequence


def test_a_newer_whole_book_fits_in_before_all_that_waited_for_the_older_one() -> None:
    _, whole, *changes = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    for update in changes[1:5]:
        BINANCE.apply(book, update)
    with pytest.raises(SequenceGap):
        BINANCE.apply(book, whole)
    assert BINANCE.apply(book, changes[5]) is Applied.WAITING
    newer = msgspec.structs.replace(whole, last_sequence=changes[0].last_sequence)
    assert BINANCE.apply(book, newer) is Applied.APPLIED
    assert book.sequence == changes[5].last_sequence
    assert sides(book) == folded([newer, *changes[1:6]])


@pytest.mark.parametrize("number", [499_869_757, 499_869_758, 499_869_760])
def test_F1_the_change_that_reveals_a_gap_waits_for_the_whole_book_which_may_end_within_it(number: int) -> None:
    _, whole, *changes = updates("binance", "book_sequence_1")
    book = BINANCE.book()
    for update in (whole, changes[0]):
        BINANCE.apply(book, update)
    revealing = msgspec.structs.replace(changes[2], first_sequence=499_869_758, last_sequence=499_869_760)
    with pytest.raises(SequenceGap):
        BINANCE.apply(book, revealing)
    newer = msgspec.structs.replace(whole, last_sequence=number)
    assert BINANCE.apply(book, newer) is Applied.APPLIED
    following = msgspec.structs.replace(changes[3], first_sequence=499_869_761, last_sequence=499_869_765)
    assert BINANCE.apply(book, following) is Applied.APPLIED
    assert sides(book) == folded([newer, revealing, following])


def test_F1_the_first_change_fetches_the_book_and_a_gap_fetches_it_again() -> None:
    early, whole, *changes = frames("binance", "book_sequence_1")
    session, url = Session(BINANCE, Channel.ORDERBOOK, [NKN_USDT]), f"{REST}/depth?symbol=NKNUSDT&limit=1000"
    session.opened(Instant(0, 0))
    assert session.received(early, Instant(0, 1)) == [Fetch(NKN_USDT, url)]
    assert session.received(whole, Instant(0, 2)) == []
    assert session.invalid == frozenset()
    assert session.received(changes[0], Instant(0, 3)) == []
    lost, fetch = session.received(changes[2], Instant(0, 20))  # the one before is missing
    assert isinstance(lost, Lost) and fetch == Fetch(NKN_USDT, url)
    later = msgspec.json.decode(whole.payload) | {"lastUpdateId": 499_869_757}
    assert list(
        session.received(msgspec.structs.replace(whole, payload=msgspec.json.encode(later)), Instant(0, 21))
    ) == [Restored(NKN_USDT)]


def test_a_stream_that_is_acknowledged_and_stays_silent_is_refused() -> None:
    session = Session(BINANCE, Channel.TICKER, [BTC_USDT, Pair("NOPE", "USDT")])
    session.opened(Instant(0, 0))
    acknowledged, ticker = frames("binance", "control")[0], frames("binance", "ticker")[0]
    assert [*session.received(acknowledged, Instant(0, 1)), *session.received(ticker, Instant(0, 2))] == []
    [failed] = session.tick(Instant(0, 11))
    assert isinstance(failed, Failed) and failed.pair == Pair("NOPE", "USDT")


def test_a_shutdown_that_is_announced_calls_for_a_successor() -> None:
    session = Session(BINANCE, Channel.TICKER, [BTC_USDT])
    assert session.received(frames("binance", "control")[3], Instant(0, 1)) == [Rotate("serverShutdown")]
