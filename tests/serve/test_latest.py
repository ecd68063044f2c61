"""`/api/latest` and `/api/premium` over HTTP."""

import threading
from pathlib import Path

import pytest

from coin_platform.clock import wall
from coin_platform.model import SECOND, Channel, Microseconds
from coin_platform.serve import premium_history
from coin_platform.serve.feed.premium import STALE, Quote, premiums
from coin_platform.serve.feed.source import places_of
from coin_platform.serve.feed.tail import Tail
from tests.kit.feed import append_processed
from tests.kit.serving import Served
from tests.kit.waiting import until


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def take(served: Served) -> None:
    """Let the server see what the topics hold."""
    served.latest.take(Tail(served.broker, places_of(served.settings), 0).read())


def test_the_newest_records_of_an_exchange_and_of_a_pair(served: Served) -> None:
    now = wall()
    append_processed(served.broker, "upbit", "BTC-KRW", time=now - 5 * SECOND, offset=4)
    append_processed(served.broker, "upbit", "BTC-KRW", channel=Channel.TRADE, time=now)
    append_processed(served.broker, "upbit", "ETH-KRW", time=now)
    take(served)
    page = served.ask("GET", "/api/latest/upbit").json()
    assert [pair["pair"] for pair in page["pairs"]] == ["BTC-KRW", "ETH-KRW"] and page["total"] == 2
    assert page["pairs"][0] | {"age_seconds": 0} == served.ask("GET", "/api/latest/upbit/btc-krw").json() | {
        "age_seconds": 0
    }
    ticker = page["pairs"][0]["records"]["ticker"]
    assert (ticker["data"], ticker["offset"], ticker["type"]) == ([{"trade_price": "100"}], 4, "ticker")
    assert page["pairs"][0]["age_seconds"]["ticker"] >= 5
    assert served.ask("GET", "/api/latest/upbit?offset=1&limit=1").json()["pairs"][0]["pair"] == "ETH-KRW"
    assert served.ask("GET", "/api/latest/okx").json()["pairs"] == []


def test_a_pair_of_which_nothing_is_known_is_a_problem_that_says_where_to_look(served: Served) -> None:
    answer = served.ask("GET", "/api/latest/upbit/NOPE-KRW")
    assert answer.status_code == 404 and "NOPE-KRW" in answer.json()["detail"] and "/api/pairs" in answer.text
    assert served.ask("GET", "/api/latest/nowhere/BTC-KRW").status_code == 422


def fill(served: Served, now: Microseconds, book_age: Microseconds = 0) -> None:
    """Bitcoin for 101 million won and for 70,000 dollars, and a dollar for 1,400 won."""
    for exchange, pair, price in (
        ("upbit", "BTC-KRW", 101_000_000),
        ("upbit", "USDT-KRW", 1_400),
        ("okx", "BTC-USDT", 70_000),
    ):
        append_processed(served.broker, exchange, pair, time=now, data=[{"trade_price": str(price - 1)}])
        append_processed(
            *(served.broker, exchange, pair),
            channel=Channel.ORDERBOOK,
            time=now - book_age,
            highest_bid=price - 1.0,
            lowest_ask=price + 1.0,
        )
    take(served)


def test_the_premium_compares_books_in_dollars(served: Served) -> None:
    fill(served, wall())
    answer = served.ask("GET", "/api/premium").json()
    assert answer["krw_per_usd"] == 1_400
    [bitcoin] = answer["bases"]
    assert (bitcoin["base"], bitcoin["elsewhere_usd"]) == ("BTC", 70_000)
    elsewhere, korean = bitcoin["prices"]
    assert (elsewhere["exchange"], elsewhere["usd"], elsewhere["premium"]) == ("okx", 70_000, None)
    assert (korean["mid"], korean["last"]) == (101_000_000, 100_999_999)
    assert korean["premium"] == pytest.approx(101_000_000 / 1_400 / 70_000 - 1), "a fraction, and won are not dollars"


def test_a_stale_book_is_replaced_by_the_last_price_and_a_stale_price_by_null(served: Served) -> None:
    fill(served, wall(), book_age=STALE + SECOND)
    [bitcoin] = served.ask("GET", "/api/premium").json()["bases"]
    assert [(price["mid"], price["last"]) for price in bitcoin["prices"]] == [(None, 69_999), (None, 100_999_999)]
    assert bitcoin["elsewhere_usd"] == 69_999
    old = Served(served.settings.home)
    fill(old, wall() - STALE - SECOND)
    answer = old.ask("GET", "/api/premium").json()
    assert answer["krw_per_usd"] is None and answer["bases"][0]["elsewhere_usd"] is None
    assert {price["premium"] for price in answer["bases"][0]["prices"]} == {None}
    assert answer["bases"][0]["prices"][0]["age_seconds"] > 30


def test_what_is_missing_makes_no_number_up() -> None:
    korean = Quote("upbit", "BTC-KRW", "BTC", "KRW", 1e8, None, 0)
    rate = Quote("upbit", "USDT-KRW", "USDT", "KRW", 1_400.0, None, 0)
    assert premiums([]).prices == {}
    assert [price.usd for price in premiums([korean]).prices["BTC"]] == [None]
    [alone] = premiums([korean, rate]).prices["BTC"]
    assert (alone.usd, alone.premium) == (1e8 / 1_400, None)
    other = Quote("bithumb", "USDT-KRW", "USDT", "KRW", 1_500.0, None, 0)
    assert premiums([rate, other]).won_per_dollar == 1_450


def test_the_past_premium_has_a_point_for_each_time_at_which_something_was_known(served: Served) -> None:
    now = wall()
    served.history.sample(now - 30 * SECOND)
    fill(served, now)
    append_processed(served.broker, "bithumb", "BTC-KRW", time=now - 2 * STALE, data=[{"trade_price": "1"}])
    take(served)
    for seconds in (0, 10, 60):  # after a minute all prices are stale
        served.history.sample(now + seconds * SECOND)
    answer = served.ask("GET", "/api/premium/BTC").json()
    assert answer["times"] == [pytest.approx((now + seconds * SECOND) / SECOND) for seconds in (0, 10)]
    assert answer["premiums"] == {"upbit": [pytest.approx(101_000_000 / 1_400 / 70_000 - 1, abs=1e-6)] * 2}
    assert served.ask("GET", "/api/premium/%3Cb%3E").json() == {"base": "<b>", "times": [], "premiums": {}}


def test_the_past_premium_takes_bounded_memory(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(premium_history, "MOST_BASES", 1)
    now = wall()
    fill(served, now)
    history = premium_history.PremiumHistory(served.latest)
    for _ in range(premium_history.MOST_POINTS + 10):
        history.sample(now)
    append_processed(served.broker, "upbit", "ETH-KRW", time=now)
    append_processed(served.broker, "okx", "ETH-USDT", time=now)
    take(served)
    history.sample(now)
    assert len(history.of("BTC")) == premium_history.MOST_POINTS and history.of("ETH") == []
    history.sample(now + 3 * 3600 * SECOND)
    assert history.of("BTC") == [], "two hours later nothing is left"


def test_the_past_premium_is_sampled_by_a_thread_until_the_server_ends(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(premium_history, "STEP_SECONDS", 0.01)
    fill(served, wall())
    with premium_history.sampling(served.history):
        until(lambda: len(served.history.of("BTC")) > 2)
    count = len(served.history.of("BTC"))
    assert [thread for thread in threading.enumerate() if thread.name == "premium history"] == []
    assert len(served.history.of("BTC")) == count
