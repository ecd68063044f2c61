"""The resources of the definitions reach what the settings name."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from coin_platform.model import SECOND, Window
from coin_platform.orchestration.definitions import definitions
from coin_platform.orchestration.resources import LakeFolder
from coin_platform.settings import Settings, load
from infra.stack import SeaweedFS, settings

HOUR = 3600 * SECOND


@pytest.mark.s3
def test_a_lake_in_s3_is_reached_through_dagster_aws(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings([seaweedfs]).items():
        monkeypatch.setenv(name, value)
    load.cache_clear()
    lake, rows = LakeFolder().open(), pl.DataFrame({"last": [1.0, 2.0]})
    try:
        commit = lake.commit("ticker", "upbit", Window(0, HOUR), rows, {"frames": 2})
        again = lake.commit("ticker", "upbit", Window(0, HOUR), rows.head(1), {"frames": 1})
    finally:
        load.cache_clear()
    assert (commit.uri[:15], commit.generation, again.generation) == ("s3://lake/coin/", 1, 2)
    stored = lake.read("ticker", "upbit", Window(0, HOUR))
    assert stored is not None and stored.equals(rows.head(1))


@pytest.mark.parametrize(("config", "is_allowed"), [({}, False), ({"replace_smaller": True}, True)])
def test_D1_a_run_may_replace_by_fewer_records_only_where_its_config_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, bool], is_allowed: bool
) -> None:
    monkeypatch.setenv("COIN_HOME", str(tmp_path))
    load.cache_clear()
    allowed: list[bool] = []

    @dg.op
    def look(lake: LakeFolder) -> None:
        allowed.append(lake.open().replaces_smaller)

    @dg.job
    def job() -> None:
        look()

    resources = dict(definitions(Settings(exchanges=("upbit",))).resources or {})
    try:
        result = job.execute_in_process(
            run_config={"resources": {"lake": {"config": config}}}, resources={"lake": resources["lake"]}
        )
    finally:
        load.cache_clear()
    assert result.success and allowed == [is_allowed]
