"""`coin lake`: what the lake holds, and how windows are made again."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from coin_platform.clock import wall
from coin_platform.commands.arguments import chosen, exchanges_named, moment, moment_of, stretch, text, whole_windows
from coin_platform.foreign import one_line
from coin_platform.model import SECOND, Channel, Window
from coin_platform.runtime.logs import set_up
from coin_platform.settings import Settings, load

if TYPE_CHECKING:  # dagster and polars cost seconds, which other commands need not wait for
    import dagster as dg

    from coin_platform.lake.lake import StoredSize
    from coin_platform.orchestration.backfill import Made, Work

DAY = 86_400 * SECOND

app = typer.Typer(no_args_is_help=True, help="Tables in the lake: what is there, and windows made again.")


@app.command("tables")
def list_tables(
    table: Annotated[list[str] | None, typer.Option(help="only this table; may be repeated")] = None,
    exchange: Annotated[list[str] | None, typer.Option(help="only this exchange; may be repeated")] = None,
) -> None:
    """List the tables of the lake: exchanges, windows, rows and bytes."""
    from coin_platform.lake import open_lake
    from coin_platform.tables.schema import TABLES

    names = {kind.name for kind in exchanges_named(exchange)} if exchange else set()
    lake = open_lake(load())
    shown = Table("table", "exchange", "windows", "first", "last", "rows", "bytes")
    for column in shown.columns[2:]:
        column.justify = "right"
    for name in chosen("--table", table, TABLES):
        for part in _by_exchange(one for one in lake.contents(name) if not names or one.exchange in names):
            facts = (len(part), text(part[0].window.start), text(part[-1].window.start))
            sums = (sum(one.rows for one in part), sum(one.bytes for one in part))
            shown.add_row(name, part[0].exchange or "all", *map(str, facts), *(f"{total:,}" for total in sums))
    _console().print(shown if shown.rows else "the lake is empty; is COIN_LAKE_URL the right place?")


@app.command()
def gaps(
    start: Annotated[str | None, typer.Option("--from", help="UTC: 2026-11-24T03:00; default: a day ago")] = None,
    end: Annotated[str | None, typer.Option("--to", help="default: now")] = None,
    exchange: Annotated[list[str] | None, typer.Option(help="only this exchange; may be repeated")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="only this channel; may be repeated")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """List what is missing: the stretches of time of which the feeds are known to lack something, and why."""
    import polars as pl

    from coin_platform.errors import LakeError
    from coin_platform.lake import open_lake
    from coin_platform.tables.gap_table import together

    wanted = stretch(start or text(wall() - DAY), end)
    kinds = [kind.name for kind in exchanges_named(exchange)]
    channels = chosen("--channel", channel, [each.value for each in Channel])
    try:
        found = open_lake(load()).scan(
            "gap", exchanges=kinds, start=moment_of(wanted.start), end=moment_of(wanted.stop)
        )
    except LakeError as error:
        print(f"no window of table gap: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    rows = found.filter(pl.col("channel").is_in(channels)).collect()
    if as_json:
        for row in rows.iter_rows(named=True):
            print(json.dumps(row, default=str, ensure_ascii=False))
        return
    shown = Table("exchange", "channel", "pairs", "from", "to", "seconds", "cause", "filled by", "reason")
    shown.columns[5].justify = "right"
    for row in together(rows).iter_rows(named=True):
        length = ((row["to"] or moment_of(wanted.stop)) - row["from"]).total_seconds()
        ended = f"{row['to']:%H:%M:%S.%f}"[:-3] if row["to"] else "lasts"
        names = (row["exchange"], row["channel"], escape(one_line(row["pairs"])))
        why = (row["cause"], row["filled_by"] or "", escape(one_line(row["reason"])[:60]))
        shown.add_row(*names, f"{row['from']:%Y-%m-%d %H:%M:%S.%f}"[:-3], ended, f"{length:,.1f}", *why)
    _console().print(shown if shown.rows else f"no gap from {text(wanted.start)} to {text(wanted.stop)}")


@app.command()
def adopt(yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False) -> None:
    """Make this deployment the owner of the lake: the one that may write it. The former owner is refused then.

    Stop the former owner before, unless it is gone. Exit code 1: it was not confirmed.
    """
    from coin_platform.lake import open_lake
    from coin_platform.lake.deployment import deployment_of

    settings = load()
    lake = open_lake(settings)
    former, ours = lake.file.owner(), deployment_of(settings)
    if former and former.id == ours.id:
        print(f"the lake belongs to this deployment already: {former}")
        return
    if former is not None and not yes:
        print(f"The lake belongs to {former}. It will be refused from now on.")
        if typer.prompt(f"Type {former.id} to adopt it", default="", show_default=False) != former.id:
            print("not adopted: that is not its name", file=sys.stderr)
            raise typer.Exit(1)
    print(f"the lake belongs to {lake.file.adopt(former)}")


@app.command()
def backfill(
    start: Annotated[str, typer.Option("--from", help="start of the first window, UTC: 2026-11-24T03:00")],
    end: Annotated[str | None, typer.Option("--to", help="end of the last window; default: of the last one")] = None,
    exchange: Annotated[list[str] | None, typer.Option(help="only this exchange; may be repeated")] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="only this table and what it is made of; may be repeated")
    ] = None,
    replace_smaller: Annotated[
        bool, typer.Option(help="replace stored raw windows also by fewer records: by what the topics hold now")
    ] = False,
) -> None:
    """Make the tables of many windows, again or for the first time, in one process.

    Frames come from the topics while these keep them, then from the raw tables: the same input gives the same bytes.
    What changed gets a new generation. With DAGSTER_HOME set, all is recorded there. A stored raw window is never
    replaced by fewer records, nor by those of a topic that began anew, unless with --replace-smaller.

    Exit code 1: a window or its check "conservation" failed; 130: interrupted.
    """
    import dagster as dg

    from coin_platform.orchestration.backfill import Work, open_instance, table_names

    settings = load()
    set_up(settings.log_level)
    kinds = exchanges_named(exchange, settings)
    windows = whole_windows(start, end, settings.window_length, int(settings.start.timestamp()) * SECOND)
    names = chosen("--table", table, table_names(kinds, settings)) if table else []
    work = Work(kinds, windows, names)
    with open_instance() or dg.DagsterInstance.ephemeral() as instance:
        raise typer.Exit(_make([work], instance, settings, replace_smaller=replace_smaller))


@app.command()
def retry(
    window: Annotated[
        list[str] | None, typer.Option(help="only this one, UTC: 2026-11-24T03:00; may be repeated")
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="only list them")] = False,
) -> None:
    """List the windows that failed and were not made since, and try them now, in this process.

    Dagster tries them again by itself, after longer and longer waits, as long as the log has their records.

    Exit code 1: a window failed again; 130: interrupted.
    """
    from coin_platform.errors import SettingsError
    from coin_platform.orchestration.backfill import Work, open_instance
    from coin_platform.orchestration.failed_windows import failed_windows
    from coin_platform.selection import exchanges_of

    settings = load()
    set_up(settings.log_level)
    starts = {moment("--window", written): written for written in window or ()}
    with open_instance(settings.home / "dagster_home") or _no_instance() as instance:
        failed = [each for each in failed_windows(instance, settings) if not starts or each.window.start in starts]
        for start, written in starts.items():
            if start not in {each.window.start for each in failed}:
                raise SettingsError(f"--window {written}: no such window failed; `coin lake backfill` makes any window")
        shown = Table("window", "region", "attempts", "last attempt", "why it failed")
        for each in failed:
            ended = f"{moment_of(each.ended):%Y-%m-%d %H:%M:%S}"
            shown.add_row(text(each.window.start), each.region, str(each.attempts), ended, escape(each.reason))
        _console().print(shown if shown.rows else "no window failed that was not made since")
        if only_list or not failed:
            return
        works = [
            Work(exchanges_of(region, settings), [each.window for each in failed if each.region is region])
            for region in dict.fromkeys(each.region for each in failed)
        ]
        raise typer.Exit(_make(works, instance, settings))


def _no_instance() -> NoReturn:
    from coin_platform.errors import SettingsError

    raise SettingsError("DAGSTER_HOME: it is not set, and COIN_HOME has no dagster_home; nothing is known of any run")


def _make(
    works: "Sequence[Work]", instance: "dg.DagsterInstance", settings: Settings, *, replace_smaller: bool = False
) -> int:
    """Make windows and show what became of them; return the exit code."""
    import dagster as dg

    from coin_platform.orchestration.backfill import run
    from coin_platform.orchestration.resources import LakeFolder, Topics

    report, console, code = Report(), _console(), 0
    lake = LakeFolder(replace_smaller=replace_smaller)
    with _progress(sum(len(work.windows) * len(work.exchanges) for work in works)) as show:
        if instance.is_ephemeral:
            home = settings.home / "dagster_home"
            show(f"DAGSTER_HOME is not set: the UI will not know of this; for example DAGSTER_HOME={home}", 0)

        def tell(made: "list[Made]") -> None:
            for line in report.take(made):
                show(line, 0)
            show("", 1)

        try:
            for work in works:
                run(work, settings, Topics(), lake.open(), instance, tell)
        except dg.DagsterExecutionInterruptedError:
            show("interrupted: what follows is whole, the rest was not made", 0)
            code = 130
    for shown in report.tables():
        console.print(shown)
    return code or int(report.failed > 0)


class Report:
    """Adds up what became of the windows."""

    def __init__(self) -> None:
        self.windows: dict[str, Counter[str]] = {}
        self.failed = 0
        self._without: dict[tuple[str, str], list[Window]] = {}  # by exchange and reason
        self._changed: dict[tuple[str, str], list[Made]] = {}

    def take(self, made: "Sequence[Made]") -> Iterator[str]:
        """Count one window of one exchange; yield a line for each thing that somebody should know now."""
        from coin_platform.orchestration.backfill import Outcome

        outcomes = {one.outcome for one in made}
        worst = next(outcome for outcome in Outcome if outcome in outcomes)
        first = made[0]
        counts = self.windows.setdefault(first.exchange, Counter())
        counts.update(("windows", worst))
        self.failed += worst is Outcome.FAILED
        if worst in (Outcome.OPEN, Outcome.NOTHING):
            self._without.setdefault((first.exchange, worst), []).append(first.window)
        for one in made:
            place = f"{one.exchange} {text(one.window.start)} {one.table}".rstrip()
            if one.outcome is Outcome.REPLACED:
                self._changed.setdefault((one.exchange, one.table), []).append(one)
            if one.outcome is Outcome.FAILED:
                yield f"FAILED {place}: {one.remark}"
            for check in one.failed_checks:
                yield f"CHECK FAILED {place}: {check}"

    def tables(self) -> Iterator[Table | str]:
        """Yield what is shown at the end."""
        from coin_platform.orchestration.backfill import Outcome

        for (exchange, why), windows in self._without.items():
            yield f"{exchange}: {why}: {', '.join(stretches(windows))}"
        if self._changed:
            yield self._changes()
        order = [Outcome.WRITTEN, Outcome.UNCHANGED, Outcome.REPLACED, Outcome.FAILED]
        shown = Table("exchange", "windows", *order)
        for exchange, counts in self.windows.items():
            shown.add_row(exchange, *(str(counts[name]) for name in ("windows", *order)))
        yield shown

    def _changes(self) -> Table:
        shown = Table("changed", "table", "windows", "rows before", "rows after", "where")
        for (exchange, table), made in self._changed.items():
            before, after = sum(one.rows_before for one in made), sum(one.rows for one in made)
            where = ", ".join(stretches([one.window for one in made]))
            shown.add_row(exchange, table, str(len(made)), f"{before:,}", f"{after:,}", where)
        return shown


def stretches(windows: Iterable[Window]) -> list[str]:
    """Write windows, oldest first, as few stretches: `2026-11-24T03:00 to 2026-11-24T05:00`."""
    joined: list[Window] = []
    for window in windows:
        if joined and joined[-1].stop == window.start:
            joined[-1] = Window(joined[-1].start, window.stop)
        else:
            joined.append(window)
    return [f"{text(window.start)} to {text(window.stop)}" for window in joined]


def _by_exchange(contents: "Iterable[StoredSize]") -> "Iterator[list[StoredSize]]":
    parts: dict[str | None, list[StoredSize]] = {}
    for one in contents:
        parts.setdefault(one.exchange, []).append(one)
    yield from parts.values()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar; what is yielded prints a line above it and moves it on.

    It has a copy of stderr: while Dagster runs a step, the first one leads into a file.
    """
    with os.fdopen(os.dup(2), "w", encoding="utf-8") as stderr:
        console = Console(file=stderr, highlight=False)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("windows of exchanges"), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=total)

            def show(line: str, steps: int) -> None:
                if line:
                    progress.console.print(line, markup=False, soft_wrap=True)
                progress.advance(task, steps)

            yield show


def _console() -> Console:
    """Return a console on stdout; what is not a terminal is wide enough for every table."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
