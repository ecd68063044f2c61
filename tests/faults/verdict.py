"""What a soak left behind, against what the exchanges' own log and market say: one exchange after the other."""

import json
import os
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

import polars as pl

from coin_platform.broker import Broker
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Lake, open_lake
from coin_platform.model import SECOND, BookUpdate, Candle, Channel, Gap, Microseconds, Trade
from coin_platform.preprocess.gap import is_book
from coin_platform.preprocess.transform import Source
from coin_platform.sources import sources
from coin_platform.wire import Record, dead_letter_topic, frame, processed_topic, unpack
from tests.faults.exchanges import Truth, top_of
from tests.faults.soak import Event, Soak
from tests.kit.history import Findings, Hole, Row, check, gaps_from, once, rows_from, sent_from, stored_from

TOLERANCE: Microseconds = SECOND
HEALING: Microseconds = 45 * SECOND  # from a fault's end until its last gap has begun: silence is noticed after 40 s

Place: TypeAlias = tuple[int, int]  # offset and index


class Verdict(NamedTuple):
    """What is wrong with one exchange; all empty is right."""

    findings: Findings
    unaccounted: list[str]  # frames that are in no row, without a reason
    untrue: list[str]  # books that the market never had
    unlike: list[str]  # processed records that differ from the tables
    baseless: list[str]  # gaps that no fault explains
    books: int  # that were compared
    repeated: int  # processed records that came again

    @property
    def wrongs(self) -> dict[str, object]:
        """What there is of it, by name, the first few of each."""
        lists = {**self.findings._asdict(), **self._asdict()}
        return {name: (len(found), found[:3]) for name, found in lists.items() if isinstance(found, list) and found}


def make_tables(soak: Soak) -> list[str]:
    """Make the tables of all windows, by the command for it in two processes; return what it complains of."""
    names = list(dict.fromkeys(source.exchange.name for source in soak.sources))
    closed = (time.time() // 60 + 1) * 60  # the end of the last window
    time.sleep(closed + soak.settings.grace.total_seconds() + 0.5 - time.time())
    start, end = (f"{each:%Y-%m-%dT%H:%M}" for each in (soak.settings.start, datetime.fromtimestamp(closed, UTC)))
    halves: list[subprocess.Popen[str]] = []
    for part in (names[::2], names[1::2]):
        chosen = [word for name in part for word in ("--exchange", name)]
        command = [sys.executable, "-m", "coin_platform", "lake", "backfill", "--from", start, "--to", end, *chosen]
        halves.append(
            subprocess.Popen(
                command,
                env={**os.environ, **soak.environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    complaints = []
    for half in halves:
        out, errors = half.communicate(timeout=60 + 600 * soak.plan.minutes)
        complaints += [line for line in errors.splitlines() if line.startswith(("FAILED", "CHECK FAILED"))]
        complaints += (
            [f"backfill ended with {half.returncode}: {out[-500:]} {errors[-500:]}"] if half.returncode else []
        )
    return [line for line in complaints if not line.endswith(": no_gap")]


def judge(soak: Soak, exchange: Exchange, broker: Broker) -> Verdict:
    """Compare all that is kept of an exchange with what it sent."""
    lake, found = open_lake(soak.settings), list(sources(exchange, soak.settings))
    gaps = list(gaps_from(exchange.name, lake.scan("gap", exchanges=[exchange.name]).collect()))
    dead = _read(lake, "dead", exchange)
    rows, made = list(rows_from(exchange.name, dead)), list[Hole]()
    unaccounted, unlike, untrue = list[str](), list[str](), list[str]()
    served: dict[Channel, list[list[Microseconds]]] = {}
    books = repeated = 0
    for source in found:
        table = _read(lake, source.channel.value, exchange)
        records = list(
            broker.read(source.topic, source.partition, 0, broker.end_offset(source.topic, source.partition))
        )
        rows += rows_from(exchange.name, table)
        theirs = [gap for gap in gaps if gap.channel is source.channel]
        excused, without = _accounts(source, records, table, theirs, dead)
        rows += excused
        unaccounted += without
        if source.channel is Channel.ORDERBOOK:
            wrong, books = _untrue(soak.exchanges.truth, exchange, table)
            untrue += wrong
        if is_book(source):
            times = _times(table)
            served[source.channel] = list(times.values())
            made += _holes_of_books(theirs, times)
        if source.channel not in exchange.channels:
            made += _holes_of_polls(source, records)
        wrong, again = _unlike(source, broker, table, records, soak.settings.window_length)
        unlike += wrong
        repeated += again
    findings = check(
        sent_from(soak.exchanges.folder, exchange.name),
        once(stored_from(broker, found)),
        gaps=gaps,
        rows=rows,
        made=made,
        tolerance=TOLERANCE,
        served=lambda _, channel, time: max(
            (_next(times, time) or time for times in served.get(channel, ())), default=time
        ),
    )
    baseless = [str(gap) for gap in gaps if not any(_explains(event, gap, exchange) for event in soak.events)]
    return Verdict(findings, unaccounted, untrue, unlike, baseless, books, repeated)


def _read(lake: Lake, table: str, exchange: Exchange) -> pl.DataFrame:
    """Return what the windows hold, without what has only landed."""
    windows = lake.windows(table, exchange.name)
    return pl.concat([rows for window in windows if (rows := lake.read(table, exchange.name, window)) is not None])


def _accounts(
    source: Source, records: Iterable[Record], table: pl.DataFrame, gaps: Sequence[Gap], dead: pl.DataFrame
) -> tuple[list[Row], list[str]]:
    """Find a reason for each frame without a row; return those that have one, and a line for each that has none."""
    known = set(table.select("epoch", "connection", "number").iter_rows())
    known |= set(dead.select("epoch", "connection", "number").iter_rows())
    trades = set(table.select("pair", "id").iter_rows()) if source.channel is Channel.TRADE else set()
    minutes = (
        set(table.select("pair", pl.col("open_time").to_physical()).iter_rows())
        if source.channel is Channel.CANDLE
        else set()
    )
    excused, without = [], []
    reached: dict[tuple[str, str], int] = {}  # sequence of a connection's book, by pair, as its rows say
    sequences = _sequences(table)
    begun: set[str] = set()  # pairs that ever had a row
    bytes_of: set[bytes] = set()
    seen: set[tuple[int, str, int]] = set()
    for record in records:
        header = unpack(record.header)
        identity = (header.epoch, header.connection, header.number)
        if not header.kind.is_frame or identity in seen:
            continue
        seen.add(identity)
        if identity in known:
            bytes_of.add(record.value)
            for pair, sequence in sequences.get(identity, ()):
                begun.add(pair)
                if sequence is not None:
                    reached[header.connection, pair] = sequence
            continue
        events = source.exchange.decode(frame(source.exchange.name, source.channel, header, record.value))
        for event in events:
            match event:
                case Trade():
                    is_told = event.id is not None and (str(event.pair), event.id) in trades
                case Candle():
                    is_told = (str(event.pair), event.open_time) in minutes
                case BookUpdate():
                    last = reached.get((header.connection, str(event.pair)))
                    is_old = last is not None and event.last_sequence is not None and event.last_sequence <= last
                    is_told = is_old or str(event.pair) not in begun
                case _:
                    continue
            if not (is_told or record.value in bytes_of or _covers(gaps, str(event.pair), header.received_time)):
                without.append(f"{source.channel} {event.pair} offset {record.offset} {record.header}")
                break
        else:
            excused.append(Row((source.exchange.name, *identity)))
    return excused, without


def _covers(gaps: Sequence[Gap], pair: str, time: Microseconds) -> bool:
    return any(
        (gap.pair is None or str(gap.pair) == pair)
        and gap.start - TOLERANCE <= time
        and (gap.stop is None or time <= gap.stop + TOLERANCE)
        for gap in gaps
    )


def _sequences(table: pl.DataFrame) -> dict[tuple[int, str, int], list[tuple[str, int | None]]]:
    found: defaultdict[tuple[int, str, int], list[tuple[str, int | None]]] = defaultdict(list)
    if "sequence" in table.columns:
        for epoch, connection, number, pair, sequence in table.select(
            "epoch", "connection", "number", "pair", "sequence"
        ).iter_rows():
            found[epoch, connection, number].append((pair, sequence))
    return found


def _untrue(truth: Truth, exchange: Exchange, table: pl.DataFrame) -> tuple[list[str], int]:
    """Compare each stored book that says its time with the market; return the wrong ones, and how many there are."""
    times = pl.col("exchange_time", "received_time").to_physical()
    levels = ("bid_prices", "ask_prices", "bid_sizes", "ask_sizes")
    rows = table.drop_nulls("exchange_time").select("offset", "pair", times, *levels)
    wrong = [
        f"{pair} offset {offset}"
        for offset, pair, time, received, bids, asks, bid_sizes, ask_sizes in rows.iter_rows()
        if not truth.was(exchange.name, pair, top_of(time, [*bids, *asks], [*bid_sizes, *ask_sizes]), received)
    ]
    return wrong, rows.height


def _times(table: pl.DataFrame) -> dict[str, list[Microseconds]]:
    """Return when rows of each pair were received."""
    parts = table.sort("received_time").group_by("pair").agg(pl.col("received_time").to_physical())
    return {pair: list(times) for pair, times in parts.iter_rows()}


def _next(times: Sequence[Microseconds], time: Microseconds) -> Microseconds | None:
    at = bisect_left(times, time)
    return times[at] if at < len(times) else None


def _holes_of_books(gaps: Iterable[Gap], times: Mapping[str, Sequence[Microseconds]]) -> Iterator[Hole]:
    """Yield the stretches without rows at which gaps of a pair begin: of a book of changes they are the holes."""
    for gap in gaps:
        rows = times.get(str(gap.pair), ())
        at = bisect_right(rows, gap.start)
        if at:
            stop = rows[at] if at < len(rows) else None
            yield Hole(gap.exchange, gap.channel, gap.pair, rows[at - 1], gap.start, stop)


def _holes_of_polls(source: Source, records: Iterable[Record]) -> Iterator[Hole]:
    """Yield the stretches between two lives of what is only asked over REST, which no log of sent messages tells."""
    last = end = 0
    connection = ""
    for header in (unpack(record.header) for record in records):
        if header.connection != connection and header.kind.is_frame:
            if connection:
                yield Hole(source.exchange.name, source.channel, None, last, end, header.received_time)
            connection = header.connection
        last = header.received_time if header.kind.is_frame else last
        end = header.received_time
    yield Hole(source.exchange.name, source.channel, None, last, end, None, is_end=True)


def _unlike(
    source: Source, broker: Broker, table: pl.DataFrame, records: Sequence[Record], window: Microseconds
) -> tuple[list[str], int]:
    """Compare processed records with the table; return the differences, and how many came again."""
    topic = processed_topic(source.exchange.region, source.channel)
    end = broker.end_offset(topic, source.partition)
    said = [json.loads(record.value) for record in broker.read(topic, source.partition, 0, end)]
    places = {(each["offset"], each["index"]) for each in said}
    rows = set(table.select("offset", "index").iter_rows())
    again = len(said) - len(places)
    if source.channel is Channel.CANDLE:
        times = {record.offset: record.time // window for record in records}
        newest: dict[tuple[int, str, str], Place] = {}
        for each in sorted(said, key=lambda each: (each["offset"], each["index"])):
            minute = (times[each["offset"]], f"{each['coin_symbol']}-{each['quote']}", each["open_time"])
            newest[minute] = (each["offset"], each["index"])
        places = set(newest.values())
    letters = broker.end_offset(dead_letter_topic(source.topic), source.partition)
    only = (
        [
            f"{source.channel}: {len(places - rows)} only processed, {len(rows - places)} only in the table, "
            f"first {sorted(places ^ rows)[:3]}"
        ]
        if places != rows
        else []
    )
    return only + ([f"{source.channel}: {letters} dead letters"] if letters else []), again


def _explains(event: Event, gap: Gap, exchange: Exchange) -> bool:
    """Whether a gap may come of a fault."""
    is_about = event.victim in ("", exchange.name, f"collect-{exchange.region}")
    is_later = gap.stop is None or gap.stop >= event.start - TOLERANCE  # what is polled was heard before the fault
    return is_about and is_later and gap.start <= event.stop + HEALING
