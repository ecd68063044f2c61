"""The timers of a connection (silence, data, pairs), and our clock against the clock of the exchange."""

import json
import logging
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.clock import now
from coin_platform.collect.clock_lag import LAG_MESSAGES, LEAST_LAG_MESSAGES, TOLERANCE, ClockLag
from coin_platform.collect.feed import STALE_SECONDS
from coin_platform.collect.pauses import MANY_PAIRS
from coin_platform.collect.session import FLOWING_CHANNELS, Session
from coin_platform.end_reasons import End, silent, unheard, without_data
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Instant, Kind, Pair
from coin_platform.records import Transport, unpack_facts
from tests.kit.bench import BTC, ETH, Bench, live_feed, running_feed
from tests.kit.clock import MovedClock
from tests.kit.kraken import HEARTBEAT, TICKER, Quick
from tests.kit.recordings import frames
from tests.kit.waiting import eventually

HOUR = 3600 * SECOND


class Impatient(Quick):
    """Kraken that is given up after a short silence."""

    silence_seconds = 40.0
    mute_seconds = 80.0


class Sparse(Impatient):
    """Kraken without heartbeats and without pings of its own, such as Binance."""

    ping = None  # type: ignore[assignment]
    ping_every = 10.0
    is_sparse = True
    mute_seconds = 1e6


MANY = [Pair(f"A{number}", "USD") for number in range(MANY_PAIRS)]


def reasons(bench: Bench) -> list[str]:
    """Return why the sockets of a feed ended."""
    ends = [unpack_facts(value) for value in bench.values(Kind.CLOSED)]
    return [facts.reason for facts in ends if facts.transport == Transport.SOCKET]


@pytest.mark.parametrize("name", EXCHANGES)
def test_F3_silence_is_noticed_within_15_s_where_heartbeats_come_and_40_s_elsewhere(name: str) -> None:
    exchange = EXCHANGES[name]
    assert exchange.silence_seconds <= (15 if name in ("kraken", "coinbase") else 40)
    # something comes in time from an exchange that is well: heartbeats, the answers to our pings, or pongs
    answers = exchange.is_sparse or exchange.ping is not None
    assert name == "coinbase" or (answers and 2 * exchange.ping_every <= exchange.silence_seconds)
    assert exchange.mute_seconds > 2 * exchange.silence_seconds


async def test_F3_a_quiet_exchange_that_answers_the_pings_of_the_protocol_keeps_its_connection_and_no_other() -> None:
    async with live_feed(exchange=Sparse()) as bench:
        for _ in range(12):  # three times the silence that would end it
            bench.clock.monotonic += 10
            await bench.clock.looks()
        opened = len(bench.fake.opened)
        bench.fake.sockets[0].transport.pause_reading()  # half open: what we say arrives nowhere
        await bench.clock.looks()
        bench.clock.monotonic += 41
        await eventually(lambda: len(bench.fake.opened) == 2)
        _ = bench.feed.status.state
        ended = reasons(bench)
    assert (opened, ended) == (1, [silent(40.0)])


async def test_F3_pongs_prove_nothing_where_heartbeats_should_come() -> None:
    class Mute(Sparse):
        is_sparse = False

    async with live_feed(exchange=Mute()) as bench:
        for _ in range(5):
            bench.clock.monotonic += 10
            await bench.clock.looks()
        await eventually(lambda: reasons(bench))
        assert reasons(bench) == [silent(40.0)]


@pytest.mark.parametrize("channel", Channel)
async def test_F3_B3_heartbeats_without_data_end_a_connection_only_where_data_always_flow(channel: Channel) -> None:
    async with running_feed(*MANY, channel=channel, exchange=Impatient()) as bench:
        await eventually(lambda: bench.fake.sockets)
        for _ in range(20):  # twice the limit
            bench.clock.monotonic += 8
            if bench.fake.sockets:
                await bench.fake.say(HEARTBEAT)
            await bench.clock.looks()
        ended = reasons(bench)
    assert (ended[:1] == [without_data(80.0)]) == (channel in FLOWING_CHANNELS)
    assert len(ended) <= 2


async def test_F3_B3_an_acknowledged_subscription_that_brings_nothing_is_stale_and_then_replaced() -> None:
    clock = MovedClock()

    class Mute(Quick):
        silence_seconds = 1e6
        mute_seconds = 120.0

    async with running_feed(channel=Channel.TICKER, exchange=Mute(), clock=clock) as bench:
        bench.fake.is_mute = True
        await eventually(lambda: bench.feed.status.state == "subscribing")
        await bench.fake.say(json.dumps({"method": "subscribe", "success": True, "result": {"symbol": "BTC/USD"}}))
        await eventually(lambda: bench.feed.status.state == "live")
        states = ["live"]
        clock.monotonic += 61
        states.append(bench.feed.status.state)
        await clock.looks()
        assert len(bench.fake.opened) == 1
        clock.monotonic += 60
        await eventually(lambda: len(bench.fake.opened) == 2)
        assert (states, reasons(bench)) == (["live", "stale"], ["no data for 120 s"])


async def test_F3_a_pair_without_news_is_labelled_and_nothing_else_happens() -> None:
    clock = MovedClock()

    class Patient(Quick):
        silence_seconds = mute_seconds = 1e6

    async with live_feed(BTC, ETH, channel=Channel.TICKER, exchange=Patient(), clock=clock) as bench:
        clock.monotonic += STALE_SECONDS + 1
        both = bench.feed.status.stale
        await bench.fake.say(TICKER.replace("BTC/USD", "ETH/USD"))
        await eventually(lambda: len(bench.feed.status.stale) == 1)
        await clock.looks()
        assert (both, bench.feed.status.stale, bench.feed.status.state, len(bench.fake.opened)) == (
            frozenset({BTC, ETH}),
            frozenset({BTC}),
            "live",
            1,
        )


def test_a_pair_that_is_refused_or_not_wanted_any_more_is_not_stale_and_makes_nothing_mute() -> None:
    kraken, start = EXCHANGES["kraken"], Instant(0, 0.0)
    session = Session(kraken, Channel.TICKER, [BTC, ETH])
    session.opened(start)
    late = Instant(0, 300.0)
    assert session.stale(late, STALE_SECONDS) == {BTC, ETH}
    assert session.mute_seconds(late) == 300
    session.follow([ETH], late)
    assert session.stale(late, STALE_SECONDS) == {ETH}
    session.tick(late)  # ETH has not been answered
    assert session.refused.keys() == {ETH}
    assert (session.stale(late, STALE_SECONDS), session.mute_seconds(late)) == (frozenset(), 0.0)


def test_why_a_connection_was_given_up_can_be_read_back() -> None:
    assert [unheard(reason) for reason in (silent(40), silent(0.4), without_data(120), without_data(1e6))] == [
        *(40.0, 0.4, 120.0, 1e6)
    ]
    others = [*End, "received 1001 (going away); then sent 1001 (going away)", "", "silent for ever", "no data for e s"]
    assert {unheard(reason) for reason in others} == {None}


# our clock against the exchange's


def quote(time: int, pair: str = "BTC/USD") -> str:
    """Return Kraken's ticker as it would be sent at this time."""
    body = json.loads(TICKER)
    stamp = datetime.fromtimestamp(time / SECOND, UTC).isoformat().replace("+00:00", "Z")
    body["data"][0] |= {"symbol": pair, "timestamp": stamp}
    return json.dumps(body)


async def quotes(bench: Bench, count: int) -> None:
    """Send many tickers with the right time."""
    before = bench.feed.traffic.frames
    for _ in range(count):
        await bench.fake.say(quote(now().wall))
    await eventually(lambda: bench.feed.traffic.frames >= before + count)
    await eventually(lambda: labels(bench)[-1] == bench.feed.status.clock_suspect)


def labels(bench: Bench) -> list[bool]:
    """Return whether our own records call the clock suspect. Only changes are listed."""
    suspicions = [unpack_facts(value).clock_suspect for header, value in bench.records() if not header.kind.is_frame]
    return [label for index, label in enumerate(suspicions) if index == 0 or label != suspicions[index - 1]]


async def test_F6_A23_a_clock_that_jumps_is_labelled_until_it_is_right_again_and_reconnects_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = MovedClock()
    clock.wall = 0  # as the exchange's

    with caplog.at_level(logging.WARNING):
        async with live_feed(channel=Channel.TICKER, clock=clock) as bench:
            suspects = []
            for jump in (0, HOUR, 0, -HOUR, 0, 6 * SECOND, -6 * SECOND, 2 * SECOND):
                clock.wall = jump
                await quotes(bench, LAG_MESSAGES)
                suspects.append(bench.feed.status.clock_suspect)
            opened, lost = len(bench.fake.opened), [header.received_time for header, _ in bench.records()]
            label_changes = labels(bench)
            ended = reasons(bench)
            times = lost
    assert suspects == [False, True, False, True, False, True, True, False]
    assert label_changes == [False, True, False, True, False, True, False]
    assert (opened, ended) == (1, [])
    assert min(times) < times[0] - HOUR // 2 and max(times) > times[0] + HOUR // 2  # as the wall clock said
    assert "kraken ticker 0: our clock has jumped" in caplog.text
    assert re.search(r"kraken ticker 0: our clock and the exchange's are -?[56]\.\d s apart", caplog.text)


async def test_F6_A23_a_clock_two_hours_behind_makes_dead_letters_but_no_reconnect_and_says_why() -> None:
    clock = MovedClock()

    class Brief(Quick):
        mute_seconds = 60.0

    async with live_feed(channel=Channel.TICKER, exchange=Brief(), clock=clock) as bench:
        clock.wall = -2 * HOUR
        for count in range(1, 61):  # twice the limit
            clock.monotonic += 2
            await bench.fake.say(quote(now().wall))
            await eventually(lambda count=count: bench.feed.status.undecodable == count)  # type: ignore[misc]
        status = bench.feed.status
        opened = len(bench.fake.opened)
        undecodable = status.undecodable
        suspect = status.clock_suspect
        lag = status.clock_lag
    assert (opened, undecodable, suspect) == (1, 60, True)
    assert lag is not None and abs(lag + 2 * HOUR) < SECOND


def test_of_few_messages_nothing_is_concluded_and_old_news_of_a_few_pairs_do_not_count() -> None:
    clock_lag = ClockLag()
    for _ in range(LEAST_LAG_MESSAGES - 1):
        clock_lag.note(HOUR)
    assert (clock_lag.lag, clock_lag.is_suspect) == (None, False)
    clock_lag.note(HOUR)
    assert (clock_lag.lag, clock_lag.is_suspect) == (HOUR, True)
    for _ in range(LAG_MESSAGES):
        clock_lag.note(100_000)
    for _ in range(LAG_MESSAGES // 2):
        clock_lag.note(24 * HOUR)
    assert (clock_lag.lag, clock_lag.is_suspect) == (100_000, False)


@given(st.integers(-2 * HOUR, 2 * HOUR), st.lists(st.integers(0, SECOND), min_size=LAG_MESSAGES, max_size=LAG_MESSAGES))
def test_F6_a_step_above_five_seconds_is_suspect_and_one_below_four_is_not(step: int, ways: list[int]) -> None:
    clock_lag = ClockLag()
    for way in ways:
        clock_lag.note(way + step)
    if abs(step) > TOLERANCE + SECOND:
        assert clock_lag.is_suspect
    if abs(step) <= TOLERANCE - SECOND:
        assert not clock_lag.is_suspect


def test_what_comes_over_REST_is_old_and_says_nothing_of_the_clock() -> None:
    binance = EXCHANGES["binance"]
    session = Session(binance, Channel.TRADE, [Pair("BTC", "USDT")])
    [frame, *_] = frames("binance", "rest_trades")
    assert len(binance.decode(frame)) > 1
    for _ in range(LEAST_LAG_MESSAGES):
        assert session.received(frame, Instant(0, 0.0)) == []
    assert (session.clock_lag.lag, session.has_data) == (None, False)
