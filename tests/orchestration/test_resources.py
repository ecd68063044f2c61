"""The resources of the definitions reach what the settings name."""

import polars as pl
import pytest

from coin_platform.model import SECOND, Window
from coin_platform.orchestration.resources import LakeFolder
from coin_platform.settings import load
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
