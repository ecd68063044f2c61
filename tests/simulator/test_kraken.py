"""Books of the simulated Kraken: levels beyond the client's depth."""

import json

import pytest

from coin_platform.exchanges.kraken import DEPTHS
from coin_platform.model import BookUpdate, Side
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
