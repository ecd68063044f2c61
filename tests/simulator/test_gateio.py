"""The simulated Gate.io: whole books before the answer, and refusals of whole requests."""

import json

from coin_platform.model import BookUpdate, Channel, Pair, Refusal, Refused, Side, Subscribed
from tests.kit.venue_talk import Talk, form, raw, recorded

BTC_USDT = Pair("BTC", "USDT")


def test_gateio_sends_the_whole_book_before_the_answer_and_then_changes() -> None:
    talk = Talk("gateio")
    whole, answered = raw(talk.subscribe())
    [change] = raw(talk.step())
    assert form(whole) == form(recorded("gateio", "book_sequence_5", 0))
    assert form(change)["result"] == form(recorded("gateio", "book_sequence_5", 2))["result"] | {"a": [[str]]}
    names = recorded("gateio", "control", 0)
    assert form(answered) == {name: form(names[name]) for name in answered}
    assert (answered["id"], answered["payload"]) == (1, ["ob.BTC_USDT.400"])
    assert change["result"]["U"] == whole["result"]["u"] + 1


def test_gateio_leaves_out_a_side_without_changes() -> None:
    talk = Talk("gateio")
    talk.subscribe()
    talk.listing.changes[:] = [(Side.BUY, talk.listing.best()[0], 1.5)]
    [message] = talk.venue.step(talk.time)
    result = json.loads(message.payload)["result"]
    assert len(result["b"]) == 1 and "a" not in result
    [update] = talk.decode(message)
    assert isinstance(update, BookUpdate) and (update.bids[0].size, update.asks) == (1.5, [])


def test_one_bad_pair_spoils_a_request_to_gateio() -> None:
    talk = Talk("gateio", Channel.TICKER)
    refused = talk.subscribe(talk.pair, Pair("NOPE", "USDT"), id=5)
    reason = "2: unknown currency pair: NOPE_USDT"
    assert talk.events(refused) == [Refused(reason=reason, pair=Pair("NOPE", "USDT"), request=5, refusal=Refusal.FINAL)]
    assert talk.step() == []


def test_gateio_refuses_a_second_subscription_to_a_book_and_a_channel_it_does_not_know() -> None:
    talk = Talk("gateio")
    talk.subscribe()
    assert talk.events(talk.subscribe(id=2)) == [
        Refused(reason="2: Alert sub ob.BTC_USDT.400", pair=BTC_USDT, request=2)
    ]
    [fault] = talk.request({"time": 1, "channel": "spot.nope", "event": "subscribe", "payload": ["BTC_USDT"]})
    assert (fault["error"], fault["result"]) == (
        {"code": 2, "message": "Unknown channel spot.nope"},
        {"status": "fail"},
    )
    talk.unsubscribe()
    assert [type(event) for event in talk.events(talk.subscribe(id=3))] == [BookUpdate, Subscribed]
