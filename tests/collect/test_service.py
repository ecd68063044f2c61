"""Refused pairs, books that nothing proves, and quiet markets, on all exchanges and on sockets."""

import json
import logging

import msgspec
import pytest

from coin_platform.collect.actions import Action, Leave, Lost, Send
from coin_platform.collect.pauses import MANY_PAIRS
from coin_platform.collect.session import ANSWER_SECONDS, Session
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import TICKER_WITHOUT_PRICE, Exchange
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Cause,
    Channel,
    Control,
    Event,
    Frame,
    Instant,
    Kind,
    Level,
    Pair,
    Refusal,
    Refused,
    Ticker,
)
from coin_platform.records import unpack_facts
from tests.kit.bench import BTC, ETH, live_feed, running_feed
from tests.kit.clock import MovedClock
from tests.kit.kraken import HEARTBEAT, SNAPSHOT, Quick, Refusing
from tests.kit.recordings import files, frames
from tests.kit.waiting import eventually

HOUR = 3600.0
ALL = pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)


def at(seconds: float) -> Instant:
    return Instant(1_800_000_000 * SECOND + int(seconds * SECOND), seconds)


class Talk:
    """A session of an exchange whose frames hold the events that a test puts into them."""

    def __init__(self, exchange: Exchange, channel: Channel, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[Event] = []
        monkeypatch.setattr(exchange, "decode", lambda *_: self.events)  # others patch the adapter itself, too
        self.exchange, self.pairs = exchange, [Pair(f"A{number}", exchange.quote) for number in range(count)]
        self.session = Session(exchange, channel, self.pairs, chance=lambda: 1.0)
        self.frame = Frame(
            exchange=exchange.name, channel=channel, connection="c", number=1, received_time=0, payload=b"{}"
        )
        self.session.opened(at(0))

    def hear(self, *events: Event, after: float = 0.0) -> list[Action]:
        self.events = [*events]
        return self.session.received(self.frame, at(after))

    def asked(self, after: float) -> int:
        """Return the number of messages that are sent because so much time has passed."""
        return sum(isinstance(action, Send) for action in self.session.tick(at(after)))


def data(channel: Channel, pair: Pair) -> Event:
    """Return market data of a channel that always flows."""
    if channel is Channel.TICKER:
        return Ticker(pair=pair, last="1")
    return BookUpdate(pair=pair, is_snapshot=True, bids=[Level(9.0, 1.0)], asks=[Level(10.0, 1.0)], last_sequence=1)


@ALL
def test_R6_a_pair_without_a_price_is_served_and_not_asked_for_again(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(exchange, Channel.TICKER, 2, monkeypatch)
    first, second = talk.pairs
    talk.hear(Control(name="heartbeat"))
    assert talk.session.served == frozenset()
    talk.hear(data(Channel.TICKER, second))
    talk.frame = msgspec.structs.replace(talk.frame, payload=f'["{exchange.symbol(first)}"]'.encode())
    talk.hear(TICKER_WITHOUT_PRICE)
    assert talk.session.served == {first, second}
    assert talk.session.is_complete and not talk.session.refused
    assert talk.asked(after=HOUR) == 0
    talk.frame = msgspec.structs.replace(talk.frame, payload=b"[]")
    talk.hear(TICKER_WITHOUT_PRICE)
    assert talk.session.traffic.unasked == 1


@ALL
def test_R2_every_exchange_is_asked_again_for_what_it_refuses_for_the_moment(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channel in exchange.channels - {Channel.INSTRUMENT}:  # whose subscription is not about pairs
        talk = Talk(exchange, channel, 2, monkeypatch)
        first, second = talk.pairs
        talk.hear(Refused(pair=first, reason="busy"), data(Channel.TICKER, second))
        assert talk.session.refused_now == {first}
        assert talk.session.served == {second}
        assert talk.asked(0.9) == 0
        assert talk.asked(1.1) == 1
        assert not talk.session.is_complete
        assert talk.session.refused_now == {first}
        for after in range(2, 3600):
            talk.asked(after)  # never answered
        assert talk.session.refused_now == {first}, "never for good"
        talk.hear(data(Channel.TICKER, first), after=HOUR)
        assert not talk.session.refused


@ALL
def test_R2_no_exchange_is_asked_again_for_what_it_refuses_for_good_or_during_a_ban(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channel in exchange.channels - {Channel.INSTRUMENT}:  # whose subscription is not about pairs
        talk = Talk(exchange, channel, 2, monkeypatch)
        first, second = talk.pairs
        talk.hear(
            Refused(pair=first, reason="unknown", refusal=Refusal.FINAL),
            Refused(pair=second, reason="slower", ban_seconds=HOUR),
        )
        assert talk.session.served == frozenset()
        assert sum(talk.asked(after) for after in range(1, 3600)) == 0
        assert talk.asked(HOUR) == 1
        refused = Refused(reason="too many connections", refusal=Refusal.CONNECTION)
        assert talk.hear(refused) == [Leave("too many connections")]


@ALL
def test_R10_on_every_exchange_a_few_pairs_that_have_sent_something_may_be_quiet_and_many_may_not(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channel in exchange.channels & {Channel.TICKER, Channel.ORDERBOOK}:
        limits: list[float] = []
        for count in (1, 1, MANY_PAIRS):
            talk = Talk(exchange, channel, count, monkeypatch)
            if limits:
                talk.hear(*(data(channel, pair) for pair in talk.pairs))
            limits.append(talk.session.mute_limit_seconds)
        assert limits == [exchange.mute_seconds, float("inf"), exchange.mute_seconds]


@pytest.mark.parametrize(("exchange", "path"), files("book_sequence_1"))
def test_R4_a_recorded_change_that_is_cut_off_costs_a_book_its_trust_where_nothing_else_would_reveal_it(
    exchange: str, path: object
) -> None:
    adapter = EXCHANGES[exchange]
    heard = frames(exchange, str(path).rpartition("/")[2].removesuffix(".jsonl"))
    updates = [(frame, event) for frame in heard for event in adapter.decode(frame) if isinstance(event, BookUpdate)]
    pairs = list(dict.fromkeys(event.pair for _, event in updates))
    session = Session(adapter, Channel.ORDERBOOK, pairs)
    session.opened(at(0))
    for frame, _ in updates[:3]:
        session.received(frame, at(20))
    assert not session.invalid
    torn = msgspec.structs.replace(updates[3][0], payload=updates[3][0].payload[:-3])
    lost = [action for action in session.received(torn, at(40)) if isinstance(action, Lost)]
    assert bool(lost) == adapter.can_hide_losses
    assert {action.cause for action in lost} <= {Cause.UNREADABLE}
    assert session.invalid == {action.pair for action in lost}
    assert {checkpoint.pair for checkpoint in session.checkpoints()}.isdisjoint(str(action.pair) for action in lost)


def test_R4_of_two_books_of_coinbase_the_one_that_is_named_is_lost() -> None:
    coinbase = EXCHANGES["coinbase"]
    session = Session(coinbase, Channel.ORDERBOOK, [BTC, ETH])
    session.opened(at(0))
    book = '{{"type":"snapshot","product_id":"{}","bids":[["100","1"]],"asks":[["101","1"]]}}'
    change = '{"type":"l2update","product_id":"BTC-USD","changes":[["buy","1e","1"]],"time":"2026-11-02T00:00:00Z"}'

    def hear(text: str, after: float) -> list[Action]:
        frame = Frame(
            exchange="coinbase",
            channel=Channel.ORDERBOOK,
            connection="c",
            number=1,
            received_time=at(after).wall,
            payload=text.encode(),
        )
        return session.received(frame, at(after))

    for pair in (BTC, ETH):
        hear(book.format(pair), 1)
    [lost, *asked] = hear(change, 20)
    assert isinstance(lost, Lost)
    assert (lost.pair, len(asked)) == (BTC, 2)
    assert session.invalid == {BTC}
    hear(change, 21)
    too_large = change.replace("1e", "100").replace('"1"]', f'"1"]{" " * (1 << 20)}')
    hear(too_large, 22)
    assert session.invalid == {BTC, ETH}, "of what is too large to be read nobody knows what it is about"
    for pair in (BTC, ETH):
        hear(book.format(pair), 23)
    assert session.invalid == frozenset()


# on a socket


class Patient(Refusing):
    """Kraken that may be silent for ever."""

    silence_seconds = mute_seconds = 1e9


async def test_R2_a_connection_whose_pairs_are_all_refused_is_not_live_and_REST_stands_in() -> None:
    clock = MovedClock()

    async with running_feed(exchange=Patient(Refusal.TEMPORARY), clock=clock) as bench:
        bench.fake.unknown.add("BTC/USD")
        await eventually(lambda: bench.feed.status.refused)
        states = [(bench.feed.status.state, bench.feed.status.transport)]
        clock.monotonic += 11
        await eventually(lambda: bench.feed.status.transport == "rest" and bench.feed.status.state == "live")
        states.append((bench.feed.status.state, bench.feed.status.transport))
        bench.fake.unknown.clear()
        clock.monotonic += 60
        await eventually(lambda: bench.feed.status.transport == "ws")
        assert len(bench.fake.opened) == 1
        assert [*states, (bench.feed.status.state, bench.feed.status.transport)] == [
            ("refused", "ws"),
            ("live", "rest"),
            ("live", "ws"),
        ]


@pytest.mark.parametrize("refusal", [Refusal.FINAL, Refusal.TEMPORARY])
async def test_R2_a_rotation_ends_no_connection_for_one_whose_pairs_are_refused(refusal: Refusal) -> None:
    clock = MovedClock()

    async with live_feed(exchange=Patient(refusal), clock=clock, lifetime=(HOUR, HOUR)) as bench:
        bench.fake.unknown.add("BTC/USD")
        clock.monotonic += HOUR + 1
        await eventually(lambda: len(bench.feed.connections) == 2 and bench.feed.connections[1].session.refused)
        clock.monotonic += 3 * ANSWER_SECONDS
        await clock.looks()
        states = [str(connection.state) for connection in bench.feed.connections]
        assert not bench.feed.connections[1].is_live
        await bench.fake.say(HEARTBEAT, 0)
        closed = len(bench.values(Kind.CLOSED))
    assert closed == 0
    assert states[0] == "live" and states[1] != "live"


async def test_R2_a_rotation_waits_for_the_one_pair_that_is_refused_for_the_moment() -> None:
    clock = MovedClock()

    async with live_feed(BTC, ETH, exchange=Patient(Refusal.TEMPORARY), clock=clock, lifetime=(HOUR, HOUR)) as bench:
        bench.fake.unknown.add("ETH/USD")
        clock.monotonic += HOUR + 1
        await eventually(lambda: len(bench.feed.connections) == 2 and bench.feed.connections[1].session.refused_now)
        clock.monotonic += 2 * ANSWER_SECONDS
        await eventually(lambda: bench.feed.connections[1].ready.is_set())
        assert bench.feed.connections[1].is_live and bench.feed.is_held_up
        await clock.looks()
        assert not bench.values(Kind.CLOSED)
        bench.fake.unknown.clear()
        clock.monotonic += 60
        await eventually(lambda: len(bench.feed.connections) == 1)
        assert [unpack_facts(value).reason for value in bench.values(Kind.CLOSED)] == ["replaced"]


async def test_R2_a_connection_that_is_refused_as_a_whole_is_left_and_another_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running_feed(exchange=Refusing(Refusal.CONNECTION)) as bench:
            bench.fake.unknown.add("BTC/USD")
            await eventually(lambda: bench.feed.status.last_error)
            bench.fake.unknown.clear()
            await eventually(lambda: bench.feed.status.state == "live")
            assert len(bench.fake.opened) == 2
            error = bench.feed.status.last_error
    assert error == "connection refused: Currency pair not supported BTC/USD"
    assert "kraken orderbook 0: the connection is refused, Currency pair not supported BTC/USD" in caplog.text


async def test_R2_during_a_ban_that_was_told_elsewhere_nothing_piles_up_to_be_asked() -> None:
    clock = MovedClock()

    async with running_feed(exchange=Patient(Refusal.TEMPORARY), clock=clock) as bench:
        bench.fake.unanswered.add("BTC/USD")
        await eventually(lambda: bench.fake.methods("subscribe"))
        bench.feed.access.rest.forbid(3600.0)
        for _ in range(20):
            clock.monotonic += 61
            await clock.looks()
        assert not bool(bench.feed.connections[0].session.refused), "its answer may wait for the end of the ban, too"


@pytest.mark.parametrize(("refusal", "words"), [(Refusal.FINAL, "for good"), (Refusal.TEMPORARY, "for the moment")])
async def test_R2_status_and_log_say_how_long_a_refusal_lasts(
    refusal: Refusal, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running_feed(BTC, ETH, exchange=Refusing(refusal)) as bench:
            bench.fake.unknown.add("ETH/USD")
            await eventually(lambda: bench.feed.status.refused)
            assert bench.feed.status.refused[ETH].refusal is refusal
    assert f"kraken orderbook 0: ETH-USD is refused {words}, Currency pair not supported ETH/USD; " in caplog.text


class Heartbeats(Quick):
    """Kraken that is given up after two minutes without data, and ten without anything."""

    silence_seconds = 600.0
    mute_seconds = 120.0


async def test_R10_a_quiet_pair_is_neither_reconnected_nor_a_gap_while_heartbeats_come() -> None:
    clock = MovedClock()

    async with live_feed(exchange=Heartbeats(), clock=clock) as bench:
        for _ in range(6):
            clock.monotonic += 100
            await bench.fake.say(HEARTBEAT)
            await clock.looks()
        assert (len(bench.fake.opened), bench.values(Kind.CLOSED), bench.feed.status.state) == (
            1,
            [],
            "live",
        )


async def test_R10_many_pairs_that_fall_silent_together_are_still_replaced() -> None:
    clock, pairs = MovedClock(), [Pair(f"A{number}", "USD") for number in range(MANY_PAIRS)]

    async with live_feed(*pairs, exchange=Heartbeats(), clock=clock) as bench:
        clock.monotonic += 121
        await bench.fake.say(HEARTBEAT)
        await eventually(lambda: bench.values(Kind.CLOSED))
        assert [unpack_facts(value).reason for value in bench.values(Kind.CLOSED)] == ["no data for 120 s"]


async def test_R4_a_change_that_cannot_be_read_leaves_no_checkpoint_until_the_book_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = MovedClock()

    with caplog.at_level(logging.WARNING):
        async with live_feed(clock=clock) as bench:
            clock.monotonic += ANSWER_SECONDS + 1
            broken = json.dumps({"channel": "book", "type": "update", "data": [{"symbol": "BTC/USD"}]})
            bench.fake.sends_snapshots = False
            await bench.fake.say(broken)
            await eventually(lambda: bench.fake.methods("unsubscribe"))
            assert bench.feed.status.invalid == {BTC}
            assert not list(bench.feed.connections[0].session.checkpoints())
            await bench.fake.push("BTC/USD", [SNAPSHOT])
            await eventually(lambda: not bench.feed.status.invalid)
            assert bench.feed.traffic.lost == 1
    assert "kraken orderbook 0: book of BTC-USD lost, a message could not be read: kraken: " in caplog.text
