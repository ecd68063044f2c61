"""`coin lake`: list what the lake holds, and make windows again."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeAlias

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coin_platform.clock import wall
from coin_platform.commands.arguments import (
    chosen_exchanges,
    chosen_names,
    parse_range,
    parse_time,
    parse_windows,
)
from coin_platform.commands.backfill_report import BackfillReport, progress
from coin_platform.foreign import one_line
from coin_platform.model import SECOND, Channel
from coin_platform.runtime.logs import set_up
from coin_platform.settings import Settings, load
from coin_platform.times import datetime_of, microseconds_of, minute_text

if TYPE_CHECKING:  # importing dagster and polars takes seconds, and other commands do not need them
    import dagster as dg

    from coin_platform.lake.lake import StoredSize
    from coin_platform.orchestration.backfill import BackfillPlan, TableReport

DAY = 86_400 * SECOND
INTERRUPTED = 130  # exit code: as a shell reports Ctrl-C
PIPE_WIDTH = 160  # characters of a table that does not go to a terminal

ExchangeOption: TypeAlias = Annotated[list[str] | None, typer.Option(help="only this exchange; may be repeated")]

app = typer.Typer(no_args_is_help=True, help="List what the lake holds, and make windows again.")


@app.command("tables")
def list_tables(
    table: Annotated[list[str] | None, typer.Option(help="only this table; may be repeated")] = None,
    exchange: ExchangeOption = None,
) -> None:
    """List the tables of the lake: exchanges, windows, rows and bytes."""
    from coin_platform.lake import open_lake
    from coin_platform.tables.schema import TABLES

    exchange_names = {adapter.name for adapter in chosen_exchanges(exchange)} if exchange else set()
    lake = open_lake(load())
    shown = Table("table", "exchange", "windows", "first", "last", "rows", "bytes")
    for column in shown.columns[2:]:
        column.justify = "right"
    for name in chosen_names("--table", table, TABLES):
        objects = (
            content for content in lake.contents(name) if not exchange_names or content.exchange in exchange_names
        )
        for part in _by_exchange(objects):
            facts = (len(part), minute_text(part[0].window.start), minute_text(part[-1].window.start))
            sums = (sum(content.rows for content in part), sum(content.bytes for content in part))
            shown.add_row(name, part[0].exchange or "all", *map(str, facts), *(f"{total:,}" for total in sums))
    _console().print(shown if shown.rows else "the lake is empty; check COIN_LAKE_URL")


@app.command()
def gaps(
    start: Annotated[str | None, typer.Option("--from", help="UTC: 2026-11-24T03:00; default: a day ago")] = None,
    end: Annotated[str | None, typer.Option("--to", help="default: now")] = None,
    exchange: ExchangeOption = None,
    channel: Annotated[list[str] | None, typer.Option(help="only this channel; may be repeated")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """List the gaps: the times in which a feed lacks data, each with its cause."""
    import polars as pl

    from coin_platform.errors import LakeError
    from coin_platform.lake import open_lake
    from coin_platform.tables.gap_table import together

    asked = parse_range(start or minute_text(wall() - DAY), end)
    exchange_names = [adapter.name for adapter in chosen_exchanges(exchange)]
    channels = chosen_names("--channel", channel, [channel.value for channel in Channel])
    try:
        all_rows = open_lake(load()).scan(
            "gap", exchanges=exchange_names, start=datetime_of(asked.start), end=datetime_of(asked.stop)
        )
    except LakeError as error:
        print(f"no window of table gap: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    rows = all_rows.filter(pl.col("channel").is_in(channels)).collect()
    if as_json:
        for row in rows.iter_rows(named=True):
            print(json.dumps(row, default=str, ensure_ascii=False))
        return
    shown = Table("exchange", "channel", "pairs", "from", "to", "seconds", "cause", "filled by", "reason")
    shown.columns[5].justify = "right"
    for row in together(rows).iter_rows(named=True):
        length = ((row["to"] or datetime_of(asked.stop)) - row["from"]).total_seconds()
        ended = f"{row['to']:%H:%M:%S.%f}"[:-3] if row["to"] else "lasts"
        names = (row["exchange"], row["channel"], escape(one_line(row["pairs"])))
        why = (row["cause"], row["filled_by"] or "", escape(one_line(row["reason"])[:60]))
        shown.add_row(*names, f"{row['from']:%Y-%m-%d %H:%M:%S.%f}"[:-3], ended, f"{length:,.1f}", *why)
    _console().print(shown if shown.rows else f"no gap from {minute_text(asked.start)} to {minute_text(asked.stop)}")


@app.command()
def adopt(yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False) -> None:
    """Make this deployment the owner of the lake. Only the owner may write, so the former owner is refused.

    Stop the former owner first. Exit code 1: the adoption was not confirmed.
    """
    from coin_platform.lake import open_lake
    from coin_platform.lake.deployment import deployment_of

    settings = load()
    lake = open_lake(settings)
    owner, ours = lake.file.owner(), deployment_of(settings)
    if owner and owner.id == ours.id:
        print(f"the lake belongs to this deployment already: {owner}")
        return
    if owner is not None and not yes:
        print(f"The lake belongs to {owner}. That deployment will be refused from now on.")
        if typer.prompt(f"Type {owner.id} to adopt the lake", default="", show_default=False) != owner.id:
            print("not adopted: this is not the name of the owner", file=sys.stderr)
            raise typer.Exit(1)
    print(f"the lake belongs to {lake.file.adopt(owner)}")


@app.command()
def backfill(
    start: Annotated[str, typer.Option("--from", help="start of the first window, UTC: 2026-11-24T03:00")],
    end: Annotated[
        str | None, typer.Option("--to", help="end of the last window; default: the last that has ended")
    ] = None,
    exchange: ExchangeOption = None,
    table: Annotated[
        list[str] | None, typer.Option(help="only this table and the tables it is made of; may be repeated")
    ] = None,
    replace_smaller: Annotated[
        bool, typer.Option(help="let the records that topics hold now replace a stored raw window that has more")
    ] = False,
) -> None:
    """Make the tables of many windows in one process, for the first time or again.

    Frames come from the topics as long as these keep them, and then from the raw tables. The same input gives the
    same bytes. A table that changed gets a new generation. Dagster records the run if DAGSTER_HOME is set.
    Without --replace-smaller a stored raw window is never replaced by fewer records or by those of a new topic.

    Exit code 1: a window or its check "conservation" failed. Exit code 130: interrupted.
    """
    import dagster as dg

    from coin_platform.orchestration.backfill import BackfillPlan, table_names
    from coin_platform.orchestration.instance import open_instance

    settings = load()
    set_up(settings.log_level)
    adapters = chosen_exchanges(exchange, settings)
    windows = parse_windows(start, end, settings.window_length, microseconds_of(settings.start))
    names = chosen_names("--table", table, table_names(adapters, settings)) if table else []
    plan = BackfillPlan(adapters, windows, names)
    with open_instance() or dg.DagsterInstance.ephemeral() as instance:
        raise typer.Exit(_make([plan], instance, settings, replace_smaller=replace_smaller))


@app.command()
def retry(
    window: Annotated[
        list[str] | None, typer.Option(help="only this window, by its start in UTC: 2026-11-24T03:00; may be repeated")
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="list the windows, and try none")] = False,
) -> None:
    """List the windows that failed and are not made yet, and try them now, in this process.

    Dagster tries them again by itself, after growing delays, as long as the log has their records.

    Exit code 1: a window failed again. Exit code 130: interrupted.
    """
    from coin_platform.errors import SettingsError
    from coin_platform.orchestration.backfill import BackfillPlan
    from coin_platform.orchestration.failed_windows import failed_windows
    from coin_platform.orchestration.instance import open_instance
    from coin_platform.selection import exchanges_of

    settings = load()
    set_up(settings.log_level)
    asked = {parse_time("--window", start_text): start_text for start_text in window or ()}
    with open_instance(settings.home / "dagster_home") or _no_instance() as instance:
        failures = [
            failure for failure in failed_windows(instance, settings) if not asked or failure.window.start in asked
        ]
        for start, start_text in asked.items():
            if start not in {failure.window.start for failure in failures}:
                raise SettingsError(
                    f"--window {start_text}: this window did not fail; `coin lake backfill` makes any window"
                )
        shown = Table("window", "region", "attempts", "last attempt", "why it failed")
        for failure in failures:
            ended = f"{datetime_of(failure.ended):%Y-%m-%d %H:%M:%S}"
            window_text = minute_text(failure.window.start)
            shown.add_row(window_text, failure.region, str(failure.attempts), ended, escape(failure.reason))
        _console().print(shown if shown.rows else "no window failed that is not made yet")
        if only_list or not failures:
            return
        plans = [
            BackfillPlan(
                exchanges_of(region, settings), [failure.window for failure in failures if failure.region is region]
            )
            for region in dict.fromkeys(failure.region for failure in failures)
        ]
        raise typer.Exit(_make(plans, instance, settings))


def _no_instance() -> NoReturn:
    from coin_platform.errors import SettingsError

    raise SettingsError(
        "DAGSTER_HOME: it is not set, and COIN_HOME has no folder dagster_home, so no run is known; set DAGSTER_HOME"
    )


def _make(
    plans: "Sequence[BackfillPlan]",
    instance: "dg.DagsterInstance",
    settings: Settings,
    *,
    replace_smaller: bool = False,
) -> int:
    """Make windows and show their outcomes. Return the exit code."""
    import dagster as dg

    from coin_platform.orchestration.backfill import run_backfill
    from coin_platform.orchestration.resources import LakeFolder, Topics

    report, console, exit_code = BackfillReport(), _console(), 0
    lake = LakeFolder(replace_smaller=replace_smaller)
    with progress(sum(len(plan.windows) * len(plan.exchanges) for plan in plans)) as show:
        if instance.is_ephemeral:
            home = settings.home / "dagster_home"
            show(f"DAGSTER_HOME is not set, so Dagster's UI does not show this; for example DAGSTER_HOME={home}", 0)

        def show_made(reports: "list[TableReport]") -> None:
            for line in report.take(reports):
                show(line, 0)
            show("", 1)

        try:
            for plan in plans:
                run_backfill(plan, settings, Topics(), lake.open(), instance, show_made)
        except dg.DagsterExecutionInterruptedError:
            show("interrupted: the windows below are whole, the others were not made", 0)
            exit_code = INTERRUPTED
    for shown in report.tables():
        console.print(shown)
    return exit_code or int(report.failed > 0)


def _by_exchange(contents: "Iterable[StoredSize]") -> "Iterator[list[StoredSize]]":
    parts: dict[str | None, list[StoredSize]] = {}
    for content in contents:
        parts.setdefault(content.exchange, []).append(content)
    yield from parts.values()


def _console() -> Console:
    """Return a console on stdout."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
