"""A slow run does not replace what a newer run has made."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from coin_platform.errors import Conflict
from coin_platform.lake import FolderStore, Lake
from coin_platform.lake.objects import StoredWindow
from coin_platform.model import Window
from coin_platform.orchestration.materialise import materialise_dead, materialise_raw, materialise_rows
from coin_platform.orchestration.materialise_gaps import materialise_gaps
from tests.kit.log_and_lake import FIRST, MINUTE, SETTINGS, UPBIT, LocalLogAndLake


class Overtaken(Lake):
    """A lake in which something happens between the reading of a raw table and what follows."""

    happens: Callable[[], object] = staticmethod(lambda: None)

    def load(self, table: str, exchange: str | None, window: Window) -> StoredWindow | None:
        held = super().load(table, exchange, window)
        if table == "raw_ticker":
            happens, self.happens = self.happens, lambda: None
            happens()
        return held


@pytest.mark.parametrize("rest", [True, False], ids=["a newer run has made all", "raw is newer"])
def test_D6_a_slow_run_does_not_overwrite_what_a_newer_one_made_of_more(
    local: LocalLogAndLake, tmp_path: Path, rest: bool
) -> None:
    local.log(FIRST, 5)
    local.make(FIRST)
    slow = Overtaken(FolderStore(tmp_path / "lake"), MINUTE)

    def overtake() -> None:
        local.log(FIRST, 5)  # late, after the grace
        local.make(FIRST) if rest else local.raw(FIRST)

    slow_runs: dict[str, Callable[[], object]] = {
        "ticker": lambda: materialise_rows(local.source, FIRST, local.broker, slow),
        "dead": lambda: materialise_dead(UPBIT, [local.source], FIRST, slow),
        "gap": lambda: materialise_gaps(UPBIT, [local.source], FIRST, slow),
    }
    for number, (table, make) in enumerate(slow_runs.items(), 2):
        slow.happens = overtake
        before = local.lake.generation(table, "upbit", FIRST)
        with pytest.raises(
            (Conflict, dg.Failure), match=r"meanwhile; compute again|made of other raw records"
        ) as caught:
            make()
        assert isinstance(caught.value, Conflict) or table == "dead"
        assert local.rows(FIRST) == 5 * number
        assert local.lake.generation(table, "upbit", FIRST) == before + (rest and table != "dead")
        local.make(FIRST)
    fresh = Lake(FolderStore(tmp_path / "fresh"), MINUTE)
    materialise_raw(local.source, FIRST, local.broker, fresh, SETTINGS)
    materialise_rows(local.source, FIRST, local.broker, fresh)
    made, wanted = (lake.read("ticker", "upbit", FIRST) for lake in (local.lake, fresh))
    assert made is not None and wanted is not None and made.equals(wanted), "the next run makes it of all"


def test_D6_a_slow_run_does_not_overwrite_newer_raw(local: LocalLogAndLake, tmp_path: Path) -> None:
    local.log(FIRST, 5)
    local.raw(FIRST)
    slow = Overtaken(FolderStore(tmp_path / "lake"), MINUTE)

    def overtake() -> None:
        local.log(FIRST, 5)
        local.raw(FIRST)
        local.log(FIRST, 2)

    slow.happens = overtake
    with pytest.raises(Conflict, match="generation 2 was committed meanwhile"):
        local.raw(FIRST, slow)
    assert local.rows(FIRST) == 10


def test_D6_a_table_says_which_raw_content_it_is_made_of(local: LocalLogAndLake) -> None:
    local.log(FIRST, 5)
    local.make(FIRST)
    materialise_dead(UPBIT, [local.source], FIRST, local.lake)
    raw, *made = (
        local.lake.provenance(table, "upbit", FIRST) or {} for table in ("raw_ticker", "ticker", "dead", "gap")
    )
    name = raw["content_hash"]
    assert [facts["raw_content_hash"] for facts in made] == [name, {"raw_ticker": name}, {"raw_ticker": name}]
