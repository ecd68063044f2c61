"""Show the progress of a backfill, and add up the outcomes of its windows."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from coin_platform.model import Window
from coin_platform.times import minute_text

if TYPE_CHECKING:  # importing dagster and polars takes seconds, and other commands do not need them
    from coin_platform.orchestration.backfill import TableReport


class BackfillReport:
    """Adds up the outcomes of windows, by exchange."""

    def __init__(self) -> None:
        self.windows: dict[str, Counter[str]] = {}
        self.failed = 0
        self._without: dict[tuple[str, str], list[Window]] = {}  # by exchange and reason
        self._changed: dict[tuple[str, str], list[TableReport]] = {}  # by exchange and table

    def take(self, tables: "Sequence[TableReport]") -> Iterator[str]:
        """Count the tables of one window of one exchange. Yield a line for each failure."""
        from coin_platform.orchestration.backfill import TableOutcome

        outcomes = {table.outcome for table in tables}
        worst = next(outcome for outcome in TableOutcome if outcome in outcomes)
        first = tables[0]
        counts = self.windows.setdefault(first.exchange, Counter())
        counts.update(("windows", worst))
        self.failed += worst is TableOutcome.FAILED
        if worst in (TableOutcome.OPEN, TableOutcome.NOTHING):
            self._without.setdefault((first.exchange, worst), []).append(first.window)
        for table in tables:
            place = f"{table.exchange} {minute_text(table.window.start)} {table.table}".rstrip()
            if table.outcome is TableOutcome.REPLACED:
                self._changed.setdefault((table.exchange, table.table), []).append(table)
            if table.outcome is TableOutcome.FAILED:
                yield f"FAILED {place}: {table.remark}"
            for check in table.failed_checks:
                yield f"CHECK FAILED {place}: {check}"

    def tables(self) -> Iterator[Table | str]:
        """Yield what is printed at the end: windows without tables, changed tables, and the counts."""
        from coin_platform.orchestration.backfill import TableOutcome

        for (exchange, reason), windows in self._without.items():
            yield f"{exchange}: {reason}: {', '.join(joined_ranges(windows))}"
        if self._changed:
            yield self._changes()
        order = [TableOutcome.WRITTEN, TableOutcome.UNCHANGED, TableOutcome.REPLACED, TableOutcome.FAILED]
        shown = Table("exchange", "windows", *order)
        for exchange, counts in self.windows.items():
            shown.add_row(exchange, *(str(counts[name]) for name in ("windows", *order)))
        yield shown

    def _changes(self) -> Table:
        shown = Table("changed", "table", "windows", "rows before", "rows after", "where")
        for (exchange, name), tables in self._changed.items():
            before, after = sum(table.rows_before for table in tables), sum(table.rows for table in tables)
            ranges = ", ".join(joined_ranges([table.window for table in tables]))
            shown.add_row(exchange, name, str(len(tables)), f"{before:,}", f"{after:,}", ranges)
        return shown


def joined_ranges(windows: Iterable[Window]) -> list[str]:
    """Write windows, oldest first, as few ranges: `2026-11-24T03:00 to 2026-11-24T05:00`."""
    joined: list[Window] = []
    for window in windows:
        if joined and joined[-1].stop == window.start:
            joined[-1] = Window(joined[-1].start, window.stop)
        else:
            joined.append(window)
    return [f"{minute_text(window.start)} to {minute_text(window.stop)}" for window in joined]


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar, and yield a function that prints a line above the bar and advances the bar by some steps.

    The bar writes to a copy of stderr: while Dagster runs a step, stderr itself leads into a file.
    """
    with os.fdopen(os.dup(2), "w", encoding="utf-8") as stderr:
        console = Console(file=stderr, highlight=False)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("windows of exchanges"), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=total)

            def show(line: str, steps: int) -> None:
                if line:
                    bar.console.print(line, markup=False, soft_wrap=True)
                bar.advance(task, steps)

            yield show
