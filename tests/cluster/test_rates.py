"""Counts as rates over the last seconds."""

import pytest

from coin_platform.cluster.rates import Rates


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rates = Rates(10.0)
    assert rates.per_second("frames", 1000, 50.0) == 0.0, "the count before the first look is of an unknown time"
    assert rates.per_second("frames", 1005, 51.0) == 5.0
    for second in range(2, 30):
        rate = rates.per_second("frames", 1005 + 20 * second, 50.0 + second)
    assert rate == pytest.approx(20.0)
    for second in range(30, 42):
        rate = rates.per_second("frames", 1585, 50.0 + second)
    assert rate == 0.0


def test_each_name_has_its_own_rate_and_a_count_that_begins_anew_has_none() -> None:
    rates = Rates()
    rates.per_second("a", 0, 0.0)
    rates.per_second("b", 0, 0.0)
    assert (rates.per_second("a", 3, 1.0), rates.per_second("b", 7, 1.0)) == (3.0, 7.0)
    assert rates.per_second("a", 1, 2.0) == 0.0
    assert rates.per_second("a", 2, 3.0) == 1.0
    assert rates.per_second("a", 4, 3.0) > 0.0, "a second look at the same moment does not divide by zero"
