"""The simulated Kraken: books with levels beyond the client's depth, and its list of markets."""

import json

import pytest

from coin_platform.exchanges.base import WHOLE_LIST
from coin_platform.exchanges.kraken import DEPTHS
from coin_platform.model import BookUpdate, Channel, Control, Instrument, InstrumentState, Refused, Side, Subscribed
from coin_platform.simulator.market import SIDE_LEVELS
from tests.kit.venue_talk import TIME, Talk, levels, plain


@pytest.mark.parametrize("depth", [depth for depth in DEPTHS if depth < SIDE_LEVELS])
def test_kraken_never_deletes_what_falls_out_of_the_depth(depth: int) -> None:
    talk, fell_out = Talk("kraken"), 0
    params = {"channel": "book", "symbol": ["BTC/USD"], "depth": depth}
    talk.take(list(talk.venue.received(json.dumps({"method": "subscribe", "params": params}), TIME)))
    for _ in range(300):
        before = talk.book.snapshot(talk.pair)
        messages = talk.step()
        [update] = [event for message in messages for event in talk.decode(message) if isinstance(event, BookUpdate)]
        deleted = {level.price for level in update.bids + update.asks if not level.size}
        talk.take(messages)
        assert plain(talk.book.bids.top(depth)) == levels(talk.listing, Side.BUY, depth)
        assert plain(talk.book.asks.top(depth)) == levels(talk.listing, Side.SELL, depth)
        assert len(talk.book.bids.levels) == len(talk.book.asks.levels) == depth
        left = {level.price for level in before.bids} - set(talk.book.bids.levels) - deleted
        fell_out += len(left)
    assert fell_out > 50


def test_kraken_sends_its_whole_list_to_a_subscriber_and_then_what_changes() -> None:
    talk = Talk("kraken", Channel.INSTRUMENT)
    subscribed, *listed, end = talk.events(talk.subscribe())
    assert (subscribed, end) == (Subscribed(request=1), WHOLE_LIST)
    pairs = list(talk.market.listings["kraken"])
    assert [event.pair for event in listed if isinstance(event, Instrument)] == pairs
    assert [event.tick_size for event in listed if isinstance(event, Instrument)] == [
        str(talk.market.listings["kraken"][pair].tick) for pair in pairs
    ]
    assert [type(event) for event in talk.events(talk.steps(10))] == [Control]  # a heartbeat
    talk.venue.refused = talk.exchange.symbol(talk.pair)
    gone, _, *_ = talk.events(talk.step())
    assert isinstance(gone, Instrument) and (gone.pair, gone.state) == (talk.pair, InstrumentState.DELISTED)
    talk.venue.refused = ""
    back, _, *_ = talk.events(talk.step())
    assert isinstance(back, Instrument) and (back.pair, back.state) == (talk.pair, InstrumentState.TRADING)


def test_kraken_refuses_a_second_subscription_to_its_list() -> None:
    talk = Talk("kraken", Channel.INSTRUMENT)
    talk.subscribe()
    [refused] = talk.events(talk.subscribe(id=2))
    assert isinstance(refused, Refused) and (refused.reason, refused.request) == ("Already subscribed", 2)
    talk.unsubscribe()
    assert WHOLE_LIST in talk.events(talk.subscribe(id=3))
