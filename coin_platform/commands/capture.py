"""`coin capture`: what an exchange said, from the raw topics into files that can be decoded and replayed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coin_platform.clock import wall
from coin_platform.commands.arguments import duration, exchanges_named, stretch, text
from coin_platform.errors import BadArgument, DecodeError, RetentionLoss, SettingsError
from coin_platform.model import Window
from coin_platform.settings import load

if TYPE_CHECKING:  # polars costs time, which other commands need not wait for
    from coin_platform.broker import Broker
    from coin_platform.exchanges.base import Source
    from coin_platform.lake import Lake
    from coin_platform.records import Record


def capture(
    exchange: Annotated[list[str], typer.Option(help="may be repeated")],
    out: Annotated[Path, typer.Option(help="folder for <exchange>/<channel>.jsonl")],
    start: Annotated[str | None, typer.Option("--from", help="when the log took the first, UTC")] = None,
    end: Annotated[str | None, typer.Option("--to", help="until when; default: now")] = None,
    last: Annotated[str | None, typer.Option(help="instead of --from: 90s, 15m, 1h, 2d before the end")] = None,
) -> None:
    """Record the frames of a stretch of time, one file a channel, one JSON object a line.

    They come from the raw topics or, once these have forgotten them, from the raw tables. `coin decode`, `coin book`
    and `coin replay` read the files. A payload is the exact text; bytes that are no UTF-8 are in `payload_base64`.
    """
    from coin_platform.broker import connect
    from coin_platform.lake import open_lake
    from coin_platform.selection import sources

    settings = load()
    asked = _asked(start, end, last)
    found = [source for kind in exchanges_named(exchange) for source in sources(kind, settings)]
    files = {source: out / source.exchange.name / f"{source.channel}.jsonl" for source in found}
    for file in files.values():
        if file.exists():
            raise SettingsError(f"--out {out}: {file} is there already; choose another folder, or move it away")
    broker, lake = connect(settings), open_lake(settings)
    try:
        for source, file in files.items():
            frames, others = write(source, logged(source, asked, broker, lake), file)
            left_out = f"; {others} records without a header of ours left out" if others else ""
            typer.echo(f"{file}: {frames} frames{left_out}")
    finally:
        broker.close()


def logged(source: "Source", asked: Window, broker: "Broker", lake: "Lake") -> "Iterator[Record]":
    """Yield the records that the log took in a stretch of time: trimmed ones, and those of a lost log, from raw tables.

    Raises `RetentionLoss` where neither has them.
    """
    topic, partition = source.topic, source.partition
    begin = broker.begin_offset(topic, partition)
    first = broker.offset_for_time(topic, partition, asked.start)
    if first == begin > 0:
        oldest = next(broker.read(topic, partition, begin, begin + 1), None)
        until = min(asked.stop, oldest.time + 1) if oldest else asked.stop
        yield from _trimmed(source, Window(asked.start, until), lake, begin)
    elif first == begin:
        yield from _of_former_logs(source, asked, broker, lake)
    yield from broker.read(topic, partition, first, broker.offset_for_time(topic, partition, asked.stop))


def _of_former_logs(source: "Source", asked: Window, broker: "Broker", lake: "Lake") -> "Iterator[Record]":
    """Yield the stored records of a stretch of time that the topic held before it began anew."""
    from coin_platform.orchestration.offsets import raw_facts
    from coin_platform.tables.dataframes import records

    table, name = f"raw_{source.channel}", source.exchange.name
    for window in lake.windows(table, name, asked.start, asked.stop):
        facts, rows = raw_facts(lake, source, window), lake.read(table, name, window)
        if facts is None or rows is None or facts.is_of(broker, source):
            continue
        yield from (record for record in records(rows) if asked.start <= record.time < asked.stop)


def _trimmed(source: "Source", asked: Window, lake: "Lake", before: int) -> "Iterator[Record]":
    """Yield the records of a stretch of time from the raw tables, up to an offset."""
    from coin_platform.tables.dataframes import records

    table, name, length = f"raw_{source.channel}", source.exchange.name, lake.window
    for start in range(asked.start // length * length, asked.stop, length):
        rows = lake.read(table, name, Window(start, start + length))
        if rows is None:
            raise RetentionLoss(
                f"{source.topic}[{source.partition}]: the topic begins with offset {before}, and {table} of {name} "
                f"has no window {text(start)}; ask for a later --from, or for another exchange"
            )
        for record in records(rows):
            if asked.start <= record.time < asked.stop and record.offset < before:
                yield record


def write(source: "Source", records: "Iterator[Record]", file: Path) -> tuple[int, int]:
    """Write a recording, whole or not at all; return how many frames it has and how many records had no header of ours.

    Our own records between the frames are left out.
    """
    from coin_platform.records import unpack
    from coin_platform.simulator.recordings import line

    frames = others = 0
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as lines:
            for record in records:
                try:
                    header = unpack(record.header)
                except DecodeError:
                    others += 1
                    continue
                if header.kind.is_frame:
                    lines.write(line(source, record, header) + "\n")
                    frames += 1
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return frames, others


def _asked(start: str | None, end: str | None, last: str | None) -> Window:
    if (start is None) == (last is None):
        raise BadArgument("write either --from 2026-11-24T03:00 or --last 1h")
    if start is not None:
        return stretch(start, end)
    assert last is not None
    stop = wall() if end is None else stretch("1970-01-01", end).stop
    return Window(stop - duration("--last", last), stop)
