"""`coin dead-letters`: list frames that could not be decoded, and try them again with the current code."""

import heapq
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
import typer

from coin_platform.commands.arguments import chosen_exchanges
from coin_platform.commands.output import Column, JsonOption, print_json, print_rows
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


_COUNTS = (
    *(Column("exchange"), Column("channel"), Column("reason"), Column("letters", is_number=True)),
    *(Column("newest", "newest raw offset"), Column("code")),
)
_RESULTS = (
    *(Column("exchange"), Column("channel")),
    *(Column("pass_now", is_number=True), Column("still_dead", is_number=True)),
)


@app.command("list", epilog="Example: coin dead-letters list --exchange okx")
def list_letters(exchange: ExchangeOption = None, everything: AllOption = False, as_json: JsonOption = False) -> None:
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
    rows = [
        {
            "exchange": group[0],
            "channel": group[1],
            "reason": group[2],
            "letters": count,
            "newest": f"{newest[group].topic}[{newest[group].partition}] {newest[group].offset}",
            "code": newest[group].code,
        }
        for group, count in sorted(counts.items())
    ]
    print_rows(_COUNTS, rows, as_json=as_json, nothing="no dead letters")


@app.command(epilog="Example: coin dead-letters show --exchange upbit --limit 3")
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
    print_json(
        {**msgspec.to_builtins(letter), "text": letter.payload.decode(errors="backslashreplace")}
        for letter in reversed(newest)
    )


@app.command(epilog="Example: coin dead-letters redrive --exchange upbit")
def redrive(exchange: ExchangeOption = None, as_json: JsonOption = False) -> None:
    """Decode the dead letters again with the current code.

    Frames that pass become processed records with the mark `redriven`.
    """
    from coin_platform.broker import connect
    from coin_platform.preprocess.redrive import request

    rows = []
    with closing(connect(load())) as broker:
        for source in _sources(exchange):
            passed, dead = request(source, broker)
            if passed or dead:
                names = {"exchange": source.exchange.name, "channel": source.channel.value}
                rows.append({**names, "pass_now": passed, "still_dead": dead})
    print_rows(_RESULTS, rows, as_json=as_json, nothing="no dead letters to try again")


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
