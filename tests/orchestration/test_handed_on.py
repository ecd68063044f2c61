"""A window that was made before the one that precedes it is known, and is right once it is made again."""

from pathlib import Path

import polars as pl
import pytest

from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Window
from coin_platform.orchestration.handed_on import is_outdated
from tests.kit.log_and_lake import FIRST, FOURTH, MINUTE, SECOND, THIRD, LocalLogAndLake


@pytest.fixture
def local(tmp_path: Path) -> LocalLogAndLake:
    """Give a log of three windows; the collector of the first is killed, and another one begins in the third."""
    made = LocalLogAndLake(tmp_path / "journal", Lake(MemoryStore(), MINUTE))
    made.log(FIRST, 20)
    made.log(THIRD, 20)
    return made


def outdated(local: LocalLogAndLake, window: Window) -> bool:
    """Whether the window after `window` was made of something else than `window` hands on."""
    return is_outdated(local.lake, [local.source], Window(window.stop, window.stop + MINUTE))


def gaps(local: LocalLogAndLake, window: Window) -> list[str]:
    rows = local.lake.read("gap", "upbit", window)
    assert rows is not None
    return sorted(rows.filter(pl.col("to").is_not_null())["cause"])


def test_S8_a_gap_that_began_in_a_window_that_was_made_later_is_in_the_table_once_that_is_made_again(
    local: LocalLogAndLake,
) -> None:
    local.make(THIRD)
    assert gaps(local, THIRD) == []
    local.make(FIRST)
    assert not outdated(local, FIRST), "the second window is not made yet"
    local.make(SECOND)
    assert not outdated(local, FIRST)
    assert outdated(local, SECOND)
    local.make(THIRD)
    assert not outdated(local, SECOND)
    assert gaps(local, THIRD) == ["killed", "killed"]


def test_S8_what_a_window_hands_on_is_followed_as_far_as_it_changes_something(local: LocalLogAndLake) -> None:
    for window in (THIRD, FOURTH, FIRST):
        local.make(window)
    local.make(SECOND)
    local.make(THIRD)
    before = local.rows(FOURTH, "gap")
    is_changed = outdated(local, THIRD)
    local.make(FOURTH)
    assert not outdated(local, THIRD)
    assert is_changed, "the frames of the first collector are known in the fourth window, too"
    assert local.rows(FOURTH, "gap") == before


def test_S8_a_window_of_a_former_version_counts_as_right(local: LocalLogAndLake) -> None:
    local.make(THIRD)
    for table in ("raw_ticker", "gap"):
        rows, facts = (read(table, "upbit", THIRD) for read in (local.lake.read, local.lake.provenance))
        assert isinstance(rows, pl.DataFrame) and isinstance(facts, dict)
        own = ("numbers_before", "states_before", "table", "exchange", "window_start", "window_stop", "rows", "schema")
        kept = {
            name: value for name, value in facts.items() if name not in (*own, "content_hash", "code", "generation")
        }
        local.lake.commit(table, "upbit", THIRD, rows, kept)
    local.make(SECOND)
    assert not outdated(local, SECOND)
