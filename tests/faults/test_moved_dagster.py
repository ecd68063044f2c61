"""All of Dagster on a wall clock that jumps: windows go on being made, and no run is ended."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psutil
import pytest

from coin_platform.demo.processes import DAGSTER_DEV
from coin_platform.lake import Lake, open_lake
from coin_platform.model import SECOND, Window
from coin_platform.runtime.ports import free_ports
from infra.stack import ROOT
from tests.kit.asia import running
from tests.kit.waiting import until
from tests.kit.wall_clock import WallClock

PATIENCE = 600.0  # seconds until two more windows are made; a busy machine takes minutes for one
ENDED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.CANCELING)


def windows(lake: Lake) -> list[Window]:
    """Return the windows that are made; none that is still open is among them."""
    made = lake.windows("gap", "bybit")
    assert all(window.stop <= time.time() * SECOND for window in made), "a window was made that is open"
    return made


def until_two_more(lake: Lake) -> None:
    """Return when two more windows are made."""
    before = len(windows(lake))
    until(lambda: len(windows(lake)) >= before + 2, PATIENCE)


@contextmanager
def all_ended(pid: int) -> Iterator[None]:
    """At the end, kill a process and all that it started: long runs live on when only Dagster ends."""
    process = psutil.Process(pid)
    try:
        yield
    finally:
        for started in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                started.kill()


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("ahead", [25 * 3600.0, -3600.0])  # the first is longer than a run of a window may last
def test_D3_windows_are_made_and_no_run_is_ended_while_the_clock_jumps_and_after_that(
    tmp_path: Path, ahead: float
) -> None:
    clock, home = WallClock(tmp_path), tmp_path / "home"
    dagster_home = home / "dagster_home"
    dagster_home.mkdir(parents=True)
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", dagster_home)
    environment = {**clock.environment, "DAGSTER_HOME": str(dagster_home)}
    settings = {"window": "1m", "grace": "3s", "start": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z")}
    with running(home, "local:", rate=2, environment=environment, **settings) as platform:
        _, module, *words = DAGSTER_DEV
        [port] = free_ports(1)
        workspace = ("-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port))
        platform.start(*words, *workspace, module=module)
        lake = open_lake(platform.settings)
        with all_ended(platform.processes["dev"].pid):
            until(lambda: windows(lake), PATIENCE)
            clock.set(ahead)
            until_two_more(lake)
            clock.set(0)
            until_two_more(lake)
            with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
                runs = instance.get_runs()
    assert [(run.job_name, run.status) for run in runs if run.status in ENDED] == []
    long_runs = [run.job_name for run in runs if not run.job_name.startswith(("tables_", "forget_"))]
    assert sorted(long_runs) == ["collect_asia", "preprocess_asia"], "no run was replaced"
