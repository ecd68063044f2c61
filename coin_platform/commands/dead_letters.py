"""`coin dead-letters`: what could not be decoded, and trying it again with the code of now."""

import heapq
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coin_platform.commands.arguments import exchanges_named
from coin_platform.foreign import one_line
from coin_platform.settings import load

if TYPE_CHECKING:  # polars costs a second, which other commands need not wait for
    from coin_platform.broker import Broker
    from coin_platform.exchanges.base import Source
    from coin_platform.tables.dead_letters import DeadLetter

app = typer.Typer(no_args_is_help=True, help="Frames that could not be decoded: list, show, try again.")
Exchanges = Annotated[list[str] | None, typer.Option("--exchange", help="only this exchange; may be repeated")]
All = Annotated[bool, typer.Option("--all", help="also those that were tried again since")]


@app.command("list")
def list_letters(exchange: Exchanges = None, everything: All = False) -> None:
    """List the frames that are still dead: how many for each reason, the newest raw offset, the code that failed."""
    from coin_platform.broker import connect

    counts: Counter[tuple[str, str, str]] = Counter()
    newest: dict[tuple[str, str, str], DeadLetter] = {}
    with closing(connect(load())) as broker:
        for source in _sources(exchange):
            for letter in _letters(broker, source, everything=everything):
                kind = (letter.exchange, letter.channel, f"{letter.error}: {letter.reason:.80}")
                counts[kind] += 1
                newest[kind] = msgspec.structs.replace(letter, payload=b"")  # they can have megabytes
    table = Table("exchange", "channel", "reason", "letters", "newest raw offset", "code")
    for (name, channel, reason), count in sorted(counts.items()):
        letter = newest[name, channel, reason]
        place = f"{letter.topic}[{letter.partition}] {letter.offset}"
        table.add_row(name, channel, Text(one_line(reason)), str(count), place, Text(one_line(letter.code)))
    _print(table, "no dead letters")


@app.command()
def show(exchange: Exchanges = None, everything: All = False, limit: Annotated[int, typer.Option(min=1)] = 10) -> None:
    """Print the newest dead letters whole, one JSON object a line; `text` is the payload where it is text."""
    from coin_platform.broker import connect

    with closing(connect(load())) as broker:
        found = (letter for source in _sources(exchange) for letter in _letters(broker, source, everything=everything))
        newest = heapq.nlargest(limit, found, key=lambda letter: letter.time)
    for letter in reversed(newest):
        body = msgspec.to_builtins(letter)
        body["text"] = letter.payload.decode(errors="backslashreplace")
        print(json.dumps(body))


@app.command()
def redrive(exchange: Exchanges = None) -> None:
    """Send what is still dead through the code of now: what passes becomes processed records, marked `redriven`."""
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
    """Print a table; in a pipe as wide as it needs."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    console.print(table if table.rows else nothing)


def _sources(names: list[str] | None) -> "list[Source]":
    from coin_platform.selection import sources

    return [source for kind in exchanges_named(names) for source in sources(kind, load())]


def _letters(broker: "Broker", source: "Source", *, everything: bool) -> "Iterator[DeadLetter]":
    from coin_platform.preprocess.redrive import tried
    from coin_platform.tables.dead_letters import Letters
    from coin_platform.topic_names import dead_letter_topic

    topic, partition = dead_letter_topic(source.topic), source.partition
    begin = broker.begin_offset(topic, partition) if everything else tried(source, broker)
    records = broker.read(topic, partition, begin, broker.end_offset(topic, partition))
    letters = Letters(records, f"{topic}[{partition}]")
    yield from letters
    if letters.remark:
        print(letters.remark, file=sys.stderr)
