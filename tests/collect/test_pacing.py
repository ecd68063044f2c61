"""Delays between attempts and token buckets, on a clock that stands still."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.clock import unless
from coin_platform.collect.pacing import LONGEST_DELAY_SECONDS, SETTLED_SECONDS, Backoff, TokenBucket, retry_after
from tests.kit.clock import StillClock


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_F4_B2_a_server_that_closes_at_once_is_tried_at_most_26_times_in_ten_minutes(chance: float) -> None:
    backoff, time, attempts = Backoff(lambda: chance), 0.0, 0
    while time < 600:
        attempts += 1
        time += backoff.next(data_seconds=0.0)
    assert 10 <= attempts <= 26


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 1, exclude_max=True)), max_size=60))
def test_F4_delays_keep_to_their_bounds_and_only_a_minute_of_data_resets_them(
    history: list[tuple[float, float]],
) -> None:
    chances = iter([chance for _, chance in history])
    backoff, failures = Backoff(lambda: next(chances)), 0
    for data_seconds, _ in history:
        failures = 0 if data_seconds >= SETTLED_SECONDS else failures
        longest = min(LONGEST_DELAY_SECONDS, 2.0**failures)
        assert longest / 2 <= backoff.next(data_seconds) <= longest
        failures += 1


def test_there_is_no_last_attempt() -> None:
    backoff = Backoff(lambda: 0.0)
    assert {backoff.next(0.0) for _ in range(5000)} == {0.5, 1, 2, 4, 8, 16, 30}


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    clock = StillClock()
    bucket = TokenBucket(2.0, burst=3, clock=clock)
    assert [bucket.reserve() for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    clock.now += 60
    assert [bucket.reserve() for _ in range(4)] == [0, 0, 0, 0.5]


def test_F4_a_ban_is_obeyed_to_the_second_and_asked_after_it_no_faster_than_the_rate() -> None:
    clock = StillClock()
    bucket = TokenBucket(0.5, burst=5, clock=clock)
    bucket.forbid(30)
    bucket.forbid(0)
    bucket.forbid(7)  # shorter: the longer one holds
    assert [bucket.reserve(), bucket.reserve()] == [30, 32]


async def test_F4_who_already_waits_when_a_ban_comes_waits_for_its_end() -> None:
    loop = asyncio.get_running_loop()
    bucket = TokenBucket(10.0, clock=loop.time)
    start = loop.time()
    bucket.reserve()
    waiting = asyncio.create_task(bucket.take())
    await asyncio.sleep(0)
    bucket.forbid(0.3)
    await waiting
    assert loop.time() - start >= 0.299


NOW = "Tue, 24 Nov 2026 12:00:00 GMT"  # as the exchange says in its Date: our clock may be wrong


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("Tue, 24 Nov 2026 12:01:30 GMT", 90.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),  # already over
        ("soon", None),
        ("-5", None),
        ("0.5", 0.5),
        ("259200", 259_200.0),  # three days: the longest that Binance documents
        ("2592000", 2_592_000.0),
        ("Tue, 01 Dec 2026 12:00:00 GMT", 604_800.0),
        ("2592001", None),  # no exchange means more than thirty days
        ("1" + "0" * 30, None),
        ("9" * 400, None),
        ("1e3", None),
        ("\u0667", None),
        ("5, 5", None),
        ("Tue, 24 Nov 9999 12:01:30 GMT", None),
        ("Tue, 24 Nov 2026 12:01:30 -0000", None),
    ],
)
def test_D28_retry_after_is_seconds_or_a_date_and_no_longer_than_any_exchange_means(
    text: str | None, seconds: float | None
) -> None:
    assert retry_after(text, NOW) == seconds
    assert retry_after(text, "no date") == seconds or "GMT" in str(text)


def test_D28_without_a_date_of_the_exchange_ours_counts() -> None:
    later = datetime.now(UTC) + timedelta(seconds=100)
    seconds = retry_after(format_datetime(later, usegmt=True))
    assert seconds is not None and 90 < seconds <= 100


async def test_a_wait_is_cut_short_by_its_event_and_then_returns_nothing() -> None:
    stop = asyncio.Event()
    first = await unless(stop, asyncio.sleep(0, "done"))
    asyncio.get_running_loop().call_later(0.01, stop.set)
    endless: asyncio.Future[str] = asyncio.Future()
    second = await unless(stop, endless)
    assert [first, second, endless.cancelled()] == ["done", None, True]
