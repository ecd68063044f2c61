"""The simulated Coinbase: lists of subscriptions, heartbeats, makers' sides, and books without numbers."""

import json

from coin_platform.model import Channel, Control, Pair, Side, Trade
from tests.kit.recordings import frames
from tests.kit.sequences import sides
from tests.kit.venue_talk import Talk, form, levels, plain, raw, recorded

BTC_USD, ETH_USD = Pair("BTC", "USD"), Pair("ETH", "USD")


def test_coinbase_lists_all_that_is_subscribed_after_each_request() -> None:
    talk = Talk("coinbase")
    assert form(raw(talk.subscribe())[1]) == form(recorded("coinbase", "orderbook", 22))
    listed, whole = raw(talk.subscribe(ETH_USD))
    assert listed == {
        "type": "subscriptions",
        "channels": [
            {"name": "level2_50", "product_ids": ["BTC-USD", "ETH-USD"]},
            {"name": "heartbeat", "product_ids": ["BTC-USD", "ETH-USD"]},
        ],
    }
    assert (whole["type"], whole["product_id"]) == ("snapshot", "ETH-USD")
    both = {"type": "unsubscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channels": ["level2_batch", "heartbeat"]}
    assert talk.request(both) == [{"type": "subscriptions", "channels": []}]
    assert [talk.step() for _ in range(20)] == [[]] * 20


def test_coinbase_beats_every_second_for_each_pair() -> None:
    talk = Talk("coinbase", mute=True)
    talk.subscribe(BTC_USD, ETH_USD)
    beats = raw(talk.steps(30))
    assert [beat["product_id"] for beat in beats] == ["BTC-USD", "ETH-USD"] * 3
    assert form(beats[0]) == form(recorded("coinbase", "control", 5))
    assert talk.decode_as(json.dumps(beats[0]), frames("coinbase", "control")[5].kind) == [Control(name="heartbeat")]


def test_coinbase_refuses_a_request_with_a_bad_pair_as_a_whole() -> None:
    talk = Talk("coinbase", Channel.TICKER)
    products = {"product_ids": ["BTC-USD", "NOPE-USD"], "channels": ["ticker"]}
    reason = "NOPE-USD is not a valid product"
    refused = {"type": "error", "message": "Failed to subscribe", "reason": reason}
    assert talk.request({"type": "subscribe", **products}) == [refused]
    assert talk.step() == []


def test_coinbase_begins_with_the_last_trade_and_names_the_makers_side() -> None:
    talk = Talk("coinbase", Channel.TRADE)
    listed, last = raw(talk.subscribe())
    [match] = raw(talk.step())
    deal = talk.listing.deals[-1]
    assert (listed["type"], last["type"], match["type"]) == ("subscriptions", "last_match", "match")
    assert match["side"] == {Side.BUY: "sell", Side.SELL: "buy"}[deal.side]
    trades = [event for event in talk.rest_events(Channel.TRADE, talk.pair) if isinstance(event, Trade)]
    assert (trades[0].id, trades[0].side) == (str(deal.id), deal.side)  # newest first
    assert trades[1].id == str(last["trade_id"])


def test_a_lost_change_of_coinbase_makes_a_wrong_book_that_a_new_snapshot_rights() -> None:
    talk = Talk("coinbase")
    talk.take(talk.subscribe())
    for _ in range(30):
        talk.step()  # these changes do not arrive
    for _ in range(5):
        talk.take(talk.step())
    right = levels(talk.listing, Side.BUY, 100)
    assert plain(talk.book.bids.top(100)) != right and talk.book.is_valid
    talk.unsubscribe()
    talk.take(talk.subscribe())
    assert plain(talk.book.bids.top(100)) == right
    assert sides(talk.book)[0].keys() == {talk.listing.number(ticks) for ticks in talk.listing.bids}
