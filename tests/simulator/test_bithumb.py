"""The simulated Bithumb: times in three units, sizes cut short, and its pings and numbers."""

import json

import pytest

from coin_platform.model import BookUpdate, Channel, Control, Pair, Ticker, Trade
from coin_platform.simulator.venue import RestAnswer
from tests.kit.venue_talk import PAIR_CHANNELS, STEP, TIME, Talk

NOPE = Pair("NOPE", "KRW")


def test_bithumb_writes_times_in_three_units_and_two_zones_and_all_are_read_right() -> None:
    ticker, book, now = Talk("bithumb", Channel.TICKER), Talk("bithumb"), (TIME + STEP) // 1000
    ticker.subscribe(), book.subscribe()
    [message], [whole] = ticker.step(), book.step()
    fields = json.loads(message.payload)
    assert (fields["timestamp"], fields["trade_timestamp"]) == (now, now)
    assert (fields["trade_date"], fields["trade_time"]) == ("20261124", "090000")  # KST
    assert json.loads(whole.payload)["timestamp"] == TIME + STEP
    [row] = json.loads(ticker.rest(Channel.TICKER).body)
    assert (row["timestamp"], row["trade_timestamp"]) == (now + 9 * 3_600_000, now + 9 * 3_600_000)
    assert (row["trade_date"], row["trade_time"]) == ("20261124", "000000")  # UTC
    assert json.loads(book.rest(Channel.ORDERBOOK).body)[0]["timestamp"] == now
    read = ticker.events([message]) + book.events([whole])
    read += ticker.rest_events(Channel.TICKER, ticker.pair) + book.rest_events(Channel.ORDERBOOK, book.pair)
    assert [event.exchange_time for event in read if isinstance(event, Ticker | BookUpdate)] == [TIME + STEP] * 4


def test_bithumb_cuts_sizes_so_that_a_small_level_seems_empty() -> None:
    talk = Talk("bithumb")
    bids = talk.listing.bids
    best, second = sorted(bids, reverse=True)[:2]
    bids[best], bids[second] = 0.000099, 1.234599
    [whole] = talk.subscribe()
    units = json.loads(whole.payload)["orderbook_units"]
    assert [unit["bid_size"] for unit in units[:2]] == [0.0, 1.2345]
    [update] = talk.decode(whole)
    assert isinstance(update, BookUpdate)
    assert (update.bids[0].price, update.bids[0].size) == (talk.listing.number(second), 1.2345)
    assert (len(update.bids), len(update.asks)) == (14, 15)


def test_bithumb_says_that_it_is_up_every_ten_seconds_once_it_was_pinged() -> None:
    talk = Talk("bithumb")
    assert talk.steps(200) == []
    talk.ping()
    assert talk.events(talk.steps(200)) == [Control(name="pong")] * 2


def test_bithumb_numbers_a_trade_differently_on_rest_and_both_beyond_doubles() -> None:
    talk = Talk("bithumb", Channel.TRADE)
    talk.subscribe()
    [streamed], [listed, *_] = talk.events(talk.step()), talk.rest_events(Channel.TRADE, talk.pair)
    assert isinstance(streamed, Trade)
    assert isinstance(listed, Trade)
    assert (streamed.price, streamed.size, streamed.exchange_time) == (listed.price, listed.size, listed.exchange_time)
    assert streamed.id != listed.id
    assert min(int(streamed.id or 0), int(listed.id or 0)) > 2**53


@pytest.mark.parametrize("channel", PAIR_CHANNELS)
def test_bithumb_answers_an_unknown_market_with_an_error_and_http_200(channel: Channel) -> None:
    talk = Talk("bithumb", channel)
    assert talk.rest(channel, NOPE) == RestAnswer('{"error":{"name":404,"message":"Code not found"}}', 200)
