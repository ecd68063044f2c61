"""Print rows: as a table for people, or with `--json` as one JSON object a line for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coin_platform.foreign import one_line

_PIPE_CHARACTERS = 1000  # width of a table that does not go to a terminal: no cell is cut
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
Row: TypeAlias = Mapping[str, Any]


def plain(value: Any) -> str:
    """Write a value as a cell: None as nothing, whole numbers with commas, a list with a line for each value."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return "\n".join(map(plain, value))
    return one_line(str(value))


class Column(NamedTuple):
    """A column of a table. `key` names the value in a row and in the JSON object."""

    key: str
    title: str = ""  # default: the key, with spaces
    write: Callable[[Any], str] = plain
    is_number: bool = False  # numbers stand at the right


def print_rows(columns: Sequence[Column], rows: Iterable[Row], *, as_json: bool, nothing: str) -> None:
    """Print rows as JSON with all their values, or as a table of `columns`. `nothing` is printed instead of no rows."""
    if as_json:
        print_json(rows)
        return
    all_rows = list(rows)
    console().print(table(columns, all_rows) if all_rows else Text(nothing))


def print_json(rows: Iterable[Row]) -> None:
    """Print one JSON object a line."""
    for row in rows:
        print(json.dumps(row, default=str, ensure_ascii=False), flush=True)


def table(columns: Sequence[Column], rows: Iterable[Row]) -> Table:
    """Return a table. Its cells are shown as they are: no markup is read from them, and no line is forged by them."""
    shown = Table()
    for column in columns:
        title = column.title or column.key.replace("_", " ")
        shown.add_column(title, justify="right" if column.is_number else "left", overflow="fold")
    for row in rows:
        cells = (column.write(row.get(column.key)) for column in columns)
        shown.add_row(*(Text("\n".join(map(one_line, cell.split("\n")))) for cell in cells))
    return shown


def console() -> Console:
    """Return a console on stdout. In a pipe a table is as wide as its rows."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_CHARACTERS)
