"""The simulated Binance: silent refusals, and books of REST that fit the numbered changes."""

import pytest

from coin_platform.book import Applied
from coin_platform.errors import SequenceGap
from coin_platform.model import BookUpdate, Candle, Channel, Side
from coin_platform.simulator.market import MINUTE
from tests.kit.venue_talk import Talk, form, levels, plain, raw, recorded


def test_binance_no_longer_sends_the_orders_of_a_trade() -> None:
    talk = Talk("binance", Channel.TRADE)
    talk.subscribe()
    [message] = raw(talk.step())
    assert message["stream"] == "btcusdt@trade"
    assert form(message["data"]) == form(recorded("binance", "trade", -1))


def test_binance_acknowledges_what_does_not_exist_and_then_says_nothing() -> None:
    talk = Talk("binance")
    streams = ["nopeusdt@depth@100ms", "BTCUSDT@depth@100ms", "btcusdt@depth@50ms"]
    assert talk.request({"method": "SUBSCRIBE", "params": streams, "id": 3}) == [{"result": None, "id": 3}]
    assert [talk.step() for _ in range(3)] == [[], [], []]


def test_binance_refuses_what_is_no_method() -> None:
    talk = Talk("binance")
    assert talk.request({"method": "FOO", "params": [], "id": 20}) == [recorded("binance", "error", 0)]


def test_binance_numbers_its_books_before_within_and_after_the_newest_change_and_they_fit() -> None:
    places = set()
    for wait in range(60):
        talk = Talk("binance", seed=wait)
        early = talk.subscribe() + talk.step()
        talk.time += 1000 * wait
        [whole] = talk.rest_events(Channel.ORDERBOOK, talk.pair)
        assert isinstance(whole, BookUpdate) and whole.last_sequence is not None
        before, after = talk.listing.previous, talk.listing.sequence
        assert before <= whole.last_sequence <= after
        places.add((whole.last_sequence > before, whole.last_sequence < after))
        for update in (*talk.events(early), whole, *talk.events(talk.step() + talk.step())):
            if isinstance(update, BookUpdate):
                talk.exchange.apply(talk.book, update)  # a gap would raise
        assert plain(talk.book.bids.top(50)) == levels(talk.listing, Side.BUY, 50)
        assert plain(talk.book.asks.top(50)) == levels(talk.listing, Side.SELL, 50)
    assert places >= {(False, True), (True, True), (True, False)}


def test_a_book_of_binance_may_be_fetched_later_than_the_first_changes() -> None:
    talk = Talk("binance")
    early = talk.subscribe() + talk.steps(5)
    waiting = [event for event in talk.events(early) if isinstance(event, BookUpdate)]
    assert [talk.exchange.apply(talk.book, update) for update in waiting] == [Applied.WAITING] * 5
    talk.fetch()
    assert talk.book.sequence == talk.listing.sequence
    assert plain(talk.book.bids.top(100)) == levels(talk.listing, Side.BUY, 100)


def test_a_book_of_binance_that_is_fetched_too_early_does_not_fit() -> None:
    talk = Talk("binance")
    talk.subscribe()
    [whole] = talk.rest_events(Channel.ORDERBOOK, talk.pair)
    assert isinstance(whole, BookUpdate)
    talk.step()  # this change does not arrive
    talk.exchange.apply(talk.book, whole)
    with pytest.raises(SequenceGap):
        talk.take(talk.step())


def test_a_rest_candle_of_binance_is_open_until_its_minute_is_over() -> None:
    talk = Talk("binance", Channel.CANDLE)
    talk.subscribe()
    closed = []
    for _ in range(1300):
        closed += [event for event in talk.events(talk.step()) if isinstance(event, Candle) and event.is_closed]
    assert [candle.open_time % MINUTE for candle in closed] == [0, 0]
    assert closed[1].open_time - closed[0].open_time == MINUTE
