"""`coin dead-letters`: list frames that could not be decoded, and try them again with the current code."""

import heapq
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coin_platform.commands.arguments import chosen_exchanges
from coin_platform.foreign import one_line
from coin_platform.settings import load

if TYPE_CHECKING:  # importing polars takes a second, and other commands do not need it
    from coin_platform.broker import Broker
    from coin_platform.exchanges.base import Source
    from coin_platform.tables.dead_letters import DeadLetter

app = typer.Typer(no_args_is_help=True, help="Frames that could not be decoded: list, show, try again.")
ExchangeOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--exchange", help="only this exchange; may be repeated")
]
LimitOption: TypeAlias = Annotated[int, typer.Option(min=1, help="at most this many letters")]
AllOption: TypeAlias = Annotated[bool, typer.Option("--all", help="also letters that were tried again already")]


@app.command("list")
def list_letters(exchange: ExchangeOption = None, everything: AllOption = False) -> None:
    """List the frames that still cannot be decoded, counted by exchange, channel and reason.

    Columns: the number of letters, the newest raw offset, and the version of the code that failed.
    """
    from coin_platform.broker import connect

    counts: Counter[tuple[str, str, str]] = Counter()
    newest: dict[tuple[str, str, str], DeadLetter] = {}
    with closing(connect(load())) as broker:
        for source in _sources(exchange):
            for letter in _letters(broker, source, everything=everything):
                group = (letter.exchange, letter.channel, f"{letter.error}: {letter.reason:.80}")
                counts[group] += 1
                newest[group] = msgspec.structs.replace(letter, payload=b"")  # a payload can have megabytes
    table = Table("exchange", "channel", "reason", "letters", "newest raw offset", "code")
    for (name, channel, reason), count in sorted(counts.items()):
        letter = newest[name, channel, reason]
        place = f"{letter.topic}[{letter.partition}] {letter.offset}"
        table.add_row(name, channel, Text(one_line(reason)), str(count), place, Text(one_line(letter.code)))
    _print(table, "no dead letters")


@app.command()
def show(exchange: ExchangeOption = None, everything: AllOption = False, limit: LimitOption = 10) -> None:
    """Print the newest dead letters, one JSON object a line.

    `payload` is the exact frame in Base64. `text` is the frame as text, with escapes for bytes that are not UTF-8.
    """
    from coin_platform.broker import connect

    with closing(connect(load())) as broker:
        letters = (
            letter for source in _sources(exchange) for letter in _letters(broker, source, everything=everything)
        )
        newest = heapq.nlargest(limit, letters, key=lambda letter: letter.time)
    for letter in reversed(newest):
        body = msgspec.to_builtins(letter)
        body["text"] = letter.payload.decode(errors="backslashreplace")
        print(json.dumps(body))


@app.command()
def redrive(exchange: ExchangeOption = None) -> None:
    """Decode the dead letters again with the current code.

    Frames that pass become processed records with the mark `redriven`.
    """
    from coin_platform.broker import connect
    from coin_platform.preprocess.redrive import request

    table = Table("exchange", "channel", "pass now", "still dead")
    with closing(connect(load())) as broker:
        for source in _sources(exchange):
            result = request(source, broker)
            if any(result):
                table.add_row(source.exchange.name, source.channel.value, *map(str, result))
    _print(table, "no dead letters to try again")


def _print(table: Table, nothing: str) -> None:
    """Print a table, or `nothing` if it has no rows. A table in a pipe is as wide as its rows."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    console.print(table if table.rows else nothing)


def _sources(names: list[str] | None) -> "list[Source]":
    from coin_platform.selection import sources

    return [source for adapter in chosen_exchanges(names) for source in sources(adapter, load())]


def _letters(broker: "Broker", source: "Source", *, everything: bool) -> "Iterator[DeadLetter]":
    from coin_platform.preprocess.redrive import tried
    from coin_platform.tables.dead_letters import LetterReader
    from coin_platform.topic_names import dead_letter_topic

    topic, partition = dead_letter_topic(source.topic), source.partition
    begin = broker.begin_offset(topic, partition) if everything else tried(source, broker)
    records = broker.read(topic, partition, begin, broker.end_offset(topic, partition))
    letters = LetterReader(records, f"{topic}[{partition}]")
    yield from letters
    if letters.remark:
        print(letters.remark, file=sys.stderr)
