"""`coin lake` lists tables and gaps, and makes windows again with the same bytes."""

import hashlib
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from coin_platform.broker import LocalBroker
from coin_platform.cli import app
from coin_platform.clock import wall
from coin_platform.commands.backfill_report import BackfillReport, joined_ranges
from coin_platform.errors import CoinPlatformError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Window
from coin_platform.orchestration import backfill
from coin_platform.orchestration.resources import Topics
from coin_platform.settings import load
from coin_platform.times import minute_text
from tests.kit.platform import FIRST, MINUTE, THEN, Platform, recorded

RANGE = ("--from", "2026-11-02T03:00", "--to", "2026-11-02T03:02")
TICKERS = ("--exchange", "upbit", "--table", "ticker")


def two_windows(platform: Platform) -> None:
    """Log a book of changes that goes on over the boundary of two windows, and tickers in both."""
    book = recorded("okx", "book_sequence_1")
    middle = len(book) // 2
    for window, part, first in ((FIRST, book[:middle], 1), (THEN, book[middle:], middle + 1)):
        platform.time = window.start
        platform.log("okx", Channel.ORDERBOOK, part, first=first)
        for name in ("okx", "upbit"):
            tickers = recorded(name, "ticker")
            platform.log(name, Channel.TICKER, tickers, first=1 + len(tickers) * (window is THEN))


def sha256(lake: Path) -> dict[str, str]:
    """Return the hash of every object of a lake."""
    return {
        str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(lake.rglob("*.parquet"))
    }


def counts(output: str, exchange: str) -> list[int]:
    """Return the numbers of an exchange: windows, written, unchanged, replaced, failed."""
    return [int(cell) for cell in lines(output, exchange)[-1][1:]]


def lines(output: str, exchange: str) -> list[list[str]]:
    """Return the cells of the table rows about an exchange."""
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in output.splitlines() if "│" in line]
    return [line for line in cells if exchange in line[:2]]


def test_S2_tables_made_from_raw_after_the_topic_was_trimmed_have_the_same_bytes(platform: Platform) -> None:
    two_windows(platform)
    first = platform.coin("lake", "backfill", *RANGE)
    assert first.exit_code == 0, first.output
    assert counts(first.output, "okx") == counts(first.output, "upbit") == [2, 2, 0, 0, 0]
    before = sha256(platform.lake)
    assert len(before) == 2 * 2 * 6
    book = pl.read_parquet(platform.lake / "orderbook/exchange=okx/**/*.parquet")
    assert book.group_by(pl.col("log_time").dt.minute()).len().filter(pl.col("len") > 40).height == 2
    for exchange, channel in (("okx", Channel.ORDERBOOK), ("okx", Channel.TICKER), ("upbit", Channel.TICKER)):
        place = platform.source(exchange, channel)
        platform.trim(exchange, channel, platform.broker.end_offset(place.topic, place.partition))
    again = platform.coin("lake", "backfill", *RANGE)
    assert counts(again.output, "okx") == counts(again.output, "upbit") == [2, 0, 2, 0, 0]
    assert sha256(platform.lake) == before
    for table in platform.lake.iterdir():  # all that frames do not hold themselves is made anew
        if table.is_dir() and not table.name.startswith("raw_"):
            shutil.rmtree(table)
    assert set(sha256(platform.lake)) == {key for key in before if key.startswith("raw_")}
    made = platform.coin("lake", "backfill", *RANGE)
    assert made.exit_code == 0, made.output
    assert sha256(platform.lake) == before


def test_a_changed_table_is_listed_with_its_rows_before_and_after(platform: Platform) -> None:
    two_windows(platform)
    assert platform.coin("lake", "backfill", *RANGE, *TICKERS).exit_code == 0
    lake = platform.opened()
    stored = lake.read("ticker", "upbit", FIRST)
    assert stored is not None
    lake.commit("ticker", "upbit", FIRST, stored.head(1), {"frames": 1})  # as other code would have had it
    again = platform.coin("lake", "backfill", *RANGE, *TICKERS)
    assert counts(again.output, "upbit") == [2, 0, 1, 1, 0]
    where = "2026-11-02T03:00 to 2026-11-02T03:01"
    assert lines(again.output, "upbit")[0] == ["upbit", "ticker", "1", "1", str(stored.height), where]
    assert (lake.provenance("ticker", "upbit", FIRST) or {})["generation"] == 3
    assert lake.read("ticker", "upbit", FIRST).equals(stored)  # type: ignore[union-attr]  # it was just committed


def test_a_failing_exchange_costs_only_its_own_windows(platform: Platform, capfd: pytest.CaptureFixture[str]) -> None:
    two_windows(platform)
    spoiled = platform.lake / "raw_ticker/exchange=upbit/date=2026-11-02/hour=03/minute=00/part.parquet"
    spoiled.parent.mkdir(parents=True)
    spoiled.write_bytes(b"not ours")
    made = platform.coin("lake", "backfill", *RANGE)
    assert made.exit_code == 1
    assert counts(made.output, "upbit") == [2, 0, 0, 0, 2]
    assert counts(made.output, "okx") == [2, 2, 0, 0, 0]
    errors = capfd.readouterr().err
    assert "FAILED upbit 2026-11-02T03:00 raw_ticker: file://" in errors and "was not written by this lake" in errors
    assert "FAILED upbit 2026-11-02T03:00 ticker: a table that it is made of failed" in errors
    assert "okx" not in errors


def test_D7_a_backfill_makes_damaged_objects_again(platform: Platform) -> None:
    two_windows(platform)
    assert platform.coin("lake", "backfill", *RANGE, *TICKERS).exit_code == 0
    before = sha256(platform.lake)
    for path in platform.lake.rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-200])
    made = platform.coin("lake", "backfill", *RANGE, *TICKERS)
    assert made.exit_code == 0, made.output
    assert sha256(platform.lake) == before


def test_D1_a_lost_journal_is_an_exit_code_and_fewer_records_replace_a_window_by_option_only(
    platform: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    def logged(count: int) -> None:
        platform.time = FIRST.start
        platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker")[:count])
        platform.time = THEN.start
        platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker")[:count], first=count + 1)

    def rows() -> list[int]:
        provenances = (platform.opened().provenance("raw_ticker", "upbit", window) for window in (FIRST, THEN))
        return [int((facts or {})["rows"]) for facts in provenances]

    logged(4)
    assert platform.coin("lake", "backfill", *RANGE, *TICKERS).exit_code == 0
    platform.broker.close()
    shutil.rmtree(platform.settings.path(platform.settings.journal_dir))
    platform.broker = LocalBroker(platform.settings.path(platform.settings.journal_dir), clock=lambda: platform.time)
    logged(2)
    kept = platform.coin("lake", "backfill", *RANGE, *TICKERS)
    assert (kept.exit_code, rows()) == (1, [4, 4])
    errors = capfd.readouterr().err
    assert "FAILED upbit 2026-11-02T03:00 raw_ticker: check conservation failed: 4 of the 4 records" in errors
    assert "began anew since and holds 2 records of this window: the stored ones are kept" in errors
    assert "a table that it is made of failed" not in errors, "the rest of the window is made"
    platform.coin("lake", "backfill", *RANGE, *TICKERS, "--replace-smaller")
    assert rows() == [2, 2]


def test_D2_a_lake_is_adopted_by_typing_the_name_of_its_owner(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    two_windows(platform)
    assert platform.coin("lake", "backfill", *RANGE, *TICKERS).exit_code == 0
    owner, stored = platform.opened().file.owner(), sha256(platform.lake)
    assert owner is not None and owner.home == str(tmp_path)
    assert "belongs to this deployment already" in platform.coin("lake", "adopt").output
    monkeypatch.setenv("COIN_HOME", str(tmp_path / "second"))  # whose log has one record of these windows
    monkeypatch.setenv("COIN_LAKE_URL", f"file:{platform.lake}")
    load.cache_clear()
    second = Platform(tmp_path / "second")
    try:
        second.time = THEN.start
        second.log("upbit", Channel.TICKER, recorded("upbit", "ticker")[:1])
        refused = second.coin("lake", "backfill", *RANGE, *TICKERS)
        assert refused.exit_code == 1 and sha256(platform.lake) == stored
        errors = capfd.readouterr().err
        assert f"this lake belongs to deployment {owner}, and we are " in errors and f":{tmp_path}/second)" in errors
        wrong = CliRunner().invoke(app, ["lake", "adopt"], input="yes\n")
        assert wrong.exit_code == 1 and platform.opened().file.owner() == owner
        assert f"The lake belongs to {owner}. That deployment will be refused from now on." in wrong.output
        adopted = CliRunner().invoke(app, ["lake", "adopt"], input=f"{owner.id}\n")
        assert adopted.exit_code == 0 and f"{tmp_path}/second)" in adopted.output
        second.coin("lake", "backfill", *RANGE, *TICKERS)
        assert {key: sha for key, sha in sha256(platform.lake).items() if key.startswith("raw_")} == {
            key: sha for key, sha in stored.items() if key.startswith("raw_")
        }, "windows that are stored keep their records all the same"
        monkeypatch.setenv("COIN_HOME", str(tmp_path))
        load.cache_clear()
        assert platform.coin("lake", "adopt", "--yes").exit_code == 0
        assert platform.opened().file.owner() == owner
    finally:
        second.broker.close()


def test_windows_without_records_are_named(platform: Platform) -> None:
    two_windows(platform)
    made = platform.coin("lake", "backfill", "--from", "2026-11-02T02:58", "--to", "2026-11-02T03:01")
    assert made.exit_code == 0
    assert "upbit: nothing logged: 2026-11-02T02:58 to 2026-11-02T03:00" in made.output
    assert counts(made.output, "upbit") == [3, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("happens", "error"),
    [
        (lambda: signal.raise_signal(signal.SIGINT), dg.DagsterExecutionInterruptedError),
        (lambda: 1 // 0, ZeroDivisionError),
    ],
)
def test_an_error_during_a_backfill_is_raised_and_ends_it(
    platform: Platform, happens: Callable[[], object], error: type[BaseException]
) -> None:
    two_windows(platform)
    work = backfill.BackfillPlan([EXCHANGES["okx"]], [FIRST, THEN], ["raw_ticker"])
    windows_made: list[Window] = []

    def tell(made: list[backfill.TableReport]) -> None:
        windows_made.append(made[0].window)
        happens()

    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(error):
        backfill.run_backfill(work, platform.settings, Topics(), platform.opened(), instance, tell)
    assert windows_made == [FIRST]
    assert platform.opened().windows("raw_ticker", "okx") == [FIRST]


def test_an_open_window_is_named_and_not_made(platform: Platform) -> None:
    platform.time = wall()
    platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker"))
    current = platform.time // MINUTE * MINUTE
    reports: list[backfill.TableReport] = []
    work = backfill.BackfillPlan([EXCHANGES["upbit"]], [Window(current, current + MINUTE)])
    with dg.DagsterInstance.ephemeral() as instance:
        backfill.run_backfill(work, platform.settings, Topics(), platform.opened(), instance, reports.extend)
    assert [(made.outcome, made.table) for made in reports] == [(backfill.TableOutcome.OPEN, "")]
    report = BackfillReport()
    assert list(report.take(reports)) == []
    assert f"upbit: still open: {minute_text(current)} to {minute_text(current + MINUTE)}" in list(report.tables())
    assert sha256(platform.lake) == {}


def test_D3_a_window_that_is_open_by_the_clock_of_its_log_is_not_made_though_ours_is_ahead(platform: Platform) -> None:
    reports: list[backfill.TableReport] = []

    def tell(made: list[backfill.TableReport]) -> None:
        reports.extend(made)
        platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker"))  # the collector goes on

    platform.time = wall() - 60 * MINUTE
    current = platform.time // MINUTE * MINUTE
    for platform.time in (current - MINUTE, current):
        platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker"))
    windows = [Window(start, start + MINUTE) for start in (current - MINUTE, current)]
    plan = backfill.BackfillPlan([EXCHANGES["upbit"]], windows, ["raw_ticker"])
    with dg.DagsterInstance.ephemeral() as instance:
        backfill.run_backfill(plan, platform.settings, Topics(), platform.opened(), instance, tell)
    assert [made.outcome for made in reports] == [backfill.TableOutcome.WRITTEN, backfill.TableOutcome.OPEN]


def test_only_the_chosen_table_and_the_tables_it_is_made_of_are_made(platform: Platform) -> None:
    two_windows(platform)
    made = platform.coin("lake", "backfill", *RANGE, "--exchange", "okx", "--table", "ticker")
    assert made.exit_code == 0
    assert {key.split("/date=")[0] for key in sha256(platform.lake)} == {
        "raw_ticker/exchange=okx",
        "ticker/exchange=okx",
    }


def test_the_instance_knows_materialisations_and_checks_of_each_partition(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    two_windows(platform)
    for _ in range(2):  # also when it is recorded again
        assert platform.coin("lake", "backfill", *RANGE, "--table", "ticker").exit_code == 0
    with dg.DagsterInstance.get() as instance:
        asset = dg.AssetKey(["asia", "okx", "ticker"])
        keys = ["2026-11-02-03:00", "2026-11-02-03:01"]
        assert instance.get_materialized_partitions(asset) == set(keys)
        history = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(asset, "conservation"), limit=10
        )
        assert sorted(str(record.partition) for record in history) == sorted(keys * 2)
        assert {record.status.value for record in history} == {"SUCCEEDED"}
        [newest] = instance.fetch_materializations(asset, limit=1).records
        metadata = newest.asset_materialization.metadata if newest.asset_materialization else {}
        assert metadata["dagster/partition_row_count"].value == len(recorded("okx", "ticker"))
        assert [run.job_name for run in instance.get_runs()] == ["lake_backfill"] * 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--from", "noon"), "--from noon: this is not a time; write it as 2026-11-24T03:00, in UTC"),
        (
            ("--from", "2026-11-02T03:00:30"),
            "--from 2026-11-02T03:00:30: a window is 1 minutes long; write 2026-11-02T03:00 or 2026-11-02T03:01",
        ),
        (("--from", "2026-10-02"), "--from 2026-10-02: this is before COIN_START; write 2026-11-02T00:00 or later"),
        (
            ("--from", "2026-11-02T03:00", "--to", "2026-11-02T04:00+01:00"),
            "--from 2026-11-02T03:00: this is not before --to, 2026-11-02T03:00; write an earlier time",
        ),
        ((*RANGE, "--exchange", "mtgox"), "--exchange mtgox: there is no such name; write one of upbit, bithumb,"),
        ((*RANGE, "--table", "tickers"), "--table tickers: there is no such name; write one of raw_ticker, ticker,"),
    ],
)
def test_a_wrong_argument_is_one_line_that_says_what_to_write(
    platform: Platform, arguments: tuple[str, ...], line: str
) -> None:
    error = platform.coin("lake", "backfill", *arguments).exception
    assert isinstance(error, CoinPlatformError)
    assert str(error).startswith(line) and "\n" not in str(error)


def test_the_tables_are_listed_with_windows_rows_and_bytes(platform: Platform) -> None:
    assert "the lake is empty" in platform.coin("lake", "tables").output
    two_windows(platform)
    platform.coin("lake", "backfill", *RANGE, *TICKERS)
    listed = platform.coin("lake", "tables", "--table", "ticker", "--exchange", "upbit").output
    size = sum(path.stat().st_size for path in platform.lake.glob("ticker/exchange=upbit/**/*.parquet"))
    rows = 2 * len(recorded("upbit", "ticker"))
    [cells] = lines(listed, "upbit")
    assert cells == ["ticker", "upbit", "2", "2026-11-02T03:00", "2026-11-02T03:01", str(rows), f"{size:,}"]


def test_gaps_are_listed_with_their_bounds_and_causes(platform: Platform) -> None:
    within = ("--from", "2026-11-02T03:00", "--to", "2026-11-02T03:02")
    asked = platform.coin("lake", "gaps", *within)
    assert asked.exit_code == 1
    tickers = recorded("upbit", "ticker")
    platform.log("upbit", Channel.TICKER, tickers[:1], first=1)
    platform.time += SECOND
    platform.log("upbit", Channel.TICKER, tickers[1:2], first=9)
    assert platform.coin("lake", "backfill", *RANGE, "--exchange", "upbit").exit_code == 0
    listed = platform.coin("lake", "gaps", *within).output
    [cells] = lines(listed, "upbit")
    assert cells[:3] == ["upbit", "ticker", "all"]
    assert cells[3:8] == ["2026-11-02 02:59:59.999", "03:00:01.009", "1.0", "lost_frames", ""]
    [row] = map(json.loads, platform.coin("lake", "gaps", *within, "--json").output.splitlines())
    assert (row["exchange"], row["from"], row["reason"]) == (
        *("upbit", "2026-11-02 02:59:59.999995+00:00"),
        "7 frames of ticker-0 never reached the log",
    )
    assert "no gap from 2026-11-02T03:00" in platform.coin("lake", "gaps", *within, "--channel", "trade").output


def test_neighbouring_windows_are_written_as_one_range() -> None:
    later = Window(THEN.stop + MINUTE, THEN.stop + 2 * MINUTE)
    assert joined_ranges([FIRST, THEN, later]) == [
        "2026-11-02T03:00 to 2026-11-02T03:02",
        "2026-11-02T03:03 to 2026-11-02T03:04",
    ]
