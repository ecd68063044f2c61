"""`coin dead-letters`: what could not be decoded, and trying it again with the code of now."""

import base64
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from coin_platform.commands.choice import exchanges_named
from coin_platform.settings import load

if TYPE_CHECKING:  # polars costs a second, which other commands need not wait for
    from coin_platform.broker import Broker
    from coin_platform.preprocess.dead_letters import DeadLetter
    from coin_platform.preprocess.transform import Source

app = typer.Typer(no_args_is_help=True, help="Frames that could not be decoded: list, show, try again.")
Exchanges = Annotated[list[str] | None, typer.Option("--exchange", help="only this exchange; may be repeated")]


@app.command("list")
def list_letters(exchange: Exchanges = None) -> None:
    """List the dead letters: how many of each kind, and the newest offset."""
    from coin_platform.broker import connect

    found: dict[tuple[str, str, str], list[DeadLetter]] = {}
    with closing(connect(load())) as broker:
        for source in _sources(exchange):
            for _, letter in _letters(broker, source):
                reason = f"{letter.error}: {letter.reason:.80}"
                found.setdefault((letter.exchange, letter.channel, reason), []).append(letter)
    table = Table("exchange", "channel", "reason", "letters", "newest raw offset", "code")
    for (name, channel, reason), letters in sorted(found.items()):
        newest = max(letters, key=lambda letter: letter.offset)
        table.add_row(name, channel, reason, str(len(letters)), f"{newest.topic}[{newest.offset}]", newest.code)
    Console().print(table if found else "no dead letters")


@app.command()
def show(exchange: Exchanges = None, limit: Annotated[int, typer.Option(min=1)] = 10) -> None:
    """Print the newest dead letters whole, one JSON object a line; `text` is the payload where it is text."""
    from coin_platform.broker import connect

    with closing(connect(load())) as broker:
        letters = [letter for source in _sources(exchange) for _, letter in _letters(broker, source)]
    for letter in sorted(letters, key=lambda letter: letter.time)[-limit:]:
        body = msgspec.to_builtins(letter)
        body["text"] = base64.b64decode(body["payload"]).decode(errors="backslashreplace")
        print(msgspec.json.encode(body).decode())


@app.command()
def redrive(exchange: Exchanges = None) -> None:
    """Send all dead letters through the code of now: what passes becomes processed records, marked `redriven`."""
    from coin_platform.broker import connect
    from coin_platform.preprocess.redrive import request

    table = Table("exchange", "channel", "pass now", "still dead")
    with closing(connect(load())) as broker:
        for source in _sources(exchange):
            result = request(source, broker)
            if any(result):
                table.add_row(source.exchange.name, source.channel.value, *map(str, result))
    Console().print(table if table.rows else "no dead letters to try again")


def _sources(names: list[str] | None) -> "list[Source]":
    from coin_platform.sources import sources

    return [source for kind in exchanges_named(names) for source in sources(kind, load())]


def _letters(broker: "Broker", source: "Source") -> "Iterator[tuple[int, DeadLetter]]":
    from coin_platform.preprocess.dead_letters import unpack
    from coin_platform.wire import dead_letter_topic

    topic, partition = dead_letter_topic(source.topic), source.partition
    begin, end = broker.begin_offset(topic, partition), broker.end_offset(topic, partition)
    for record in broker.read(topic, partition, begin, end):
        yield record.offset, unpack(record.value)
