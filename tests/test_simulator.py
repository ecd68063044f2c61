"""The simulated exchanges speak the protocols: their messages decode to what the market says, and books hold."""

import asyncio
import io
import json
from collections import Counter
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from coin_platform.demo import free_port
from coin_platform.errors import ChecksumMismatch, SequenceGap, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import BookUpdate, Channel, Control, Event, Frame, Pair, Refused, Subscribed, Ticker
from coin_platform.settings import Mode, Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.base import Out, Venue
from coin_platform.simulator.market import Market
from coin_platform.simulator.server import Simulator, digest

TIME = 1_795_478_400_000_000


def pair_of(name: str) -> Pair:
    """Return a pair that an exchange lists."""
    return Pair("BTC", EXCHANGES[name].quote)


def venue(name: str, seed: int = 7) -> tuple[Market, Venue]:
    """Make a market with one listing, and a connection to it."""
    market = Market(seed, {name: (pair_of(name),)})
    return market, VENUES[name](market)


def decode(name: str, channel: Channel, out: Out) -> list[Event]:
    """Return what a simulated message says to the real adapter."""
    payload = out.payload.encode()
    frame = Frame(exchange=name, channel=channel, connection="c", number=1, received_time=TIME * 2, payload=payload)
    return EXCHANGES[name].decode(frame)


def ask(name: str, channel: Channel, connection: Venue, *pairs: Pair) -> list[Out]:
    """Subscribe as the real adapter does."""
    requests = EXCHANGES[name].subscribe(channel, pairs, id=1, time=TIME)
    return [out for request in requests for out in connection.received(request.payload, TIME)]


@pytest.mark.parametrize("name", VENUES)
def test_books_hold_over_two_thousand_steps(name: str) -> None:
    market, connection = venue(name)
    kind, pair = EXCHANGES[name], pair_of(name)
    listing, book = market.listings[name][pair], kind.book()
    outs = ask(name, Channel.ORDERBOOK, connection, pair)
    for step in range(2000):
        for out in outs:
            for event in decode(name, Channel.ORDERBOOK, out):
                if isinstance(event, Subscribed) and event.depth:
                    book.depth = event.depth
                if isinstance(event, BookUpdate):
                    kind.apply(book, event)
        assert not book.is_crossed
        bid, ask_ = listing.best()
        assert (book.bids.best, book.asks.best) == (listing.number(bid), listing.number(ask_))
        assert len(book.bids.levels) == len(listing.bids)
        market.step()
        outs = list(connection.step(TIME + step * 100_000))


@pytest.mark.parametrize("name", VENUES)
def test_tickers_say_what_the_market_says(name: str) -> None:
    market, connection = venue(name)
    listing = market.listings[name][pair_of(name)]
    ask(name, Channel.TICKER, connection, pair_of(name))
    for step in range(50):
        market.step()
        outs = [out for out in connection.step(TIME + step * 100_000) if out.is_data]
        [event] = decode(name, Channel.TICKER, outs[0])
        assert isinstance(event, Ticker)
        assert float(event.last) == listing.number(listing.last)
        assert event.exchange_time == TIME + step * 100_000
        assert float(event.volume_24h or 0) == pytest.approx(listing.volume)


@pytest.mark.parametrize("name", VENUES)
def test_the_same_seed_sends_the_same_bytes(name: str) -> None:
    said = []
    for _ in range(2):
        market, connection = venue(name, seed=3)
        ask(name, Channel.ORDERBOOK, connection, pair_of(name))
        outs: list[Out] = []
        for step in range(30):
            market.step()
            outs += connection.step(TIME + step)
        said.append(outs)
    assert said[0] == said[1]
    assert len(said[0]) >= 30


@pytest.mark.parametrize("name", VENUES)
def test_an_unknown_pair_is_answered_as_the_exchange_does(name: str) -> None:
    _, connection = venue(name)
    outs = ask(name, Channel.TICKER, connection, Pair("NOPE", EXCHANGES[name].quote), pair_of(name))
    events = [event for out in outs for event in decode(name, Channel.TICKER, out)]
    assert any(isinstance(event, Refused) for event in events) is not EXCHANGES[name].replaces
    assert any(isinstance(event, Ticker) for event in events)


@pytest.mark.parametrize("name", VENUES)
def test_pings_are_answered_and_unsubscribing_ends_the_data(name: str) -> None:
    market, connection = venue(name)
    kind, pair = EXCHANGES[name], pair_of(name)
    [answer] = connection.received(kind.ping or "", TIME)
    assert decode(name, Channel.TICKER, answer) == [Control(name="pong")]
    ask(name, Channel.TICKER, connection, pair)
    for request in kind.unsubscribe(Channel.TICKER, [pair], id=2, time=TIME):
        list(connection.received(request.payload, TIME))
    market.step()
    data = [out for out in connection.step(TIME) if out.is_data]
    assert len(data) == (1 if kind.replaces else 0)


@pytest.mark.parametrize(("name", "error"), [("okx", SequenceGap), ("kraken", ChecksumMismatch)])
def test_a_message_that_is_left_out_is_noticed(name: str, error: type[Exception]) -> None:
    market, connection = venue(name)
    kind, book = EXCHANGES[name], EXCHANGES[name].book()
    for out in ask(name, Channel.ORDERBOOK, connection, pair_of(name)):
        for event in decode(name, Channel.ORDERBOOK, out):
            if isinstance(event, BookUpdate):
                kind.apply(book, event)
    market.step()
    list(connection.step(TIME))  # lost
    with pytest.raises(error):
        for _ in range(20):
            market.step()
            for out in connection.step(TIME):
                for event in decode(name, Channel.ORDERBOOK, out):
                    if isinstance(event, BookUpdate):
                        kind.apply(book, event)


def test_the_premium_moves_around_two_per_cent() -> None:
    market = Market(1, {"upbit": (pair_of("upbit"),)})
    seen = []
    for _ in range(3000):
        market.step()
        seen.append(market.premium())
    assert 0.0 < min(seen) < max(seen) < 0.05


def settings() -> Settings:
    """Return settings with a free port."""
    return Settings(simulator_port=free_port(0), exchanges_mode=Mode.SIMULATED)


async def served(work: Any) -> list[dict[str, Any]]:
    """Run the simulator while `work(port)` runs; return its log."""
    log, stop, ready, configured = io.StringIO(), asyncio.Event(), asyncio.Event(), settings()
    running = asyncio.create_task(Simulator(configured, 7, log).run(stop, ready))
    await ready.wait()
    try:
        await work(configured.simulator_port)
    finally:
        stop.set()
        await running
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_the_log_is_what_a_client_received() -> None:
    received: Counter[str] = Counter()

    async def work(port: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}/kraken/v2", compression=None, proxy=None) as socket:
            [request] = EXCHANGES["kraken"].subscribe(Channel.ORDERBOOK, [pair_of("kraken")], id=1, time=0)
            await socket.send(request.payload)
            for _ in range(15):
                received[digest(await socket.recv(decode=False))] += 1
            closing = asyncio.create_task(socket.close())
            try:
                while True:
                    received[digest(await socket.recv(decode=False))] += 1
            except ConnectionClosed:
                await closing

    lines = asyncio.run(served(work))
    assert Counter(line["hash"] for line in lines) == received
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["exchange"] for line in lines} == {"kraken"}


def test_a_busy_port_is_one_line_that_names_the_setting() -> None:
    async def work(port: int) -> None:
        twice = Simulator(Settings(simulator_port=port), 7, io.StringIO())
        with pytest.raises(SettingsError, match=f"COIN_SIMULATOR_PORT={port}: the port is in use"):
            await twice.run(asyncio.Event())

    asyncio.run(served(work))
