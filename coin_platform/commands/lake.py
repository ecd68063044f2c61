"""`coin lake`: list what the lake holds, and make windows again."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeAlias

import typer

from coin_platform.clock import wall
from coin_platform.commands.arguments import (
    chosen_exchanges,
    chosen_names,
    parse_range,
    parse_time,
    parse_windows,
)
from coin_platform.commands.backfill_report import BackfillReport, progress
from coin_platform.commands.output import Column, JsonOption, console, plain, print_json, print_rows
from coin_platform.errors import BadArgument
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

ExchangeOption: TypeAlias = Annotated[list[str] | None, typer.Option(help="only this exchange; may be repeated")]

app = typer.Typer(no_args_is_help=True, help="List what the lake holds, and make windows again.")

_TABLES = (
    *(Column("table"), Column("exchange", write=lambda name: name or "all"), Column("windows", is_number=True)),
    *(Column("first"), Column("last"), Column("rows", is_number=True), Column("bytes", is_number=True)),
)
_GAPS = (
    *(Column("exchange"), Column("channel"), Column("pairs")),
    Column("from", write=lambda time: f"{time:%Y-%m-%d %H:%M:%S.%f}"[:-3]),
    Column("to", write=lambda time: f"{time:%H:%M:%S.%f}"[:-3] if time else "lasts"),
    *(Column("seconds", is_number=True), Column("cause"), Column("filled_by")),
    Column("reason", write=lambda reason: plain(reason)[:60]),
)
_FAILURES = (
    *(Column("window"), Column("region"), Column("attempts", is_number=True)),
    *(Column("last_attempt"), Column("reason", "why it failed")),
)


@app.command("tables", epilog="Example: coin lake tables --table ticker --exchange upbit")
def list_tables(
    table: Annotated[list[str] | None, typer.Option(help="only this table; may be repeated")] = None,
    exchange: ExchangeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tables of the lake: exchanges, windows, rows and bytes."""
    from coin_platform.lake import open_lake
    from coin_platform.tables.schema import TABLES

    exchange_names = {adapter.name for adapter in chosen_exchanges(exchange)} if exchange else set()
    lake = open_lake(load())
    rows = []
    for name in chosen_names("--table", table, TABLES):
        objects = (
            content for content in lake.contents(name) if not exchange_names or content.exchange in exchange_names
        )
        for part in _by_exchange(objects):
            first, last = minute_text(part[0].window.start), minute_text(part[-1].window.start)
            names = {"table": name, "exchange": part[0].exchange, "windows": len(part), "first": first, "last": last}
            sums = {"rows": sum(content.rows for content in part), "bytes": sum(content.bytes for content in part)}
            rows.append({**names, **sums})
    print_rows(_TABLES, rows, as_json=as_json, nothing="the lake is empty; check COIN_LAKE_URL")


@app.command(epilog="Example: coin lake gaps --from 2026-11-24T03:00 --exchange upbit --channel orderbook")
def gaps(
    start: Annotated[str | None, typer.Option("--from", help="UTC: 2026-11-24T03:00; default: a day ago")] = None,
    end: Annotated[str | None, typer.Option("--to", help="default: now")] = None,
    exchange: ExchangeOption = None,
    channel: Annotated[list[str] | None, typer.Option(help="only this channel; may be repeated")] = None,
    as_json: JsonOption = False,
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
    nothing = f"no gap from {minute_text(asked.start)} to {minute_text(asked.stop)}"
    if as_json:
        print_json(rows.iter_rows(named=True))
        return
    now = datetime_of(asked.stop)
    shown = (
        {**row, "seconds": f"{((row['to'] or now) - row['from']).total_seconds():,.1f}"}
        for row in together(rows).iter_rows(named=True)
    )
    print_rows(_GAPS, shown, as_json=False, nothing=nothing)


@app.command(epilog="Example: coin lake adopt --yes")
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


@app.command(epilog="Example: coin lake backfill --from 2026-11-24T03:00 --to 2026-11-24T12:00 --exchange upbit")
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
    set_up(settings, "backfill")
    adapters = chosen_exchanges(exchange, settings)
    windows = parse_windows(start, end, settings.window_length, microseconds_of(settings.start))
    names = chosen_names("--table", table, table_names(adapters, settings)) if table else []
    plan = BackfillPlan(adapters, windows, names)
    with open_instance() or dg.DagsterInstance.ephemeral() as instance:
        raise typer.Exit(_make([plan], instance, settings, replace_smaller=replace_smaller))


@app.command(epilog="Example: coin lake retry --list")
def retry(
    window: Annotated[
        list[str] | None, typer.Option(help="only this window, by its start in UTC: 2026-11-24T03:00; may be repeated")
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="list the windows, and try none")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the windows that failed and are not made yet, and try them now, in this process.

    Dagster tries them again by itself, after growing delays, as long as the log has their records. --json needs --list.

    Exit code 1: a window failed again. Exit code 130: interrupted.
    """
    from coin_platform.errors import SettingsError
    from coin_platform.orchestration.backfill import BackfillPlan
    from coin_platform.orchestration.failed_windows import failed_windows
    from coin_platform.orchestration.instance import open_instance
    from coin_platform.selection import exchanges_of

    if as_json and not only_list:
        raise BadArgument("--json: windows are made without it; write --list --json")
    settings = load()
    set_up(settings, "retry")
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
        rows = [
            {
                "window": minute_text(failure.window.start),
                "region": failure.region,
                "attempts": failure.attempts,
                "last_attempt": f"{datetime_of(failure.ended):%Y-%m-%d %H:%M:%S}",
                "reason": failure.reason,
                "run_id": failure.run_id,
            }
            for failure in failures
        ]
        print_rows(_FAILURES, rows, as_json=as_json, nothing="no window failed that is not made yet")
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

    report, exit_code = BackfillReport(), 0
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
        console().print(shown)
    return exit_code or int(report.failed > 0)


def _by_exchange(contents: "Iterable[StoredSize]") -> "Iterator[list[StoredSize]]":
    parts: dict[str | None, list[StoredSize]] = {}
    for content in contents:
        parts.setdefault(content.exchange, []).append(content)
    yield from parts.values()
