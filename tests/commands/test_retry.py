"""`coin lake retry` lists the windows that failed, and makes them."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.storage.dagster_run import DagsterRun

from coin_platform.model import Channel, Window
from coin_platform.orchestration.failed_windows import failed_windows
from coin_platform.orchestration.partitions import key_of
from coin_platform.orchestration.window_runs import ATTEMPT_TAG, WINDOW_REGION_TAG, WINDOW_TAG
from tests.kit.platform import FIRST, THEN, Platform, recorded


@pytest.fixture
def instance(platform: Platform) -> Iterator[dg.DagsterInstance]:
    """Give the Dagster of the platform's home, and a log with records of two windows."""
    home = platform.home / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    for window in (FIRST, THEN):
        platform.time = window.start
        platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker"))
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


def add(
    instance: dg.DagsterInstance, window: Window, attempt: int, status: DagsterRunStatus = DagsterRunStatus.STARTED
) -> None:
    """Add a run of a window of Korea to Dagster. By default the run failed."""
    tags = {WINDOW_REGION_TAG: "korea", WINDOW_TAG: key_of(window), ATTEMPT_TAG: str(attempt)}
    run = instance.add_run(DagsterRun("tables_korea", tags=tags, status=status))
    if status is DagsterRunStatus.STARTED:
        instance.report_run_failed(run, f"attempt {attempt}: the [lake] is away")


def test_D10_windows_that_failed_are_listed_and_made(platform: Platform, instance: dg.DagsterInstance) -> None:
    assert platform.coin("lake", "retry").output.startswith("no window failed")
    for attempt in (1, 2):
        add(instance, FIRST, attempt)
        add(instance, THEN, attempt)
    add(instance, THEN, 3, DagsterRunStatus.SUCCESS)
    listed = platform.coin("lake", "retry", "--list")
    assert listed.exit_code == 0, listed.output
    [line] = [line for line in listed.output.splitlines() if "korea" in line]
    assert [cell.strip() for cell in line.strip("│ ").split("│")][:3] == ["2026-11-02T03:00", "korea", "2"]
    assert "attempt 2: the [lake] is away" in line
    assert platform.opened().windows("ticker", "upbit") == []
    spoiled = platform.lake / "raw_ticker/exchange=upbit/date=2026-11-02/hour=03/minute=00/part.parquet"
    spoiled.parent.mkdir(parents=True)
    spoiled.write_bytes(b"not ours")
    assert platform.coin("lake", "retry").exit_code == 1
    assert [failure.window for failure in failed_windows(instance, platform.settings)] == [FIRST]
    spoiled.unlink()
    made = platform.coin("lake", "retry", "--window", "2026-11-02T03:00")
    assert made.exit_code == 0, made.output
    assert platform.opened().windows("ticker", "upbit") == [FIRST], "not the one that was made since"
    assert platform.coin("lake", "retry").output.startswith("no window failed")


def test_D10_a_window_that_did_not_fail_is_refused(platform: Platform, instance: dg.DagsterInstance) -> None:
    add(instance, FIRST, 1)
    refused = platform.coin("lake", "retry", "--window", "2026-11-02T03:01")
    assert refused.exit_code != 0
    assert "--window 2026-11-02T03:01: this window did not fail; `coin lake backfill`" in str(refused.exception)


def test_D10_without_a_dagster_home_the_command_is_refused(platform: Platform) -> None:
    assert "DAGSTER_HOME: it is not set" in str(platform.coin("lake", "retry").exception)
