"""The market's premium, the correlation of its prices, and its days."""

import pytest

from coin_platform.model import Pair
from coin_platform.simulator.market import DAY, Market
from tests.kit.venue_talk import STEP, TIME, pair_of


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
    same_way_share = sum(bitcoin * ether > 0 for bitcoin, ether in moves) / len(moves)
    assert same_way_share > 0.55


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
