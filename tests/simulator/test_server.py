"""The simulated exchanges speak the protocols: their messages decode to what the market says, and books hold."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coin_platform.book import Applied
from coin_platform.demo.processes import free_port
from coin_platform.errors import ChecksumMismatch, DecodeError, SequenceGap, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.exchanges.kraken import DEPTHS
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Candle,
    Channel,
    Control,
    Event,
    Frame,
    Level,
    Notice,
    Pair,
    Refused,
    Side,
    Subscribed,
    Ticker,
    Trade,
)
from coin_platform.model import Kind as RecordKind
from coin_platform.settings import Mode, Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.faults import NOTICE_STEPS, Faults, Mischief
from coin_platform.simulator.market import DAY, MINUTE, SIDE_LEVELS, Listing, Market
from coin_platform.simulator.server import Simulator, digest, open_log
from coin_platform.simulator.venue import Message, MessageKind, Venue

TIME = 1_795_478_400_000_000
STEP = SECOND // 10

# How some exchanges differ.
NO_OPEN = {"gateio"}  # tickers do not tell the price 24 hours ago
SILENT = {"binance"}  # about pairs that are not known
PONGS = {"gateio": "spot.pong"}
LEFT: dict[str, list[Event]] = {  # what is said to one who unsubscribed BTC and keeps ETH
    "binance": [Control(name="done")],
    "coinbase": [Control(name="subscriptions"), Subscribed(pair=Pair("ETH", "USD"))],
    "coinone": [Control(name="unsubscribed")],
    "korbit": [],
}
DEPTH = {"bithumb": 15, "coinone": 16}  # of books that have less than 30 levels on the socket
REST_DEPTH = {"coinone": 16}
DIGITS = {"bithumb": 4}  # to which sizes in books are cut
NO_SIDE = {"coinone"}  # trades do not tell who was the taker

Work: TypeAlias = Callable[[int, Simulator], Awaitable[None]]


def pair_of(name: str, base: str = "BTC") -> Pair:
    """Return a pair that an exchange lists."""
    return Pair(base, EXCHANGES[name].quote)


class Talk:
    """One client of one simulated exchange, without sockets: what it asks, and what it is told."""

    def __init__(self, name: str, channel: Channel = Channel.ORDERBOOK, seed: int = 7, **faults: Any) -> None:
        self.name, self.channel, self.exchange, self.pair = name, channel, EXCHANGES[name], pair_of(name)
        self.time = TIME
        self.market = Market(seed, {name: (self.pair, pair_of(name, "ETH"))}, TIME)
        self.venue: Venue = VENUES[name](self.market, urlsplit(self.exchange.socket_url(channel)).path)
        self.mischief = Mischief(Faults(**faults), "seed")
        self.venue.refused = self.mischief.faults.refuse
        self.book = self.exchange.book()

    @property
    def listing(self) -> Listing:
        """The market's own view of the pair."""
        return self.market.listings[self.name][self.pair]

    def ask(self, *pairs: Pair, id: int = 1) -> list[Message]:
        """Subscribe as the real adapter does."""
        requests = self.exchange.subscribe(self.channel, pairs or (self.pair,), id=id, time=self.time)
        return [message for request in requests for message in self.venue.received(request.payload, self.time)]

    def leave(self) -> list[Message]:
        """Unsubscribe as the real adapter does."""
        requests = self.exchange.unsubscribe(self.channel, (self.pair,), id=9, time=self.time)
        return [message for request in requests for message in self.venue.received(request.payload, self.time)]

    def question(self) -> list[Message]:
        """Ping; where the real adapter does not, unsubscribe, or subscribe again: there is one answer."""
        if self.exchange.ping is not None:
            return list(self.venue.received(self.exchange.ping, self.time))
        return self.leave() or self.ask()

    def step(self) -> list[Message]:
        """Let 100 ms pass."""
        self.time += STEP
        self.market.step(self.time)
        return list(self.mischief.step(self.venue.step(self.time)))

    def decode(self, message: Message) -> list[Event]:
        """Return what a message says to the real adapter."""
        return self.decode_as(message.payload, RecordKind.SOCKET)

    def decode_as(self, payload: str, kind: RecordKind) -> list[Event]:
        """Return what a message or an answer says to the real adapter."""
        frame = Frame(
            exchange=self.name,
            channel=self.channel,
            connection="c",
            number=1,
            received_time=self.time,
            payload=payload.encode(),
            kind=kind,
            pair=self.pair if kind is RecordKind.REST else None,
        )
        return self.exchange.decode(frame)

    def take(self, messages: list[Message]) -> None:
        """Follow the book as the real session does."""
        for event in (event for message in messages for event in self.decode(message)):
            if isinstance(event, Subscribed) and event.depth:
                self.book.depth = event.depth
            if isinstance(event, BookUpdate) and self.exchange.apply(self.book, event) is Applied.WAITING:
                self.fetch()

    def fetch(self) -> None:
        """Get the whole book over REST, if it does not come over the socket."""
        if self.exchange.is_bridged:
            for event in self.get(self.channel, self.pair):
                assert isinstance(event, BookUpdate)
                self.exchange.apply(self.book, event)

    def get(self, channel: Channel, pair: Pair) -> list[Event]:
        """Return what the answer to a REST request says."""
        parts = urlsplit(self.exchange.request_url(channel, pair) or "")
        answer = self.venue.rest(parts.path, dict(parse_qsl(parts.query)), self.time)
        return self.decode_as(answer.body, RecordKind.REST)


@pytest.fixture(params=VENUES)
def name(request: pytest.FixtureRequest) -> str:
    """Each simulated exchange in turn."""
    return str(request.param)


def levels(listing: Listing, side: Side, count: int, digits: int = 6) -> list[Level]:
    """Return a side of the market's book as the adapters do, its sizes cut to some digits."""
    cut = digits - 6 or None
    return [Level(listing.number(ticks), float(f"{size:.6f}"[:cut])) for ticks, size in listing.levels(side, count)]


def plain(found: list[Level]) -> list[Level]:
    """Forget the texts of levels."""
    return [Level(level.price, level.size) for level in found]


@pytest.mark.no_cover  # much work, all of it covered by small tests
def test_books_hold_over_two_thousand_steps(name: str) -> None:
    talk = Talk(name)
    messages, digits = [*talk.ask(), *talk.step()], DIGITS.get(name, 6)
    for step in range(2000):
        talk.take(messages)  # a gap or a wrong checksum would raise
        depth = len(talk.book.bids.levels) if step % 20 == 0 else 5
        assert depth >= (DEPTH.get(name, 30) if step % 20 == 0 else 5)
        assert plain(talk.book.bids.top(depth)) == levels(talk.listing, Side.BUY, depth, digits)
        assert plain(talk.book.asks.top(depth)) == levels(talk.listing, Side.SELL, depth, digits)
        assert not talk.book.is_crossed
        messages = talk.step()


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


def test_tickers_say_what_the_market_says(name: str) -> None:
    talk = Talk(name, Channel.TICKER)
    talk.ask()
    for _ in range(50):
        [event] = [
            event for message in talk.step() if message.kind is MessageKind.DATA for event in talk.decode(message)
        ]
        listing, number = talk.listing, talk.listing.number
        assert isinstance(event, Ticker)
        assert (event.pair, event.exchange_time) == (talk.pair, talk.time)
        bar, suffix = (listing.rolling, "24h") if event.high_24h else (listing.day, "day")
        said = [event.last, *(getattr(event, f"{part}_{suffix}") for part in ("high", "low"))]
        assert [float(text or 0) for text in said] == [number(t) for t in (bar.close, bar.high, bar.low)]
        if name not in NO_OPEN:
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
    talk.ask()
    told: list[Trade] = []
    for _ in range(40):
        for event in (event for message in talk.step() for event in talk.decode(message)):
            if isinstance(event, Trade):
                told.append(event)
    happened = [
        (talk.listing.number(deal.ticks), deal.size, None if name in NO_SIDE else deal.side, deal.time)
        for deal in [*talk.listing.deals][-40:]
    ]
    assert [(trade.price, trade.size, trade.side, trade.exchange_time) for trade in told] == happened
    assert len({trade.id for trade in told}) == 40


@pytest.mark.parametrize("name", [name for name in VENUES if Channel.CANDLE in EXCHANGES[name].channels])
def test_the_last_candle_of_a_minute_is_the_minute(name: str) -> None:
    talk = Talk(name, Channel.CANDLE)
    talk.ask()
    told: dict[int, Candle] = {}
    for _ in range(1300):
        for event in (event for message in talk.step() for event in talk.decode(message)):
            if isinstance(event, Candle):
                told[event.open_time] = event
    number = talk.listing.number
    finished = [bar for bar in talk.listing.minutes if TIME <= bar.start < TIME + 2 * MINUTE]
    assert len(finished) == 2
    for bar in finished:
        candle = told[bar.start]
        assert (candle.open, candle.high) == (number(bar.open), number(bar.high))
        assert (candle.low, candle.close, candle.volume) == (number(bar.low), number(bar.close), bar.volume)


def test_the_same_seed_sends_the_same_bytes_and_another_does_not(name: str) -> None:
    said = []
    for seed in (3, 3, 4):
        talk = Talk(name, seed=seed, drop=0.1, bad=0.2)
        said.append([*talk.ask(), *(message for _ in range(50) for message in talk.step())])
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
    ("name", "channel"),
    [(name, channel) for name in VENUES for channel in Channel if channel in EXCHANGES[name].channels],
)
def test_no_two_data_messages_are_equal(name: str, channel: Channel) -> None:
    talk = Talk(name, channel)
    messages = talk.ask(*talk.market.listings[name])
    for _ in range(620 if channel is Channel.CANDLE else 60):
        messages += talk.step()
    payloads = [message.payload for message in messages if message.kind is MessageKind.DATA]
    assert len(payloads) == len(set(payloads)) >= 120


def test_an_unknown_pair_is_answered_as_the_exchange_does(name: str) -> None:
    talk = Talk(name, Channel.TICKER, refuse=EXCHANGES[name].symbol(pair_of(name, "ETH")))
    pairs = (Pair("NOPE", talk.exchange.quote), pair_of(name, "ETH"), talk.pair)
    asked = [talk.ask(pair) for pair in pairs] if talk.exchange.refuses_whole_request else [talk.ask(*pairs)]
    events = [event for message in [*chain(*asked), *talk.step()] for event in talk.decode(message)]
    assert {event.pair for event in events if isinstance(event, Ticker)} == {talk.pair}
    is_silent = talk.exchange.replaces_subscription or name in SILENT
    assert sum(isinstance(event, Refused) for event in events) == (0 if is_silent else 2)


def test_okx_refuses_candles_on_the_public_socket() -> None:
    talk = Talk("okx", Channel.CANDLE)
    talk.venue.path = "/ws/v5/public"
    [answer] = talk.ask()
    [event] = talk.decode(answer)
    assert isinstance(event, Refused)
    assert event.reason.startswith("60018: ")


def test_pings_are_answered_and_unsubscribing_ends_the_data(name: str) -> None:
    talk = Talk(name, Channel.TICKER)
    if talk.exchange.ping is not None:
        [answer] = talk.venue.received(talk.exchange.ping, TIME)
        assert talk.decode(answer) == [Control(name=PONGS.get(name, "pong"))]
    talk.ask(talk.pair, pair_of(name, "ETH"))
    if talk.exchange.replaces_subscription:
        talk.ask(pair_of(name, "ETH"))
    else:
        left = LEFT.get(name, [Control(name="unsubscribe")])
        assert [event for message in talk.leave() for event in talk.decode(message)] == left
    events = [event for message in talk.step() for event in talk.decode(message)]
    assert {event.pair for event in events if isinstance(event, Ticker)} == {pair_of(name, "ETH")}


def test_a_second_subscription_begins_with_a_snapshot(name: str) -> None:
    talk = Talk(name)
    talk.take(talk.ask())
    for _ in range(20):
        talk.step()  # not heard
    talk.leave()
    if talk.exchange.is_bridged:
        talk.book.invalidate()  # no snapshot comes over the socket
    talk.take(talk.ask())
    for _ in range(20):
        talk.take(talk.step())
    assert talk.book.is_valid


def test_okx_keeps_a_book_alive_with_an_empty_change() -> None:
    talk = Talk("okx")
    talk.take(talk.ask())
    talk.venue.steps = 590
    empty = 0
    for _ in range(620):
        messages = talk.step()
        empty += sum('"asks":[],"bids":[]' in message.payload for message in messages)
        talk.take(messages)
    assert empty == 2


@pytest.mark.no_cover  # much work, all of it covered by small tests
@pytest.mark.parametrize(
    ("name", "channel"),
    [(n, channel) for n in VENUES for channel in Channel if EXCHANGES[n].request_url(channel, pair_of(n))],
)
def test_rest_answers_say_what_the_market_says(name: str, channel: Channel) -> None:
    talk = Talk(name, channel)
    for _ in range(700):
        talk.step()
    events = talk.get(channel, talk.pair)
    listing, number = talk.listing, talk.listing.number
    for event in events:
        assert not isinstance(event, Refused)
    match events[0]:
        case Ticker(last=last):
            assert float(last) == number(listing.deals[-1].ticks)
        case BookUpdate(bids=bids, asks=asks):
            assert [level.price for level in bids] == [number(t) for t, _ in listing.levels(Side.BUY, len(bids))]
            assert [level.price for level in asks] == [number(t) for t, _ in listing.levels(Side.SELL, len(asks))]
            assert len(asks) >= REST_DEPTH.get(name, 30)
        case Trade():
            found = sorted((e.exchange_time, e.price) for e in events if isinstance(e, Trade))
            assert found == [(deal.time, number(deal.ticks)) for deal in listing.deals][-len(found) :]
            assert len(found) >= 60
        case Candle():
            closes = {e.open_time: e.close for e in events if isinstance(e, Candle)}
            assert [closes[bar.start] for bar in [*listing.minutes][1:]] == [
                number(bar.close) for bar in [*listing.minutes][1:]
            ]


def test_rest_lists_the_markets_and_knows_no_others(name: str) -> None:
    talk = Talk(name, Channel.TICKER)
    parts = urlsplit(talk.exchange.markets_url() or "")
    answer = talk.venue.rest(parts.path, dict(parse_qsl(parts.query)), TIME)
    assert set(talk.exchange.read_markets(answer.body.encode())) == set(talk.market.listings[name])
    assert [type(event) for event in talk.get(Channel.TICKER, Pair("NOPE", talk.exchange.quote))] == [Refused]


NOTICED = {
    "okx": SequenceGap,
    "kraken": ChecksumMismatch,
    "gateio": SequenceGap,
    "binance": SequenceGap,
    "bybit": SequenceGap,
}


@pytest.mark.parametrize("fault", ["drop", "swap"])
@pytest.mark.parametrize("name", NOTICED)
def test_a_missing_or_swapped_change_is_noticed(name: str, fault: str) -> None:
    talk = Talk(name)
    talk.take(talk.ask())
    setattr(talk.mischief.faults, fault, 0.3)
    with pytest.raises(NOTICED[name]):
        for _ in range(40):
            talk.take(talk.step())


def test_a_dropped_message_is_not_sent_and_a_repeated_one_twice(name: str) -> None:
    for fault, factor in (("drop", 0), ("repeat", 2)):
        talk = Talk(name, Channel.TICKER)
        talk.ask()
        talk.mischief.faults.change({fault: "1"})
        counts = [sum(message.kind is MessageKind.DATA for message in talk.step()) for _ in range(5)]
        assert counts == [factor] * 5


def test_a_repeated_change_does_a_book_no_harm(name: str) -> None:
    talk = Talk(name, repeat=0.5)
    talk.take(talk.ask())
    for _ in range(100):
        talk.take(talk.step())
    assert levels(talk.listing, Side.BUY, 10, DIGITS.get(name, 6)) == plain(talk.book.bids.top(10))


def test_malformed_messages_are_extra_and_never_decode(name: str) -> None:
    talk = Talk(name, bad=0.5)
    talk.take(talk.ask())
    bad = 0
    for _ in range(100):
        for message in talk.step():
            if message.kind is MessageKind.BAD:
                bad += 1
                with pytest.raises(DecodeError):
                    talk.decode(message)
            else:
                talk.take([message])  # nothing is missing
    assert bad > 20


def test_a_mute_exchange_answers_and_a_silent_one_does_not(name: str) -> None:
    talk = Talk(name, mute=True)
    assert {message.kind for message in talk.mischief.answers(talk.ask())} <= {MessageKind.CONTROL}
    assert {message.kind for _ in range(30) for message in talk.step()} <= {MessageKind.CONTROL}
    assert len(list(talk.mischief.answers(talk.question()))) == 1
    talk.mischief.faults.silent = True
    assert [message for _ in range(30) for message in talk.step()] == []
    assert list(talk.mischief.answers(talk.question())) == []


def test_maintenance_is_announced_once_and_then_the_connection_ends(name: str) -> None:
    talk = Talk(name, notice=True)
    assert [talk.mischief.gives_notice() for _ in range(3)] == [True, False, False]
    assert [talk.mischief.ends() for _ in range(NOTICE_STEPS + 1)] == [False] * NOTICE_STEPS + [True]
    events = [event for message in talk.venue.notice(TIME) for event in talk.decode(message)]
    wanted_types: dict[str, list[type]] = {"okx": [Notice], "kraken": [Control], "upbit": [], "binance": [Notice]}
    assert [type(event) for event in events] == wanted_types.get(name, [type(event) for event in events])


def test_the_premium_moves_around_two_per_cent() -> None:
    dollar_pair = Pair("USDT", "KRW")
    market = Market(1, {"upbit": (pair_of("upbit"), dollar_pair), "okx": (pair_of("okx"),)}, TIME)
    korea, world = market.listings["upbit"], market.listings["okx"][pair_of("okx")]
    bitcoin, dollar = korea[pair_of("upbit")], korea[dollar_pair]
    seen = []
    for step in range(2000):
        market.step(TIME + step * STEP)
        won, usdt, price = (item.number(item.best()[0]) for item in (bitcoin, dollar, world))
        seen.append(won / (price * usdt) - 1)
    assert 0.005 < min(seen) < 0.02 < max(seen) < 0.035


def test_prices_of_different_coins_move_together() -> None:
    market = Market(1, {"okx": tuple(Pair(base, "USDT") for base in ("BTC", "ETH"))}, TIME)
    rows = []
    for step in range(1000):
        market.step(TIME + step * STEP)
        rows.append([item.number(item.best()[0]) for item in market.listings["okx"].values()])
    moves = [
        [after / before - 1 for before, after in zip(*two, strict=True)] for two in zip(rows, rows[20:], strict=False)
    ]
    same = sum(bitcoin * ether > 0 for bitcoin, ether in moves) / len(moves)
    assert same > 0.55


def test_a_day_begins_at_midnight_and_24_hours_do_not() -> None:
    market = Market(1, {"upbit": (pair_of("upbit"),)}, TIME)
    listing = market.listings["upbit"][pair_of("upbit")]
    midnight = (TIME // DAY + 1) * DAY
    market.step(midnight - STEP)
    yesterday, rolling = listing.day.close, listing.rolling.volume
    market.step(midnight)
    deal = listing.deals[-1]
    assert (listing.prev_close, listing.day.open, listing.day.volume) == (yesterday, deal.ticks, deal.size)
    assert listing.rolling.volume == pytest.approx(rolling + deal.size)
    assert listing.rolling.low <= listing.day.low <= listing.day.high <= listing.rolling.high


# Over real sockets.


def served(
    folder: Path, work: Work, *, rate: float = 100.0, outbox: int = 2000
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run the simulator while `work(port, simulator)` runs; return its two logs."""

    async def run() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        configured = Settings(simulator_port=free_port(0), exchanges_mode=Mode.SIMULATED)
        with open_log(folder) as log:
            simulator = Simulator(configured, 7, log, rate=rate, outbox=outbox)
            running = asyncio.create_task(simulator.run(stop, ready))
            await ready.wait()
            try:
                async with asyncio.timeout(60):
                    await work(configured.simulator_port, simulator)
            finally:
                stop.set()
                await running

    asyncio.run(run())
    files = (folder / "sent.jsonl", folder / "closed.jsonl")
    sent, closed = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
    return sent, closed


def open_socket(port: int, name: str, channel: Channel = Channel.ORDERBOOK) -> connect:
    """Connect as the collector does."""
    url = simulated_url(EXCHANGES[name].socket_url(channel), name, f"127.0.0.1:{port}")
    return connect(url, compression=None, proxy=None, close_timeout=2)


async def subscribe(socket: ClientConnection, name: str, channel: Channel = Channel.ORDERBOOK) -> None:
    """Subscribe to one pair."""
    for request in EXCHANGES[name].subscribe(channel, [pair_of(name)], id=1, time=0):
        await socket.send(request.payload)


async def hear(socket: ClientConnection, received: Counter[str]) -> None:
    """Note all that comes until the socket ends."""
    try:
        while True:
            received[digest(await socket.recv(decode=False))] += 1
    except ConnectionClosed:
        return


def test_the_log_is_what_clients_received_whoever_closes(tmp_path: Path) -> None:
    received: dict[str, Counter[str]] = {name: Counter() for name in VENUES}

    async def client(port: int, name: str) -> None:
        async with open_socket(port, name) as socket:
            await subscribe(socket, name)
            hearing = asyncio.create_task(hear(socket, received[name]))
            while received[name].total() < 30:
                await asyncio.sleep(0.01)
            await socket.close()
            await hearing

    async def stay(port: int, name: str) -> None:
        async with open_socket(port, name) as socket:
            await subscribe(socket, name)
            await hear(socket, received[name])
            assert socket.close_code == 1001

    staying: list[asyncio.Task[None]] = []

    async def work(port: int, simulator: Simulator) -> None:
        staying.extend(asyncio.create_task(stay(port, name)) for name in VENUES)
        await asyncio.gather(*(client(port, name) for name in VENUES))

    async def work_then_stop(port: int, simulator: Simulator) -> None:
        await work(port, simulator)

    sent, closed = served(tmp_path, work_then_stop)
    assert all(task.done() and task.exception() is None for task in staying)
    for name in VENUES:
        assert received[name].total() >= 30
        assert Counter(line["hash"] for line in sent if line["exchange"] == name) == received[name]
    for end in closed:
        numbers = [line["number"] for line in sent if line["connection"] == end["connection"]]
        assert numbers == list(range(1, end["sent"] + 1))
    assert Counter(end["code"] for end in closed) == {1000: len(VENUES), 1001: len(VENUES)}
    assert {end["path"] for end in closed if end["exchange"] == "kraken"} == {"/v2"}


def test_upbit_sends_binary_frames_and_the_others_text(tmp_path: Path) -> None:
    kinds: dict[str, type] = {}

    async def work(port: int, simulator: Simulator) -> None:
        for name in VENUES:
            async with open_socket(port, name) as socket:
                await subscribe(socket, name)
                kinds[name] = type(await socket.recv())

    served(tmp_path, work)
    assert (kinds["upbit"], kinds["okx"], kinds["kraken"]) == (bytes, str, str)


def test_a_slow_reader_is_cut_off_and_the_others_go_on(tmp_path: Path) -> None:
    heard: Counter[str] = Counter()

    async def work(port: int, simulator: Simulator) -> None:
        async with open_socket(port, "upbit") as slow, open_socket(port, "kraken") as quick:
            slow.transport.pause_reading()
            pairs = [*simulator.market.listings["upbit"]]
            for request in EXCHANGES["upbit"].subscribe(Channel.ORDERBOOK, pairs, id=1, time=0):
                await slow.send(request.payload)
            await subscribe(quick, "kraken")
            hearing = asyncio.create_task(hear(quick, heard))
            while not (tmp_path / "closed.jsonl").read_text():
                await asyncio.sleep(0.01)
            before = heard.total()
            while heard.total() < before + 10:
                await asyncio.sleep(0.01)
            slow.transport.abort()
            hearing.cancel()

    _, closed = served(tmp_path, work, rate=1000, outbox=100)
    assert (closed[0]["exchange"], closed[0]["code"]) == ("upbit", 1006)
    assert closed[0]["sent"] > 100  # what the system's own buffers took


def test_faults_are_set_over_http_and_felt(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        host = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{host}/_faults?exchange=okx&drop=0.01&close=1&refuse=BTC-USDT")
            assert answer.json()["okx"] | {"drop": 0.01, "close": True, "refuse": "BTC-USDT"} == answer.json()["okx"]
            assert simulator.faults["kraken"] == Faults()
            for wrong in ("exchange=nope", "drop=2", "gibberish=1"):
                assert (await http.get(f"{host}/_faults?{wrong}")).status_code == 400
            async with open_socket(port, "okx") as socket:
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1000
            await http.get(f"{host}/_faults?exchange=kraken&status=429&retry_after=7")
            with pytest.raises(InvalidStatus) as refused:
                async with open_socket(port, "kraken"):
                    pass
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "7"
            answer = await http.get(simulated_url(EXCHANGES["kraken"].markets_url() or "", "kraken", host[7:]))
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
            await http.get(f"{host}/_faults?status=0&close=0")
            answer = await http.get(simulated_url(EXCHANGES["kraken"].markets_url() or "", "kraken", host[7:]))
            assert pair_of("kraken") in EXCHANGES["kraken"].read_markets(answer.content)
            async with open_socket(port, "okx") as socket:
                await subscribe(socket, "okx")
                assert '"code":"60018"' in str(await socket.recv())

    served(tmp_path, work)


def test_what_is_not_a_request_ends_that_connection_only(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        for name in VENUES:
            async with open_socket(port, name) as socket:
                await socket.send("{")
                await hear(socket, Counter())
                assert socket.close_code == 1008

    _, closed = served(tmp_path, work)
    assert [end["code"] for end in closed] == [1008] * len(VENUES)


def test_unknown_addresses_are_not_found(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for path in ("", "nope/v2", "kraken/v3", "okx/api/v5/nothing?instId=BTC-USDT"):
                assert (await http.get(f"http://127.0.0.1:{port}/{path}")).status_code == 404
        with pytest.raises(InvalidStatus, match="404"):
            async with connect(f"ws://127.0.0.1:{port}/kraken/v3", proxy=None):
                pass

    served(tmp_path, work)


def test_a_busy_port_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        with open_log(tmp_path / "other") as log:
            twice = Simulator(Settings(simulator_port=port), 7, log)
            with pytest.raises(SettingsError, match=f"COIN_SIMULATOR_PORT={port}: the port is in use"):
                await twice.run(asyncio.Event())

    served(tmp_path, work)
