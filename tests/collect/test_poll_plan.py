"""The turns of pairs over REST, with time that is only a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.collect.actions import Failed
from coin_platform.collect.poll_plan import (
    APART_SECONDS,
    CANDLE_LAG_SECONDS,
    MINUTE_SECONDS,
    OUTAGE_SECONDS,
    STANDBY_SECONDS,
    PollPlan,
    Standby,
)
from coin_platform.exchanges.kraken import Kraken
from coin_platform.model import SECOND, Channel, Frame, Instant, Kind, Pair, Refused
from tests.kit.kraken import CANDLES

A, B, C = Pair("A", "USD"), Pair("B", "USD"), Pair("C", "USD")
START = 1_800_000_000 * SECOND  # a whole minute


class Mute(Kraken):
    """Kraken without a stream of candles."""

    channels = frozenset(Channel) - {Channel.CANDLE}


class Partial(Kraken):
    """Kraken that has no address for one pair."""

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        return None if pair == B else super().request_url(channel, pair)


def at(seconds: float, jump: float = 0.0) -> Instant:
    """Return a moment so long after the start. `jump` moves the wall clock."""
    return Instant(START + round((seconds + jump) * SECOND), 100 + seconds)


def asked(plan: PollPlan, start: float, stop: float, latency: float = 0.0) -> list[tuple[float, Pair]]:
    """Return the time and the pair of each request, if each answer takes `latency`."""
    requests: list[tuple[float, Pair]] = []
    time = start
    while True:
        time += plan.wait(at(time))
        if time >= stop:
            return requests
        request = plan.take(at(time))
        assert request is not None
        requests.append((round(time, 3), request.pair))
        time += latency
        plan.done(request.pair, at(time))


def answer(payload: bytes, number: int = 1) -> Frame:
    """Return a REST answer."""
    return Frame(
        exchange="kraken",
        channel=Channel.CANDLE,
        connection="candle-0r-1",
        number=number,
        received_time=START,
        payload=payload,
        kind=Kind.REST,
        pair=A,
    )


def test_what_is_not_streamed_is_polled_from_the_start_and_while_there_are_pairs() -> None:
    standby = Standby(100.0, is_streamed=False)
    assert [standby.is_due(at, is_served=at == 200) for at in (100.0, 150, 200, 200.25)] == [True, True, False, True]


def test_a_stream_is_polled_only_after_ten_seconds_without_a_live_socket_and_until_there_is_one() -> None:
    standby = Standby(100.0, is_streamed=True)
    live = {102.0, 120.0}
    end = 102 + OUTAGE_SECONDS
    times = (100.0, 102, end - 0.1, end, 119, 120, 121, end + 17.9, end + 18)
    due = [standby.is_due(at, is_served=at in live) for at in times]
    assert due == [False, False, False, True, True, False, False, False, True]


def test_candles_are_asked_for_at_once_and_then_shortly_after_each_minute_one_pair_after_the_other() -> None:
    plan = PollPlan(Mute(), Channel.CANDLE, [A, B, C], at(40))
    assert asked(plan, 40, 180) == [
        *((40, A), (41, B), (42, C)),
        *((62, A), (63, B), (64, C)),
        *((122, A), (123, B), (124, C)),
    ]


def test_an_answer_that_took_long_delays_the_next_minute_of_no_pair() -> None:
    requests = asked(PollPlan(Mute(), Channel.CANDLE, [A, B], at(0)), 0, 240, latency=7)
    assert [time for time, pair in requests if pair == A] == [0, 62, 122, 182]
    assert [time for time, pair in requests if pair == B] == [7, 69, 129, 189]


def test_a_stand_in_asks_for_each_pair_every_ten_seconds() -> None:
    requests = asked(PollPlan(Kraken(), Channel.TICKER, [A, B], at(0)), 0, 25)
    assert requests == [(0, A), (1, B), (10, A), (11, B), (20, A), (21, B)]


def test_many_pairs_are_asked_for_closer_together_so_that_all_have_their_turn() -> None:
    pairs = [Pair(f"A{number}", "USD") for number in range(100)]
    requests = asked(PollPlan(Kraken(), Channel.TICKER, pairs, at(0)), 0, STANDBY_SECONDS - 0.01)
    assert [pair for _, pair in requests] == pairs
    assert requests[-1][0] == pytest.approx(9.9)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60), st.integers(1, 30))
def test_no_pair_is_asked_for_before_its_period_is_over_and_no_two_at_once(latencies: list[float], count: int) -> None:
    pairs = [Pair(f"A{number}", "USD") for number in range(count)]
    plan, time, before = PollPlan(Kraken(), Channel.TRADE, pairs, at(0)), 0.0, -APART_SECONDS
    answered: dict[Pair, float] = {}
    for latency in latencies:
        time += plan.wait(at(time)) + 1e-6
        request = plan.take(at(time))
        assert request is not None
        assert time - answered.get(request.pair, -STANDBY_SECONDS) >= STANDBY_SECONDS
        assert time - before >= min(APART_SECONDS, STANDBY_SECONDS / count)
        before, time = time, time + latency
        answered[request.pair] = time
        plan.done(request.pair, at(time))
    assert len(answered) == min(count, len(latencies))  # all have their turn before one has its second


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 17.3])
def test_F6_a_jump_of_the_wall_clock_delays_no_minute_by_more_than_one(jump: float) -> None:
    plan = PollPlan(Mute(), Channel.CANDLE, [A], at(0))
    plan.take(at(5))
    plan.done(A, at(5))
    assert plan.wait(at(5, jump)) == MINUTE_SECONDS - 5 + CANDLE_LAG_SECONDS
    plan.take(at(62, jump))
    plan.done(A, at(62, jump))
    assert CANDLE_LAG_SECONDS <= plan.wait(at(62, jump)) <= MINUTE_SECONDS + CANDLE_LAG_SECONDS


def test_nothing_is_given_out_before_it_is_due() -> None:
    plan = PollPlan(Kraken(), Channel.TICKER, [A, B], at(0))
    first = plan.take(at(0))
    assert first is not None
    assert first.url == "https://api.kraken.com/0/public/Ticker?pair=A/USD"
    assert plan.take(at(0.9)) is None
    assert PollPlan(Kraken(), Channel.TICKER, [], at(0)).wait(at(0)) == float("inf")


def test_pairs_change_while_it_runs_and_who_stays_keeps_its_turn() -> None:
    plan = PollPlan(Kraken(), Channel.TICKER, [A, B], at(0))
    assert asked(plan, 0, 5) == [(0, A), (1, B)]
    plan.failed(A, "HTTP 404")
    plan.follow([B, C], at(5))
    plan.done(A, at(5))  # an answer that was under way
    assert (plan.pairs, plan.refused, plan.unconfirmed) == ((B, C), {}, frozenset({B, C}))
    assert asked(plan, 5, 20) == [(5, C), (11, B), (15, C)]


def test_a_pair_without_an_address_is_not_asked_for() -> None:
    assert PollPlan(Partial(), Channel.TICKER, [A, B, C], at(0)).pairs == (A, C)


def test_a_refused_pair_is_named_once_until_it_was_answered_again() -> None:
    plan = PollPlan(Mute(), Channel.CANDLE, [A, B], at(0))
    refusal = answer(b'{"error":["EQuery:Unknown asset pair"]}')
    [event] = Mute().decode(refusal)
    assert isinstance(event, Refused)
    failed = Failed(A, "EQuery:Unknown asset pair", event.refusal)
    assert [plan.received(A, refusal), plan.received(A, refusal)] == [[failed], []]
    assert (plan.refused, plan.unconfirmed, plan.traffic.undecodable) == ({A: failed}, frozenset({B}), 0)
    assert plan.received(A, answer(CANDLES)) == []
    assert plan.refused == {}
    assert plan.received(A, refusal) == [failed]


def test_what_cannot_be_decoded_is_counted_and_named_once() -> None:
    plan = PollPlan(Mute(), Channel.CANDLE, [A], at(0))
    page = answer(b"<html>we are improving our service</html>")
    named = [plan.received(A, page), plan.received(A, page)]
    assert plan.traffic.undecodable == 2
    [[failed], []] = named
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("kraken: JSON is malformed")
    assert plan.received(A, answer(CANDLES)) == []
    assert (plan.refused, plan.unconfirmed) == ({}, frozenset())
