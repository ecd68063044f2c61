"""Every simulated exchange speaks its protocol: the real adapter reads what the market holds."""

from itertools import chain
from urllib.parse import parse_qsl, urlsplit

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import (
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Pair,
    Refused,
    Side,
    Subscribed,
    Ticker,
    Trade,
)
from coin_platform.simulator import VENUES
from coin_platform.simulator.market import MINUTE
from coin_platform.simulator.venue import MessageKind
from tests.kit.market_lists import traded_pairs
from tests.kit.venue_talk import PAIR_CHANNELS, SIZE_DIGITS, TIME, Talk, levels, pair_of, plain

# How some exchanges differ.
WITHOUT_OPEN = {"gateio"}  # their tickers have no price of 24 hours ago
WITHOUT_REFUSAL = {"binance"}  # they do not answer a request for an unknown pair
WITHOUT_SIDE = {"coinone"}  # their trades do not name the taker's side
PONGS = {"gateio": "spot.pong"}
UNSUBSCRIBED: dict[str, list[Event]] = {  # the answers to a client that unsubscribes BTC and keeps ETH
    "binance": [Control(name="done")],
    "coinbase": [Control(name="subscriptions"), Subscribed(pair=Pair("ETH", "USD"))],
    "coinone": [Control(name="unsubscribed")],
    "korbit": [],
}
SOCKET_LEVELS = {"bithumb": 15, "coinone": 16}  # of exchanges that send fewer than 30 levels a side
REST_LEVELS = {"coinone": 16}


@pytest.mark.no_cover  # much work, all of it covered by small tests
def test_books_hold_over_two_thousand_steps(name: str) -> None:
    talk = Talk(name)
    messages, digits = [*talk.subscribe(), *talk.step()], SIZE_DIGITS.get(name, 6)
    for step in range(2000):
        talk.take(messages)  # a gap or a wrong checksum would raise
        depth = len(talk.book.bids.levels) if step % 20 == 0 else 5
        assert depth >= (SOCKET_LEVELS.get(name, 30) if step % 20 == 0 else 5)
        assert plain(talk.book.bids.top(depth)) == levels(talk.listing, Side.BUY, depth, digits)
        assert plain(talk.book.asks.top(depth)) == levels(talk.listing, Side.SELL, depth, digits)
        assert not talk.book.is_crossed
        messages = talk.step()


def test_tickers_say_what_the_market_says(name: str) -> None:
    talk = Talk(name, Channel.TICKER)
    talk.subscribe()
    for _ in range(50):
        [event] = [
            event for message in talk.step() if message.kind is MessageKind.DATA for event in talk.decode(message)
        ]
        listing, number = talk.listing, talk.listing.number
        assert isinstance(event, Ticker)
        assert (event.pair, event.exchange_time) == (talk.pair, talk.time)
        bar, suffix = (listing.rolling, "24h") if event.high_24h else (listing.day, "day")
        texts = [event.last, *(getattr(event, f"{part}_{suffix}") for part in ("high", "low"))]
        assert [float(text or 0) for text in texts] == [number(t) for t in (bar.close, bar.high, bar.low)]
        if name not in WITHOUT_OPEN:
            assert float(getattr(event, f"open_{suffix}") or 0) == number(bar.open)
        assert float(event.volume_24h or 0) == listing.rolling.volume
        bid, ask = listing.best()
        if event.best_bid is not None:
            assert (float(event.best_bid), float(event.best_ask or 0)) == (number(bid), number(ask))
        if event.best_bid_size is not None:
            assert (float(event.best_bid_size), float(event.best_ask_size or 0)) == (
                listing.bids[bid],
                listing.asks[ask],
            )
        if event.change_rate_24h is not None:
            assert float(event.change_rate_24h) == pytest.approx(bar.close / bar.open - 1, abs=1e-6)
        if event.change_rate_day is not None:
            assert float(event.change_rate_day) == pytest.approx(listing.day.close / listing.prev_close - 1, abs=1e-8)


def test_each_trade_is_told_once(name: str) -> None:
    talk = Talk(name, Channel.TRADE)
    talk.subscribe()
    trades: list[Trade] = []
    for _ in range(40):
        for event in (event for message in talk.step() for event in talk.decode(message)):
            if isinstance(event, Trade):
                trades.append(event)
    happened = [
        (talk.listing.number(deal.ticks), deal.size, None if name in WITHOUT_SIDE else deal.side, deal.time)
        for deal in [*talk.listing.deals][-40:]
    ]
    assert [(trade.price, trade.size, trade.side, trade.exchange_time) for trade in trades] == happened
    assert len({trade.id for trade in trades}) == 40


@pytest.mark.parametrize("name", [name for name in VENUES if Channel.CANDLE in EXCHANGES[name].channels])
def test_the_last_candle_of_a_minute_is_the_minute(name: str) -> None:
    talk = Talk(name, Channel.CANDLE)
    talk.subscribe()
    candles: dict[int, Candle] = {}
    for _ in range(1300):
        for event in (event for message in talk.step() for event in talk.decode(message)):
            if isinstance(event, Candle):
                candles[event.open_time] = event
    number = talk.listing.number
    finished = [bar for bar in talk.listing.minutes if TIME <= bar.start < TIME + 2 * MINUTE]
    assert len(finished) == 2
    for bar in finished:
        candle = candles[bar.start]
        assert (candle.open, candle.high) == (number(bar.open), number(bar.high))
        assert (candle.low, candle.close, candle.volume) == (number(bar.low), number(bar.close), bar.volume)


def test_the_same_seed_sends_the_same_bytes_and_another_does_not(name: str) -> None:
    runs = []
    for seed in (3, 3, 4):
        talk = Talk(name, seed=seed, drop=0.1, bad=0.2)
        runs.append([*talk.subscribe(), *(message for _ in range(50) for message in talk.step())])
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("name", "channel"),
    [(name, channel) for name in VENUES for channel in PAIR_CHANNELS if channel in EXCHANGES[name].channels],
)
def test_no_two_data_messages_are_equal(name: str, channel: Channel) -> None:
    talk = Talk(name, channel)
    messages = talk.subscribe(*talk.market.listings[name])
    for _ in range(620 if channel is Channel.CANDLE else 60):
        messages += talk.step()
    payloads = [message.payload for message in messages if message.kind is MessageKind.DATA]
    assert len(payloads) == len(set(payloads)) >= 120


def test_an_unknown_pair_is_answered_as_the_exchange_does(name: str) -> None:
    talk = Talk(name, Channel.TICKER, refuse=EXCHANGES[name].symbol(pair_of(name, "ETH")))
    pairs = (Pair("NOPE", talk.exchange.quote), pair_of(name, "ETH"), talk.pair)
    asked = (
        [talk.subscribe(pair) for pair in pairs] if talk.exchange.refuses_whole_request else [talk.subscribe(*pairs)]
    )
    events = [event for message in [*chain(*asked), *talk.step()] for event in talk.decode(message)]
    assert {event.pair for event in events if isinstance(event, Ticker)} == {talk.pair}
    is_silent = talk.exchange.replaces_subscription or name in WITHOUT_REFUSAL
    assert sum(isinstance(event, Refused) for event in events) == (0 if is_silent else 2)


def test_pings_are_answered_and_unsubscribing_ends_the_data(name: str) -> None:
    talk = Talk(name, Channel.TICKER)
    if talk.exchange.ping is not None:
        [answer] = talk.venue.received(talk.exchange.ping, TIME)
        assert talk.decode(answer) == [Control(name=PONGS.get(name, "pong"))]
    talk.subscribe(talk.pair, pair_of(name, "ETH"))
    if talk.exchange.replaces_subscription:
        talk.subscribe(pair_of(name, "ETH"))
    else:
        left = UNSUBSCRIBED.get(name, [Control(name="unsubscribe")])
        assert talk.events(talk.unsubscribe()) == left
    events = talk.events(talk.step())
    assert {event.pair for event in events if isinstance(event, Ticker)} == {pair_of(name, "ETH")}


def test_a_second_subscription_begins_with_a_snapshot(name: str) -> None:
    talk = Talk(name)
    talk.take(talk.subscribe())
    for _ in range(20):
        talk.step()  # these messages do not arrive
    talk.unsubscribe()
    if talk.exchange.is_bridged:
        talk.book.invalidate()  # no snapshot comes over the socket
    talk.take(talk.subscribe())
    for _ in range(20):
        talk.take(talk.step())
    assert talk.book.is_valid


@pytest.mark.no_cover  # much work, all of it covered by small tests
@pytest.mark.parametrize(
    ("name", "channel"),
    [(n, channel) for n in VENUES for channel in Channel if EXCHANGES[n].request_url(channel, pair_of(n))],
)
def test_rest_answers_say_what_the_market_says(name: str, channel: Channel) -> None:
    talk = Talk(name, channel)
    for _ in range(700):
        talk.step()
    events = talk.rest_events(channel, talk.pair)
    listing, number = talk.listing, talk.listing.number
    for event in events:
        assert not isinstance(event, Refused)
    match events[0]:
        case Ticker(last=last):
            assert float(last) == number(listing.deals[-1].ticks)
        case BookUpdate(bids=bids, asks=asks):
            assert [level.price for level in bids] == [number(t) for t, _ in listing.levels(Side.BUY, len(bids))]
            assert [level.price for level in asks] == [number(t) for t, _ in listing.levels(Side.SELL, len(asks))]
            assert len(asks) >= REST_LEVELS.get(name, 30)
        case Trade():
            trades = sorted((e.exchange_time, e.price) for e in events if isinstance(e, Trade))
            assert trades == [(deal.time, number(deal.ticks)) for deal in listing.deals][-len(trades) :]
            assert len(trades) >= 60
        case Candle():
            closes = {e.open_time: e.close for e in events if isinstance(e, Candle)}
            assert [closes[bar.start] for bar in [*listing.minutes][1:]] == [
                number(bar.close) for bar in [*listing.minutes][1:]
            ]


def test_rest_lists_the_markets_and_knows_no_others(name: str) -> None:
    talk = Talk(name, Channel.TICKER)
    parts = urlsplit(talk.exchange.markets_url() or "")
    answer = talk.venue.rest(parts.path, dict(parse_qsl(parts.query)), TIME)
    assert set(traded_pairs(talk.exchange, answer.body.encode())) == set(talk.market.listings[name])
    assert [type(event) for event in talk.rest_events(Channel.TICKER, Pair("NOPE", talk.exchange.quote))] == [Refused]
