"""`coin capture`: write the stored frames of an exchange into files that can be decoded and replayed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coin_platform.clock import wall
from coin_platform.commands.arguments import chosen_exchanges, parse_duration, parse_range, parse_time
from coin_platform.errors import BadArgument, DecodeError, RetentionLoss, SettingsError
from coin_platform.model import Window
from coin_platform.settings import load
from coin_platform.times import minute_text

if TYPE_CHECKING:  # importing polars takes a second, and other commands do not need it
    from coin_platform.broker import Broker
    from coin_platform.exchanges.base import Source
    from coin_platform.lake import Lake
    from coin_platform.records import Record


def capture(
    exchange: Annotated[list[str], typer.Option(help="capture this exchange; may be repeated")],
    out: Annotated[Path, typer.Option(help="folder for <exchange>/<channel>.jsonl")],
    start: Annotated[str | None, typer.Option("--from", help="start in log time, UTC: 2026-11-24T03:00")] = None,
    end: Annotated[str | None, typer.Option("--to", help="end in log time; default: now")] = None,
    last: Annotated[
        str | None, typer.Option(help="instead of --from: this long before the end; 90s, 15m, 1h, 2d")
    ] = None,
) -> None:
    """Write the frames of a range of time into files: one file for each channel, one JSON object a line.

    Frames come from the raw topics. Frames that a topic no longer has come from the raw tables.
    `payload` is the exact text of a frame; a frame that is not UTF-8 has `payload_base64` instead.
    `coin decode`, `coin book` and `coin replay` read the files.
    """
    from coin_platform.broker import connect
    from coin_platform.lake import open_lake
    from coin_platform.selection import sources

    settings = load()
    asked = _asked_range(start, end, last)
    chosen_sources = [source for adapter in chosen_exchanges(exchange) for source in sources(adapter, settings)]
    files = {source: out / source.exchange.name / f"{source.channel}.jsonl" for source in chosen_sources}
    for file in files.values():
        if file.exists():
            raise SettingsError(f"--out {out}: {file} exists already; choose another folder, or move the file away")
    broker, lake = connect(settings), open_lake(settings)
    try:
        for source, file in files.items():
            frames, foreign = write(source, logged(source, asked, broker, lake), file)
            left_out = f"; {foreign} records without a header of this program left out" if foreign else ""
            typer.echo(f"{file}: {frames} frames{left_out}")
    finally:
        broker.close()


def logged(source: "Source", asked: Window, broker: "Broker", lake: "Lake") -> "Iterator[Record]":
    """Yield the records of a range of log time.

    Records that the topic has trimmed, and records of a log that was lost, come from the raw tables.

    Raises `RetentionLoss` if neither the topic nor the raw tables have the records.
    """
    topic, partition = source.topic, source.partition
    begin = broker.begin_offset(topic, partition)
    first = broker.offset_for_time(topic, partition, asked.start)
    if first == begin > 0:
        oldest = next(broker.read(topic, partition, begin, begin + 1), None)
        stop = min(asked.stop, oldest.time + 1) if oldest else asked.stop
        yield from _trimmed(source, Window(asked.start, stop), lake, begin)
    elif first == begin:
        yield from _of_former_logs(source, asked, broker, lake)
    yield from broker.read(topic, partition, first, broker.offset_for_time(topic, partition, asked.stop))


def _of_former_logs(source: "Source", asked: Window, broker: "Broker", lake: "Lake") -> "Iterator[Record]":
    """Yield the stored records of a range of time from logs that the topic replaced."""
    from coin_platform.orchestration.raw_facts import raw_facts
    from coin_platform.tables.dataframes import records

    table, name = f"raw_{source.channel}", source.exchange.name
    for window in lake.windows(table, name, asked.start, asked.stop):
        facts, rows = raw_facts(lake, source, window), lake.read(table, name, window)
        if facts is None or rows is None or facts.is_of(broker, source):
            continue
        yield from (record for record in records(rows) if asked.start <= record.time < asked.stop)


def _trimmed(source: "Source", asked: Window, lake: "Lake", before: int) -> "Iterator[Record]":
    """Yield the stored records of a range of time whose offsets are less than `before`."""
    from coin_platform.tables.dataframes import records

    table, name, length = f"raw_{source.channel}", source.exchange.name, lake.window
    for start in range(asked.start // length * length, asked.stop, length):
        rows = lake.read(table, name, Window(start, start + length))
        if rows is None:
            raise RetentionLoss(
                f"{source.topic}[{source.partition}]: the topic begins with offset {before}, and {table} of {name} "
                f"has no window {minute_text(start)}; write a later --from, or another exchange"
            )
        for record in records(rows):
            if asked.start <= record.time < asked.stop and record.offset < before:
                yield record


def write(source: "Source", records: "Iterator[Record]", file: Path) -> tuple[int, int]:
    """Write a recording, whole or not at all.

    Return the number of frames, and the number of records whose header is not of this program.
    Records that are not frames (facts, checkpoints) are left out.
    """
    from coin_platform.records import unpack
    from coin_platform.simulator.recordings import line

    frames = foreign = 0
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as lines:
            for record in records:
                try:
                    header = unpack(record.header)
                except DecodeError:
                    foreign += 1
                    continue
                if header.kind.is_frame:
                    lines.write(line(source, record, header) + "\n")
                    frames += 1
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return frames, foreign


def _asked_range(start: str | None, end: str | None, last: str | None) -> Window:
    if (start is None) == (last is None):
        raise BadArgument("write either --from 2026-11-24T03:00 or --last 1h")
    if start is not None:
        return parse_range(start, end)
    assert last is not None
    stop = wall() if end is None else parse_time("--to", end)
    return Window(stop - parse_duration("--last", last), stop)
