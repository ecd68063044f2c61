"""Stored data only grows, or is replaced on purpose, also when the log began anew."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from coin_platform.errors import NotOwner, Smaller
from coin_platform.lake import FolderStore, Lake
from coin_platform.lake.deployment import Deployment
from coin_platform.orchestration import materialise
from coin_platform.orchestration.materialise import materialise_rows
from coin_platform.tables.dataframes import Batch, batch
from coin_platform.tables.outcomes import FrameOutcome
from tests.kit.log_and_lake import (
    FIRST,
    FOURTH,
    MINUTE,
    SECOND,
    START,
    THIRD,
    WINDOWS,
    LocalLogAndLake,
    LogAndLake,
    failed,
)


def test_D1_a_log_that_begins_anew_makes_windows_with_a_gap_and_leaves_stored_ones_as_they_are(
    world: LogAndLake,
) -> None:
    world.log(FIRST, 20)
    assert failed(world.make(FIRST)[0]) == {}
    world.begin_anew()
    world.log(SECOND, 8)
    world.log(THIRD, 5)
    raw, _, gap = world.make(SECOND)
    assert world.rows(SECOND) == 8 and world.rows(SECOND, "ticker") == 7
    assert "the topic began anew" in failed(raw)["conservation"] and "from offset 20 on" in failed(raw)["conservation"]
    assert [check.severity for check in raw.check_results or ()] == [dg.AssetCheckSeverity.WARN], "the rest may go on"
    assert "new_log" in failed(gap)["no_gap"]
    gaps = world.lake.scan("gap").collect().filter(cause="new_log").sort("pair")
    told = [("BTC-KRW", START + timedelta(minutes=1)), ("ETH-KRW", START + timedelta(minutes=1))]
    assert gaps.select("pair", "from").rows() == told
    assert gaps["to"].to_list() == [START + timedelta(minutes=1, milliseconds=1)] * 2
    again = world.raw(FIRST)
    assert world.rows(FIRST) == 20 and again.metadata is not None and not again.metadata["changed"]
    assert "holds 0 records of this window: the stored ones are kept" in failed(again)["conservation"]
    assert failed(world.make(THIRD)[0]) == {} and world.rows(THIRD) == 5, "it is said once"
    repeated = world.raw(SECOND)
    assert repeated.metadata is not None and not repeated.metadata["changed"] and failed(repeated)


def test_D1_a_log_that_has_outgrown_the_one_before_is_known_by_its_name(world: LogAndLake) -> None:
    world.log(FIRST, 5)
    world.make(FIRST)
    world.begin_anew()
    world.log(FIRST, 9)  # by a clock behind that of the log before
    world.log(SECOND, 9)
    raw, *_ = world.make(SECOND)
    assert world.rows(SECOND) == 18 and "began anew" in failed(raw)["conservation"]
    kept = world.raw(FIRST)
    assert world.rows(FIRST) == 5 and "holds 9 records of this window" in failed(kept)["conservation"]


def test_D2_another_deployment_does_not_overwrite_a_window_until_it_adopts_the_lake(world: LogAndLake) -> None:
    store = world.lake._store
    first, second = (
        Lake(store, MINUTE, deployment=lambda name=name: Deployment(name, "host", f"/{name}"))  # type: ignore[misc]  # mypy cannot tell
        for name in ("one", "two")
    )
    world.log(FIRST, 20)
    world.raw(FIRST, first)
    world.log(FIRST, 5)  # as another log would have them
    world.log(SECOND, 5)
    for window in (FIRST, SECOND):
        with pytest.raises(NotOwner, match=r"deployment one \(host:/one\), and we are two \(host:/two\): .*adopt"):
            world.raw(window, second)
    assert (world.rows(FIRST), world.rows(SECOND)) == (20, -1)
    second.file.adopt(second.file.owner())
    world.raw(FIRST, second)
    assert world.rows(FIRST) == 25
    with pytest.raises(NotOwner, match="belongs to deployment two"):
        world.raw(SECOND, first)


def test_D1_windows_without_a_record_between_two_logs_belong_to_the_gap(local: LocalLogAndLake) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    local.begin_anew()
    local.log(FOURTH, 8)
    local.log(WINDOWS[4], 2)
    raw, *_ = local.make(FOURTH)
    assert "began anew" in failed(raw)["conservation"]
    [row, *_] = local.lake.scan("gap").collect().filter(cause="new_log").iter_rows(named=True)
    assert (row["from"], row["to"]) == (START + timedelta(minutes=1), START + timedelta(minutes=3, milliseconds=1))


def test_D1_a_window_that_the_new_log_has_nothing_of_is_a_gap_as_a_whole(local: LocalLogAndLake) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    local.begin_anew()
    local.log(THIRD, 8)
    raw, *_ = local.make(SECOND)
    assert local.rows(SECOND) == 0 and "began anew" in failed(raw)["conservation"]
    [row, *_] = local.lake.scan("gap").collect().filter(cause="new_log").iter_rows(named=True)
    assert (row["from"], row["to"]) == (START + timedelta(minutes=1), START + timedelta(minutes=2))
    assert failed(local.make(THIRD)[0]) == {} and local.rows(THIRD) == 8


def test_D1_a_lake_without_names_of_logs_is_adopted_unless_offsets_disprove_it(local: LocalLogAndLake) -> None:
    local.log(FIRST, 20)
    local.log(SECOND, 4)
    local.make(FIRST)
    forget_log(local.lake)
    assert failed(local.make(SECOND)[0]) == {} and local.rows(SECOND) == 4
    forget_log(local.lake)
    local.begin_anew()
    local.log(THIRD, 3)
    assert "from offset 24 on" in failed(local.make(THIRD)[0])["conservation"] and local.rows(THIRD) == 3
    assert "kept" in failed(local.raw(FIRST))["conservation"] and local.rows(FIRST) == 20


def forget_log(lake: Lake) -> None:
    """Store all raw windows of the lake as a former version did."""
    for window in lake.windows("raw_ticker", "upbit"):
        rows, facts = lake.read("raw_ticker", "upbit", window), lake.provenance("raw_ticker", "upbit", window) or {}
        assert rows is not None
        names = ("topic", "partition", "start_offset", "stop_offset", "frames")
        lake.commit("raw_ticker", "upbit", window, rows, {name: facts[name] for name in names})


def test_D1_an_empty_window_that_a_former_version_made_of_the_new_log_is_made_good(local: LocalLogAndLake) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    raw = local.lake.read("raw_ticker", "upbit", FIRST)
    local.begin_anew()
    local.log(SECOND, 8)
    assert raw is not None
    place = {"topic": local.source.topic, "partition": 0, "start_offset": 20, "stop_offset": 20}
    local.lake.commit("raw_ticker", "upbit", SECOND, raw.clear(), {**place, "frames": 0})
    assert "began anew" in failed(local.make(SECOND)[0])["conservation"] and local.rows(SECOND) == 8


def test_D1_a_stored_raw_window_gets_fewer_records_only_by_name(local: LocalLogAndLake, tmp_path: Path) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    raw = local.lake.read("raw_ticker", "upbit", FIRST)
    facts = local.lake.provenance("raw_ticker", "upbit", FIRST) or {}
    assert raw is not None
    with pytest.raises(Smaller, match=r"19 records would replace the 20 that are stored.*--replace-smaller"):
        local.lake.commit("raw_ticker", "upbit", FIRST, raw.head(19), {"start_offset": 0, "stop_offset": 19})
    assert local.lake.provenance("raw_ticker", "upbit", FIRST) == facts
    local.begin_anew()
    local.log(FIRST, 3)
    local.log(SECOND, 3)
    local.raw(FIRST)
    assert local.rows(FIRST) == 20
    local.raw(FIRST, Lake(FolderStore(tmp_path / "lake"), MINUTE, replaces_smaller=True))
    assert local.rows(FIRST) == 3


def test_D1_a_log_that_was_put_back_from_an_older_copy_goes_on_by_time(local: LocalLogAndLake, tmp_path: Path) -> None:
    local.log(FIRST, 20)
    local.broker.close()
    shutil.copytree(tmp_path / "journal", tmp_path / "copy")
    local._open()
    local.log(SECOND, 20)
    for window in (FIRST, SECOND):
        local.make(window)
    local.broker.close()
    shutil.rmtree(tmp_path / "journal")
    (tmp_path / "copy").rename(tmp_path / "journal")
    local._open()
    local.log(THIRD, 6)
    assert "from offset 40 on" in failed(local.make(THIRD)[0])["conservation"]
    assert local.rows(THIRD) == 6
    facts = json.dumps(local.lake.provenance("raw_ticker", "upbit", THIRD))
    assert '"start_offset": 20' in facts and '"stop_offset": 26' in facts


def test_D1_rows_of_a_kept_window_are_made_again_without_the_records_of_the_new_log(local: LocalLogAndLake) -> None:
    local.log(FIRST, 20)
    local.log(SECOND, 20)
    made: list[Callable[[], object]] = [lambda: local.make(FIRST), lambda: local.make(SECOND)]
    for make in made:
        make()
    stored = local.lake.read("ticker", "upbit", SECOND)
    local.begin_anew()
    local.log(THIRD, 60)
    local.make(SECOND)
    again = local.lake.read("ticker", "upbit", SECOND)
    assert stored is not None and again is not None and again.equals(stored)


def test_D1_a_table_gets_fewer_rows_of_the_same_raw_content_only_by_other_code(
    local: LocalLogAndLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)

    def fewer(*arguments: Any) -> Batch:
        whole = batch(*arguments)
        counts = whole.transform.frames
        counts[FrameOutcome.ROWS], counts[FrameOutcome.CONTROL], whole.transform.emitted = 4, 15, 4
        return whole._replace(rows=whole.rows.head(4))

    monkeypatch.setattr(materialise, "batch", fewer)
    with pytest.raises(Smaller, match="4 rows would replace the 19 that are stored; they are kept"):
        materialise_rows(local.source, FIRST, local.broker, local.lake)
    assert local.rows(FIRST, "ticker") == 19
    monkeypatch.setattr(materialise, "code_version", lambda: "mended")
    materialise_rows(local.source, FIRST, local.broker, local.lake)
    assert local.rows(FIRST, "ticker") == 4
