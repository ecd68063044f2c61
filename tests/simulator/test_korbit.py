"""The simulated Korbit: commands in arrays, their numbers and failures, and snapshots."""

import json

import pytest

from coin_platform.model import BookUpdate, Channel, Pair, Refusal, Refused, Subscribed
from coin_platform.simulator.venue import RestAnswer
from tests.kit.venue_talk import TIME, Talk, raw

NOPE = Pair("NOPE", "KRW")


def test_one_unknown_symbol_spoils_a_command_of_korbit_and_no_other() -> None:
    talk = Talk("korbit")
    commands = [
        {"requestId": 1, "method": "subscribe", "type": "orderbook", "symbols": ["btc_krw", "nope_krw"]},
        {"requestId": 2, "method": "subscribe", "type": "orderbook", "symbols": ["eth_krw"]},
        {"requestId": 4, "method": "subscribe", "type": "candle", "symbols": ["btc_krw"]},
    ]
    events = talk.events(list(talk.venue.received(json.dumps(commands), TIME)))
    reason = "INVALID_SYMBOL: The symbol does not exist (nope_krw)"
    assert events[0] == Refused(pair=NOPE, request=1, reason=reason, refusal=Refusal.FINAL)
    assert events[1] == Subscribed(request=2)
    assert isinstance(events[2], BookUpdate)
    assert events[3:] == [Refused(request=4, reason="INVALID_REQUEST: unknown_type")]
    assert [row["symbol"] for row in raw(talk.step())] == ["eth_krw"]


def test_korbit_acknowledges_only_numbered_commands_and_always_tells_failures() -> None:
    talk = Talk("korbit", Channel.TICKER)
    answers = []
    for symbol in ("btc_krw", "BTC_KRW"):
        command = {"method": "subscribe", "type": "ticker", "symbols": [symbol]}
        answers.append(raw(list(talk.venue.received(json.dumps([command]), TIME))))
    assert [row["type"] for row in answers[0]] == ["ticker"]
    message = "The symbol does not exist (BTC_KRW)"
    assert answers[1] == [{"status": "fail", "code": "INVALID_SYMBOL", "message": message}]


@pytest.mark.parametrize("channel", [Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE])
def test_only_the_first_message_of_korbit_says_that_it_is_a_snapshot(channel: Channel) -> None:
    talk = Talk("korbit", channel)
    assert [row.get("snapshot") for row in raw([*talk.subscribe()[1:], *talk.step(), *talk.step()])] == [
        True,
        None,
        None,
    ]


def test_korbit_lists_no_ticker_of_an_unknown_symbol_and_refuses_its_book() -> None:
    talk = Talk("korbit")
    refusal = RestAnswer('{"success":false,"error":{"code":400,"message":"INVALID_CURRENCY_PAIR"}}', 400)
    assert talk.rest(Channel.TICKER, NOPE) == RestAnswer('{"success":true,"data":[]}')
    assert [talk.rest(channel, NOPE) for channel in (Channel.ORDERBOOK, Channel.TRADE, Channel.CANDLE)] == [refusal] * 3
