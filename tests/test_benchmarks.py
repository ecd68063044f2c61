"""The benchmarks compare in turns, take the median, and fail beyond their bound."""

from collections import Counter
from itertools import count

import pytest

from benchmarks import seeds
from benchmarks.__main__ import main
from benchmarks.compare import ROUNDS, Outcome, in_turns, same
from benchmarks.messages import books, data
from coin_platform.model import Channel
from coin_platform.tables.dataframes import batch


def test_alternatives_run_in_turns_and_the_median_counts() -> None:
    order: list[str] = []
    clock = count()
    taken = in_turns({name: lambda name=name: order.append(name) for name in "ab"}, clock=lambda: next(clock))  # type: ignore[misc]
    assert order == ["a", "b"] * ROUNDS and taken == {"a": 1, "b": 1}


def test_a_bound_is_a_minimum_or_a_maximum() -> None:
    found = [Outcome("P", "", 2.0, must=must, is_least=least).passed for must in (1, 3) for least in (True, False)]
    assert found == [True, False, False, True]
    assert Outcome("P", "", 2.0).passed


def test_alternatives_with_different_results_are_not_compared() -> None:
    same(1, 1, "P1")
    with pytest.raises(AssertionError, match="P1: the two ways do not give the same result"):
        same(1, 2, "P1")


def test_the_forerunners_way_gives_the_same_rows() -> None:
    source, records = data("okx", Channel.TICKER, 200, b'"data"')
    ours = batch(source, records).rows
    theirs, dead = seeds.tickers(source, records)
    assert dead == [] and ours["last"].equals(theirs["last"]) and ours["offset"].equals(theirs["offset"])
    source, whole = books("upbit", 20)
    tops = batch(source, whole).rows.sort("offset").select("best_bid", "best_ask").rows()
    assert tops == [seeds.book_of_floats(record.value)[:2] for record in whole]
    assert Counter(record.offset for record in whole).most_common(1)[0][1] == 1


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "nothing: there is no such part; there are tables, live, windows" in capsys.readouterr().err
