"""What is peculiar to the simulated Gate.io, Binance and Coinbase: forms, refusals, bridges, heartbeats."""

import json
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from coin_platform.book import Applied
from coin_platform.errors import SequenceGap
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Pair,
    Refusal,
    Refused,
    Side,
    Subscribed,
    Ticker,
    Trade,
)
from coin_platform.simulator.market import MINUTE
from coin_platform.simulator.server import Simulator
from coin_platform.simulator.venue import Message, MessageKind, RestAnswer
from tests.kit.recordings import frames, say
from tests.kit.sequences import sides
from tests.simulator.test_server import Talk, levels, pair_of, plain, served

Json: TypeAlias = Any

BTC_USDT, BTC_USD, ETH_USD = Pair("BTC", "USDT"), Pair("BTC", "USD"), Pair("ETH", "USD")


def form(value: Json) -> Json:
    """Return the names and types of a message without its values, a list as its first entry."""
    if isinstance(value, dict):
        return {name: form(part) for name, part in value.items()}
    return [form(part) for part in value[:1]] if isinstance(value, list) else type(value)


def recorded(name: str, stem: str, index: int) -> Json:
    """Return a recorded message."""
    return json.loads(frames(name, stem)[index].payload)


def told(messages: list[Message]) -> list[Json]:
    """Return messages as JSON."""
    return [json.loads(message.payload) for message in messages]


def said(talk: Talk, request: Json) -> list[Json]:
    """Return the answers to a request."""
    return told(list(talk.venue.received(json.dumps(request), talk.time)))


def events(talk: Talk, messages: list[Message]) -> list[Event]:
    """Return what messages say to the real adapter."""
    return [event for message in messages for event in talk.decode(message)]


def answer(talk: Talk, channel: Channel, pair: Pair) -> RestAnswer:
    """Ask over REST as the real adapter does."""
    parts = urlsplit(talk.exchange.request_url(channel, pair) or "")
    return talk.venue.rest(parts.path, dict(parse_qsl(parts.query)), talk.time)


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
    talk.ask()
    messages = [message for _ in range(10) for message in talk.step() if message.kind is MessageKind.DATA]
    assert form(told(messages)[-1]) == form(recorded(name, stem, index))


def test_binance_no_longer_sends_the_orders_of_a_trade() -> None:
    talk = Talk("binance", Channel.TRADE)
    talk.ask()
    [message] = told(talk.step())
    assert message["stream"] == "btcusdt@trade"
    assert form(message["data"]) == form(recorded("binance", "trade", -1))


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
    assert form(json.loads(answer(talk, channel, talk.pair).body)) == form(recorded(name, stem, index))


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("gateio", 400, {"label": "INVALID_CURRENCY_PAIR", "message": "Invalid currency pair NOPE_USDT"}),
        ("binance", 400, {"code": -1121, "msg": "Invalid symbol."}),
        ("coinbase", 404, {"message": "NotFound"}),
    ],
)
@pytest.mark.parametrize("channel", Channel)
def test_rest_refuses_in_the_exchanges_words(name: str, status: int, body: Json, channel: Channel) -> None:
    refused = answer(Talk(name), channel, Pair("NOPE", pair_of(name).quote))
    assert (refused.status, json.loads(refused.body)) == (status, body)


def test_gateio_sends_the_whole_book_before_the_answer_and_then_changes() -> None:
    talk = Talk("gateio")
    whole, answered = told(talk.ask())
    [change] = told(talk.step())
    assert form(whole) == form(recorded("gateio", "book_sequence_5", 0))
    assert form(change)["result"] == form(recorded("gateio", "book_sequence_5", 2))["result"] | {"a": [[str]]}
    names = recorded("gateio", "control", 0)
    assert form(answered) == {name: form(names[name]) for name in answered}
    assert (answered["id"], answered["payload"]) == (1, ["ob.BTC_USDT.400"])
    assert change["result"]["U"] == whole["result"]["u"] + 1


def test_gateio_leaves_out_a_side_without_changes() -> None:
    talk = Talk("gateio")
    talk.ask()
    talk.listing.changes[:] = [(Side.BUY, talk.listing.best()[0], 1.5)]
    [message] = talk.venue.step(talk.time)
    result = json.loads(message.payload)["result"]
    assert len(result["b"]) == 1 and "a" not in result
    [update] = talk.decode(message)
    assert isinstance(update, BookUpdate) and (update.bids[0].size, update.asks) == (1.5, [])


def test_one_bad_pair_spoils_a_request_to_gateio() -> None:
    talk = Talk("gateio", Channel.TICKER)
    refused = talk.ask(talk.pair, Pair("NOPE", "USDT"), id=5)
    reason = "2: unknown currency pair: NOPE_USDT"
    assert events(talk, refused) == [
        Refused(reason=reason, pair=Pair("NOPE", "USDT"), request=5, refusal=Refusal.FINAL)
    ]
    assert talk.step() == []


def test_gateio_refuses_a_second_subscription_to_a_book_and_a_channel_it_does_not_know() -> None:
    talk = Talk("gateio")
    talk.ask()
    assert events(talk, talk.ask(id=2)) == [Refused(reason="2: Alert sub ob.BTC_USDT.400", pair=BTC_USDT, request=2)]
    [fault] = said(talk, {"time": 1, "channel": "spot.nope", "event": "subscribe", "payload": ["BTC_USDT"]})
    assert (fault["error"], fault["result"]) == (
        {"code": 2, "message": "Unknown channel spot.nope"},
        {"status": "fail"},
    )
    talk.leave()
    assert [type(event) for event in events(talk, talk.ask(id=3))] == [BookUpdate, Subscribed]


def test_binance_acknowledges_what_does_not_exist_and_then_says_nothing() -> None:
    talk = Talk("binance")
    streams = ["nopeusdt@depth@100ms", "BTCUSDT@depth@100ms", "btcusdt@depth@50ms"]
    assert said(talk, {"method": "SUBSCRIBE", "params": streams, "id": 3}) == [{"result": None, "id": 3}]
    assert [talk.step() for _ in range(3)] == [[], [], []]


def test_binance_refuses_what_is_no_method() -> None:
    talk = Talk("binance")
    assert said(talk, {"method": "FOO", "params": [], "id": 20}) == [recorded("binance", "error", 0)]


def test_binance_numbers_its_books_before_within_and_after_the_newest_change_and_they_fit() -> None:
    places = set()
    for wait in range(60):
        talk = Talk("binance", seed=wait)
        early = talk.ask() + talk.step()
        talk.time += 1000 * wait
        [whole] = talk.get(Channel.ORDERBOOK, talk.pair)
        assert isinstance(whole, BookUpdate) and whole.last_sequence is not None
        before, after = talk.listing.previous, talk.listing.sequence
        assert before <= whole.last_sequence <= after
        places.add((whole.last_sequence > before, whole.last_sequence < after))
        for update in (*events(talk, early), whole, *events(talk, talk.step() + talk.step())):
            if isinstance(update, BookUpdate):
                talk.exchange.apply(talk.book, update)  # a gap would raise
        assert plain(talk.book.bids.top(50)) == levels(talk.listing, Side.BUY, 50)
        assert plain(talk.book.asks.top(50)) == levels(talk.listing, Side.SELL, 50)
    assert places >= {(False, True), (True, True), (True, False)}


def test_a_book_of_binance_may_be_fetched_later_than_the_first_changes() -> None:
    talk = Talk("binance")
    early = talk.ask() + [message for _ in range(5) for message in talk.step()]
    waiting = [event for event in events(talk, early) if isinstance(event, BookUpdate)]
    assert [talk.exchange.apply(talk.book, update) for update in waiting] == [Applied.WAITING] * 5
    talk.fetch()
    assert talk.book.sequence == talk.listing.sequence
    assert plain(talk.book.bids.top(100)) == levels(talk.listing, Side.BUY, 100)


def test_a_book_of_binance_that_is_fetched_too_early_does_not_fit() -> None:
    talk = Talk("binance")
    talk.ask()
    [whole] = talk.get(Channel.ORDERBOOK, talk.pair)
    assert isinstance(whole, BookUpdate)
    talk.step()  # not heard
    talk.exchange.apply(talk.book, whole)
    with pytest.raises(SequenceGap):
        talk.take(talk.step())


def test_a_rest_candle_of_binance_is_open_until_its_minute_is_over() -> None:
    talk = Talk("binance", Channel.CANDLE)
    talk.ask()
    closed = []
    for _ in range(1300):
        closed += [event for event in events(talk, talk.step()) if isinstance(event, Candle) and event.is_closed]
    assert [candle.open_time % MINUTE for candle in closed] == [0, 0]
    assert closed[1].open_time - closed[0].open_time == MINUTE


def test_coinbase_lists_all_that_is_subscribed_after_each_request() -> None:
    talk = Talk("coinbase")
    assert form(told(talk.ask())[1]) == form(recorded("coinbase", "orderbook", 22))
    listed, whole = told(talk.ask(ETH_USD))
    assert listed == {
        "type": "subscriptions",
        "channels": [
            {"name": "level2_50", "product_ids": ["BTC-USD", "ETH-USD"]},
            {"name": "heartbeat", "product_ids": ["BTC-USD", "ETH-USD"]},
        ],
    }
    assert (whole["type"], whole["product_id"]) == ("snapshot", "ETH-USD")
    both = {"type": "unsubscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channels": ["level2_batch", "heartbeat"]}
    assert said(talk, both) == [{"type": "subscriptions", "channels": []}]
    assert [talk.step() for _ in range(20)] == [[]] * 20


def test_coinbase_beats_every_second_for_each_pair() -> None:
    talk = Talk("coinbase", mute=True)
    talk.ask(BTC_USD, ETH_USD)
    beats = told([message for _ in range(30) for message in talk.step()])
    assert [beat["product_id"] for beat in beats] == ["BTC-USD", "ETH-USD"] * 3
    assert form(beats[0]) == form(recorded("coinbase", "control", 5))
    assert talk.decode_as(json.dumps(beats[0]), frames("coinbase", "control")[5].kind) == [Control(name="heartbeat")]


def test_coinbase_refuses_a_request_with_a_bad_pair_as_a_whole() -> None:
    talk = Talk("coinbase", Channel.TICKER)
    products = {"product_ids": ["BTC-USD", "NOPE-USD"], "channels": ["ticker"]}
    reason = "NOPE-USD is not a valid product"
    refused = {"type": "error", "message": "Failed to subscribe", "reason": reason}
    assert said(talk, {"type": "subscribe", **products}) == [refused]
    assert talk.step() == []


def test_coinbase_begins_with_the_last_trade_and_names_the_makers_side() -> None:
    talk = Talk("coinbase", Channel.TRADE)
    listed, last = told(talk.ask())
    [match] = told(talk.step())
    deal = talk.listing.deals[-1]
    assert (listed["type"], last["type"], match["type"]) == ("subscriptions", "last_match", "match")
    assert match["side"] == {Side.BUY: "sell", Side.SELL: "buy"}[deal.side]
    trades = [event for event in talk.get(Channel.TRADE, talk.pair) if isinstance(event, Trade)]
    assert (trades[0].id, trades[0].side) == (str(deal.id), deal.side)  # newest first
    assert trades[1].id == str(last["trade_id"])


def test_a_lost_change_of_coinbase_makes_a_wrong_book_that_a_new_snapshot_rights() -> None:
    talk = Talk("coinbase")
    talk.take(talk.ask())
    for _ in range(30):
        talk.step()  # not heard
    for _ in range(5):
        talk.take(talk.step())
    right = levels(talk.listing, Side.BUY, 100)
    assert plain(talk.book.bids.top(100)) != right and talk.book.is_valid
    talk.leave()
    talk.take(talk.ask())
    assert plain(talk.book.bids.top(100)) == right
    assert sides(talk.book)[0].keys() == {talk.listing.number(ticks) for ticks in talk.listing.bids}


def test_every_rest_path_is_served_for_every_pair(tmp_path: Path) -> None:
    found: dict[tuple[str, Channel], tuple[int, list[Event]]] = {}
    unknown: dict[str, int] = {}

    async def work(port: int, simulator: Simulator) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for name in ("gateio", "binance", "coinbase"):
                kind, pair = EXCHANGES[name], pair_of(name, "ETH")
                for channel in Channel:
                    url = simulated_url(kind.request_url(channel, pair) or "", name, f"127.0.0.1:{port}")
                    got = await http.get(url)
                    found[name, channel] = got.status_code, say(name, channel, got.content, pair)
                    unknown[name] = (await http.get(url.replace("ETH", "NOPE"))).status_code

    served(tmp_path, work)
    kinds = dict(zip(Channel, (Ticker, BookUpdate, Trade, Candle), strict=True))
    for (_, channel), (status, said_of) in found.items():
        assert status == 200
        assert {type(event) for event in said_of} == {kinds[channel]}
        assert {event.pair.base for event in said_of if isinstance(event, Trade)} <= {"ETH"}
    assert unknown == {"gateio": 400, "binance": 400, "coinbase": 404}
