"""Messages of Gate.io, Binance and Coinbase have the form of recorded ones, and errors the exchange's words."""

import json

import pytest

from coin_platform.model import Channel, Pair
from coin_platform.simulator.venue import MessageKind
from tests.kit.venue_talk import PAIR_CHANNELS, Json, Talk, form, pair_of, raw, recorded


@pytest.mark.parametrize(
    ("name", "channel", "stem", "index"),
    [
        ("gateio", Channel.TICKER, "ticker", 0),
        ("gateio", Channel.TRADE, "trade", 0),
        ("gateio", Channel.CANDLE, "candle", 0),
        ("binance", Channel.TICKER, "ticker", 1),
        ("binance", Channel.ORDERBOOK, "orderbook", 17),
        ("binance", Channel.CANDLE, "candle", 0),
        ("coinbase", Channel.TICKER, "ticker", 24),
        ("coinbase", Channel.ORDERBOOK, "orderbook", 28),
        ("coinbase", Channel.TRADE, "trade", 7),
    ],
)
def test_data_have_the_form_of_the_recorded_ones(name: str, channel: Channel, stem: str, index: int) -> None:
    talk = Talk(name, channel)
    talk.subscribe()
    messages = [message for _ in range(10) for message in talk.step() if message.kind is MessageKind.DATA]
    assert form(raw(messages)[-1]) == form(recorded(name, stem, index))


@pytest.mark.parametrize(
    ("name", "channel", "stem", "index"),
    [
        ("gateio", Channel.TICKER, "rest_ticker", 0),
        ("gateio", Channel.ORDERBOOK, "rest_orderbook", 0),
        ("binance", Channel.TICKER, "rest_ticker", 4),
        ("binance", Channel.ORDERBOOK, "rest_orderbook", 0),
        ("binance", Channel.TRADE, "rest_trades", 0),
        ("binance", Channel.CANDLE, "rest_candle", 0),
        ("coinbase", Channel.TICKER, "rest_ticker", 0),
        ("coinbase", Channel.TRADE, "rest_trades", 1),
        ("coinbase", Channel.CANDLE, "candle", 0),
    ],
)
def test_rest_answers_have_the_form_of_the_recorded_ones(name: str, channel: Channel, stem: str, index: int) -> None:
    talk = Talk(name, channel)
    assert form(json.loads(talk.rest(channel, talk.pair).body)) == form(recorded(name, stem, index))


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("gateio", 400, {"label": "INVALID_CURRENCY_PAIR", "message": "Invalid currency pair NOPE_USDT"}),
        ("binance", 400, {"code": -1121, "msg": "Invalid symbol."}),
        ("coinbase", 404, {"message": "NotFound"}),
    ],
)
@pytest.mark.parametrize("channel", PAIR_CHANNELS)
def test_rest_refuses_in_the_exchanges_words(name: str, status: int, body: Json, channel: Channel) -> None:
    refused = Talk(name).rest(channel, Pair("NOPE", pair_of(name).quote))
    assert (refused.status, json.loads(refused.body)) == (status, body)
