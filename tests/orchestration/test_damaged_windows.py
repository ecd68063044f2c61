"""A damaged window is made again from the topic, or fails and is kept."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from coin_platform.broker import LocalBroker
from coin_platform.errors import Damaged
from coin_platform.orchestration.materialise import materialise_dead, materialise_rows
from tests.kit.log_and_lake import FIRST, SECOND, THIRD, UPBIT, LocalLogAndLake, failed, object_of


def flip(path: Path) -> None:
    """Turn one bit of a payload, so that polars reads the file as before."""
    data = bytearray(path.read_bytes())
    rows = pl.read_parquet(path)
    for place in range(4, len(data)):
        data[place] ^= 1
        try:
            found = pl.read_parquet(bytes(data))
        except (Exception, pl.exceptions.PanicException):
            found = rows
        if found.schema == rows.schema and found.height == rows.height and not found.equals(rows):
            break
        data[place] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Lose the file's end."""
    path.write_bytes(path.read_bytes()[:-300])


def spoil(path: Path) -> None:
    """Overwrite the file's footer, but for its last bytes."""
    data = path.read_bytes()
    path.write_bytes(data[:-600] + bytes(592) + data[-8:])


ILLS = pytest.mark.parametrize("ill", [flip, cut, spoil])


@ILLS
def test_D7_a_damaged_raw_object_is_made_again_from_the_topic(
    local: LocalLogAndLake, tmp_path: Path, ill: Callable[[Path], None]
) -> None:
    for window in (FIRST, SECOND):
        local.log(window, 20)
        local.make(window)
    for window in (FIRST, SECOND):
        stored = local.lake.load("raw_ticker", "upbit", window)
        ill(object_of(tmp_path, "raw_ticker", window))
        with pytest.raises(
            Damaged, match=r"minute=0\d/part.parquet is damaged .*coin lake backfill --from 2026-11-02T00:"
        ):
            materialise_rows(local.source, window, local.broker, local.lake)
        assert local.rows(window, "ticker") == 19, "what was made of it is kept"
        result = local.raw(window)
        assert result.metadata is not None and result.metadata["changed"] and failed(result) == {}
        mended = local.lake.load("raw_ticker", "upbit", window)
        assert stored is not None and mended is not None and mended.rows.equals(stored.rows)
        assert mended.facts["content_hash"] == stored.facts["content_hash"]
        again = local.make(window)
        assert [made.metadata["changed"] for made in again if made.metadata] == [False] * 3


@ILLS
@pytest.mark.parametrize("is_anew", [False, True], ids=["trimmed", "begun anew"])
def test_D7_a_damaged_raw_object_that_the_topic_no_longer_has_fails_and_nothing_is_replaced(
    local: LocalLogAndLake, tmp_path: Path, ill: Callable[[Path], None], is_anew: bool
) -> None:
    for window in (FIRST, SECOND):
        local.log(window, 20)
        local.make(window)
    if is_anew:
        local.begin_anew()
        local.log(THIRD, 5)
    else:
        assert isinstance(local.broker, LocalBroker)
        local.broker.trim(local.source.topic, 0, 22)
        while local.broker.begin_offset(local.source.topic, 0) < 22:
            local.broker.flush()
    damaged = object_of(tmp_path, "raw_ticker", SECOND)
    ill(damaged)
    before = {path: path.read_bytes() for path in sorted((tmp_path / "lake").rglob("*.parquet"))}
    for make in (local.raw, local.make):
        with pytest.raises(Damaged, match=r"minute=01/part.parquet is damaged .*put it back from a backup") as caught:
            make(SECOND)
        assert "\n" not in str(caught.value)
    with pytest.raises(Damaged):
        materialise_rows(local.source, SECOND, local.broker, local.lake)
    with pytest.raises(Damaged):
        materialise_dead(UPBIT, [local.source], SECOND, local.lake)
    assert {path: path.read_bytes() for path in sorted((tmp_path / "lake").rglob("*.parquet"))} == before


@ILLS
def test_D7_a_damaged_table_is_written_again_when_its_window_is_made_again(
    local: LocalLogAndLake, tmp_path: Path, ill: Callable[[Path], None]
) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    stored = local.lake.read("ticker", "upbit", FIRST)
    ill(object_of(tmp_path, "ticker"))
    with pytest.raises(Damaged, match=r"ticker/.* is damaged"):
        local.lake.read("ticker", "upbit", FIRST)
    local.make(FIRST)
    mended = local.lake.read("ticker", "upbit", FIRST)
    assert stored is not None and mended is not None and mended.equals(stored)


def test_D7_a_damaged_end_of_the_window_before_is_not_taken_for_this_ones_begin(
    local: LocalLogAndLake, tmp_path: Path
) -> None:
    local.log(FIRST, 20)
    local.log(SECOND, 5)
    local.make(FIRST)
    path = object_of(tmp_path, "raw_ticker")
    path.write_bytes(path.read_bytes().replace(b'"stop_offset": 20', b'"stop_offset": 10'))
    with pytest.raises(
        Damaged, match=r"minute=00/part.parquet is damaged \(its facts are not those that were stored\)"
    ):
        local.raw(SECOND)
    local.raw(FIRST)
    local.raw(SECOND)
    assert (local.rows(FIRST), local.rows(SECOND)) == (20, 5)
