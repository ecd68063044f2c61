"""What a soak left behind, against what the exchanges' own log and market say: one exchange after the other."""

import json
import os
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeAlias

import polars as pl

from coin_platform.broker import Broker, kafka_client
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.lake import Lake, open_lake
from coin_platform.model import SECOND, Cause, Channel, Gap, Microseconds
from coin_platform.records import Header, Record, unpack
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables.gap_table import is_book
from coin_platform.topic_names import dead_letter_topic, processed_topic
from tests.kit.accounts import TOLERANCE, Accounts
from tests.kit.exchanges import Truth, top_of
from tests.kit.history import Findings, Hole, Row, check, once
from tests.kit.soak import Event, Soak
from tests.kit.stored_history import gaps_from, sent_from, stored_from

HEALING: Microseconds = 45 * SECOND  # from a fault's end until its last gap has begun: silence is noticed after 40 s

Place: TypeAlias = tuple[int, int]  # offset and index


class Verdict(NamedTuple):
    """What is wrong with one exchange: all lists empty is right."""

    findings: Findings
    unaccounted: list[str]  # frames that are in no row, without a reason
    unsaved: list[str]  # messages that never reached the log, though nobody was killed
    untrue: list[str]  # books that the market never had
    unlike: list[str]  # processed records that differ from the tables
    baseless: list[str]  # gaps that no fault explains
    killed: tuple[Microseconds, ...]  # when messages were sent that a kill cost
    books: int  # that were compared
    repeated: int  # processed records that came again

    @property
    def wrongs(self) -> dict[str, object]:
        """What there is of it, by name, the first few of each."""
        lists = {**self.findings._asdict(), **self._asdict()}
        return {name: (len(found), found[:3]) for name, found in lists.items() if isinstance(found, list) and found}


class _Part(NamedTuple):
    """What one source contributes to the verdict."""

    rows: list[Row]
    unaccounted: list[str]
    untrue: list[str]
    unlike: list[str]
    made: list[Hole]
    times: list[list[Microseconds]]  # when rows of each pair were received
    books: int
    repeated: int


def make_tables(soak: Soak) -> list[str]:
    """Make the tables of all windows, by the command for it in two processes; return what it complains of."""
    names = list(dict.fromkeys(source.exchange.name for source in soak.sources))
    closed = (time.time() // 60 + 1) * 60  # the end of the last window
    time.sleep(closed + soak.settings.grace.total_seconds() + 0.5 - time.time())
    start, end = (f"{each:%Y-%m-%dT%H:%M}" for each in (soak.settings.start, datetime.fromtimestamp(closed, UTC)))
    environment = {**os.environ, **soak.environment}
    halves = []
    for part in (names[::2], names[1::2]):
        chosen = [word for name in part for word in ("--exchange", name)]
        command = [sys.executable, "-m", "coin_platform", "lake", "backfill", "--from", start, "--to", end, *chosen]
        log = soak.home / "logs" / f"backfill-{part[0]}.log"
        with log.open("wb") as file:
            halves.append((log, subprocess.Popen(command, env=environment, stdout=file, stderr=file)))
    complaints = []
    for log, half in halves:
        code = half.wait(60 + 600 * soak.plan.minutes)
        lines = log.read_text().splitlines()
        complaints += [line for line in lines if line.startswith(("FAILED", "CHECK FAILED"))]
        complaints += [f"backfill ended with {code}: {lines[-1:]}"] if code else []
    return [line for line in complaints if not line.endswith(": no_gap")]


class Evidence(NamedTuple):
    """What a soak knows of one exchange, for a process of its own."""

    exchange: str
    settings: Settings
    home: Path
    sent: Path  # the folder of the exchanges' log
    truth: Truth
    events: Sequence[Event]


def judge(soak: Soak) -> dict[str, Verdict]:
    """Judge all exchanges, each in a process of its own, as many side by side as there are cores."""
    own = partial(Evidence, settings=soak.settings, home=soak.home, sent=soak.exchanges.folder, events=soak.events)
    evidence = [own(exchange=name, truth=soak.exchanges.truth.of(name)) for name in EXCHANGES]
    with ProcessPoolExecutor(mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return dict(zip(EXCHANGES, pool.map(_judge, evidence), strict=True))


def _judge(evidence: Evidence) -> Verdict:
    """Compare all that is kept of an exchange with what it sent."""
    servers = kafka_client.servers(evidence.settings)
    with closing(KafkaBroker(servers, evidence.home / f"witness-{evidence.exchange}")) as broker:
        return _compare(evidence, EXCHANGES[evidence.exchange], broker)


def _compare(evidence: Evidence, exchange: Exchange, broker: Broker) -> Verdict:
    lake, found = open_lake(evidence.settings), list(sources(exchange, evidence.settings))
    gaps = list(gaps_from(exchange.name, lake.scan("gap", exchanges=[exchange.name]).collect()))
    dead = _read(lake, "dead", exchange)
    parts = {source.channel: _part(source, evidence, broker, lake, gaps) for source in found}
    sent, stored = sent_from(evidence.sent, exchange.name), once(stored_from(broker, found))

    def served(_: str, channel: Channel, time: Microseconds) -> Microseconds:
        return max((_next(times, time) or time for times in parts[channel].times), default=time)

    findings = check(
        sent,
        stored,
        gaps=gaps,
        rows=[row for part in parts.values() for row in part.rows],
        made=[hole for part in parts.values() for hole in part.made],
        tolerance=TOLERANCE,
        served=served,
    )
    missing = Counter(each.hash for each in sent) - Counter(each.hash for each in stored if each.hash)
    unstored = [each for each in sent if each.kind == "data" and each.hash in missing]  # pongs are all the same
    killed = [each for each in unstored if any(_is_killed(gap, each.time) for gap in gaps)]
    return Verdict(
        findings=findings,
        unaccounted=[line for part in parts.values() for line in part.unaccounted]
        + [f"dead: {reason}" for reason in dead["reason"]],
        unsaved=[str(each) for each in unstored if each not in killed],
        untrue=[line for part in parts.values() for line in part.untrue],
        unlike=[line for part in parts.values() for line in part.unlike],
        baseless=[str(gap) for gap in gaps if not any(_explains(event, gap, exchange) for event in evidence.events)],
        killed=tuple(each.time for each in killed),
        books=sum(part.books for part in parts.values()),
        repeated=sum(part.repeated for part in parts.values()),
    )


def _part(source: Source, evidence: Evidence, broker: Broker, lake: Lake, gaps: Iterable[Gap]) -> _Part:
    exchange, channel = source.exchange, source.channel
    table, theirs = _read(lake, channel.value, exchange), [gap for gap in gaps if gap.channel is channel]
    records = list(broker.read(source.topic, source.partition, 0, broker.end_offset(source.topic, source.partition)))
    accounts = Accounts(source, records, table, theirs)
    times = _times(table)
    polled = [] if channel in exchange.channels else list(_holes_of_polls(source, records))
    untrue, books = _untrue(evidence.truth, exchange, table) if channel is Channel.ORDERBOOK else ([], 0)
    unlike, repeated = _unlike(source, broker, table, records, evidence.settings.window_length)
    return _Part(
        rows=accounts.rows,
        unaccounted=accounts.without,
        untrue=untrue,
        unlike=unlike,
        made=[*polled, *_holes_of_books(theirs, times if is_book(source) else {})],
        times=list(times.values()),
        books=books,
        repeated=repeated,
    )


def _read(lake: Lake, table: str, exchange: Exchange) -> pl.DataFrame:
    """Return what the windows hold, without what has only landed."""
    windows = lake.windows(table, exchange.name)
    return pl.concat([rows for window in windows if (rows := lake.read(table, exchange.name, window)) is not None])


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
    """Return when rows of each pair were received, but not over REST while its stream was away."""
    streamed = table.filter(~pl.col("connection").str.contains(r"^\w+-\d+r-"))
    parts = streamed.sort("received_time").group_by("pair").agg(pl.col("received_time").to_physical())
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
    """Yield the stretches between two lives of what is only asked over REST, which no log of sent messages tells.

    Who takes over asks beside the other for a while.
    """
    lives: dict[str, list[Header]] = {}
    for header in (unpack(record.header) for record in records):
        if header.kind.is_frame or header.connection in lives:
            lives.setdefault(header.connection, []).append(header)
    last = end = 0
    for headers in lives.values():  # in the order of their first answers
        first = headers[0].received_time
        if end and first > end:
            answered = {header.pair: header.received_time for header in reversed(headers) if header.kind.is_frame}
            until = max(answered.values())  # one pair is asked for after the other
            yield Hole(source.exchange.name, source.channel, None, last, end, first, until=until)
        last = max(last, *(header.received_time for header in headers if header.kind.is_frame))
        end = max(end, headers[-1].received_time)
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
    found = [f"{source.channel}: {letters} dead letters"] if letters else []
    if places != rows:
        counts = f"{len(places - rows)} only processed, {len(rows - places)} only in the table"
        found.append(f"{source.channel}: {counts}, first {sorted(places ^ rows)[:3]}")
    return found, again


def _is_killed(gap: Gap, time: Microseconds) -> bool:
    """Whether something was sent while a killed process was not there to store it."""
    is_over = gap.stop is not None and time > gap.stop + TOLERANCE
    return gap.cause == Cause.KILLED and gap.start - TOLERANCE <= time and not is_over


def _explains(event: Event, gap: Gap, exchange: Exchange) -> bool:
    """Whether a gap may come of a fault."""
    is_about = event.victim in ("", exchange.name, f"collect-{exchange.region}")
    is_later = gap.stop is None or gap.stop >= event.start - TOLERANCE  # what is polled was heard before the fault
    return is_about and is_later and gap.start <= event.stop + HEALING
