"""Judges what a soak has left behind: compares it with the log and the market of each simulated exchange."""

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
from tests.kit.history import NEVER, Findings, Hole, Row, check, once
from tests.kit.soak import Event, Soak
from tests.kit.stored_history import gaps_from, sent_from, stored_from

HEALING: Microseconds = (
    45 * SECOND
)  # from a fault's end until its last gap begins, because silence is noticed after 40 s

Place: TypeAlias = tuple[int, int]  # offset and index


class Verdict(NamedTuple):
    """The faults of one exchange. If all lists are empty, the platform has kept its promises."""

    findings: Findings
    unaccounted: list[str]  # frames without a row and without a reason
    unlogged: list[str]  # messages that never reached the log, though no process was killed
    wrong_books: list[str]  # books that the market never had
    differences: list[str]  # between processed records and tables
    unexplained_gaps: list[str]  # gaps that no fault explains
    killed: tuple[Microseconds, ...]  # the times at which messages were sent that a kill cost
    books: int  # the number of books that were compared
    repeated: int  # the number of processed records that came again

    @property
    def faults(self) -> dict[str, object]:
        """The number of faults of each list that is not empty, and the first three."""
        lists = {**self.findings._asdict(), **self._asdict()}
        return {
            name: (len(faults), faults[:3]) for name, faults in lists.items() if isinstance(faults, list) and faults
        }


class _Part(NamedTuple):
    """What one source contributes to the verdict."""

    rows: list[Row]
    unaccounted: list[str]
    wrong_books: list[str]
    differences: list[str]
    holes: list[Hole]  # that the exchange made on purpose
    times: list[list[Microseconds]]  # the times at which rows of each pair were received
    books: int
    repeated: int


def make_tables(soak: Soak) -> list[str]:
    """Make the tables of all windows with `coin lake backfill` in two processes, and return its complaints."""
    names = list(dict.fromkeys(source.exchange.name for source in soak.sources))
    closed = (time.time() // 60 + 1) * 60  # the end of the last window
    time.sleep(closed + soak.settings.grace.total_seconds() + 0.5 - time.time())
    start, end = (f"{moment:%Y-%m-%dT%H:%M}" for moment in (soak.settings.start, datetime.fromtimestamp(closed, UTC)))
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
    """All that a soak knows of one exchange. It is passed to another process."""

    exchange: str
    settings: Settings
    home: Path
    sent: Path  # the folder of the exchanges' log
    truth: Truth
    events: Sequence[Event]


def judge(soak: Soak) -> dict[str, Verdict]:
    """Judge all exchanges. Each has a process of its own, and as many run at the same time as there are cores."""
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
    lake, own_sources = open_lake(evidence.settings), list(sources(exchange, evidence.settings))
    gaps = list(gaps_from(exchange.name, lake.scan("gap", exchanges=[exchange.name]).collect()))
    dead = _read(lake, "dead", exchange)
    parts = {source.channel: _part(source, evidence, broker, lake, gaps) for source in own_sources}
    sent, stored = sent_from(evidence.sent, exchange.name), once(stored_from(broker, own_sources))

    def served(_: str, channel: Channel, time: Microseconds) -> Microseconds:
        return max((_next(times, time) or NEVER for times in parts[channel].times), default=time)

    findings = check(
        sent,
        stored,
        gaps=gaps,
        rows=[row for part in parts.values() for row in part.rows],
        made=[hole for part in parts.values() for hole in part.holes],
        tolerance=TOLERANCE,
        served=served,
    )
    missing = Counter(message.hash for message in sent) - Counter(record.hash for record in stored if record.hash)
    unstored = [
        message for message in sent if message.kind == "data" and message.hash in missing
    ]  # all pongs are equal
    killed = [message for message in unstored if any(_is_killed(gap, message.time) for gap in gaps)]
    return Verdict(
        findings=findings,
        unaccounted=[line for part in parts.values() for line in part.unaccounted]
        + [f"dead: {reason}" for reason in dead["reason"]],
        unlogged=[str(message) for message in unstored if message not in killed],
        wrong_books=[line for part in parts.values() for line in part.wrong_books],
        differences=[line for part in parts.values() for line in part.differences],
        unexplained_gaps=[
            str(gap) for gap in gaps if not any(_explains(event, gap, exchange) for event in evidence.events)
        ],
        killed=tuple(message.time for message in killed),
        books=sum(part.books for part in parts.values()),
        repeated=sum(part.repeated for part in parts.values()),
    )


def _part(source: Source, evidence: Evidence, broker: Broker, lake: Lake, gaps: Iterable[Gap]) -> _Part:
    exchange, channel = source.exchange, source.channel
    table, own_gaps = _read(lake, channel.value, exchange), [gap for gap in gaps if gap.channel is channel]
    records = list(broker.read(source.topic, source.partition, 0, broker.end_offset(source.topic, source.partition)))
    accounts = Accounts(source, records, table, own_gaps)
    times = _times(table)
    polled = [] if channel in exchange.channels else list(_holes_of_polls(source, records))
    wrong_books, books = _wrong_books(evidence.truth, exchange, table) if channel is Channel.ORDERBOOK else ([], 0)
    differences, repeated = _differences(source, broker, table, records, evidence.settings.window_length)
    return _Part(
        rows=accounts.rows,
        unaccounted=accounts.unexplained,
        wrong_books=wrong_books,
        differences=differences,
        holes=[*polled, *_holes_of_books(own_gaps, times if is_book(source) else {})],
        times=list(times.values()),
        books=books,
        repeated=repeated,
    )


def _read(lake: Lake, table: str, exchange: Exchange) -> pl.DataFrame:
    """Return the rows of all windows, without those that have only landed."""
    windows = lake.windows(table, exchange.name)
    return pl.concat([rows for window in windows if (rows := lake.read(table, exchange.name, window)) is not None])


def _wrong_books(truth: Truth, exchange: Exchange, table: pl.DataFrame) -> tuple[list[str], int]:
    """Compare each stored book that has a time with the market. Return the wrong books, and how many were compared."""
    times = pl.col("exchange_time", "received_time").to_physical()
    levels = ("bid_prices", "ask_prices", "bid_sizes", "ask_sizes")
    rows = table.drop_nulls("exchange_time").select("offset", "pair", times, *levels)
    wrong = [
        f"{pair} offset {offset}"
        for offset, pair, time, received, bids, asks, bid_sizes, ask_sizes in rows.iter_rows()
        if not truth.had(exchange.name, pair, top_of(time, [*bids, *asks], [*bid_sizes, *ask_sizes]), received)
    ]
    return wrong, rows.height


def _times(table: pl.DataFrame) -> dict[str, list[Microseconds]]:
    """Return the times at which rows of each pair were received over sockets."""
    streamed = table.filter(~pl.col("connection").str.contains(r"^\w+-\d+r-"))
    parts = streamed.sort("received_time").group_by("pair").agg(pl.col("received_time").to_physical())
    return {pair: list(times) for pair, times in parts.iter_rows()}


def _next(times: Sequence[Microseconds], time: Microseconds) -> Microseconds | None:
    at = bisect_left(times, time)
    return times[at] if at < len(times) else None


def _holes_of_books(gaps: Iterable[Gap], times: Mapping[str, Sequence[Microseconds]]) -> Iterator[Hole]:
    """Yield the stretches without rows at which gaps of a pair begin. For a book of changes these are the holes."""
    for gap in gaps:
        rows = times.get(str(gap.pair), ())
        at = bisect_right(rows, gap.start)
        if at:
            stop = rows[at] if at < len(rows) else None
            yield Hole(gap.exchange, gap.channel, gap.pair, rows[at - 1], gap.start, stop)


def _holes_of_polls(source: Source, records: Iterable[Record]) -> Iterator[Hole]:
    """Yield the stretches between two lives of a feed that is only polled over REST. No log of sent messages has them.

    A collector that takes over polls beside the other one for a while.
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


def _differences(
    source: Source, broker: Broker, table: pl.DataFrame, records: Sequence[Record], window: Microseconds
) -> tuple[list[str], int]:
    """Compare processed records with the table. Return the differences, and how many records came again."""
    topic = processed_topic(source.exchange.region, source.channel)
    end = broker.end_offset(topic, source.partition)
    processed = [json.loads(record.value) for record in broker.read(topic, source.partition, 0, end)]
    places = {(body["offset"], body["index"]) for body in processed}
    rows = set(table.select("offset", "index").iter_rows())
    repeated = len(processed) - len(places)
    if source.channel is Channel.CANDLE:
        times = {record.offset: record.time // window for record in records}
        newest: dict[tuple[int, str, str], Place] = {}
        for body in sorted(processed, key=lambda body: (body["offset"], body["index"])):
            minute = (times[body["offset"]], f"{body['coin_symbol']}-{body['quote']}", body["open_time"])
            newest[minute] = (body["offset"], body["index"])
        places = set(newest.values())
    letters = broker.end_offset(dead_letter_topic(source.topic), source.partition)
    differences = [f"{source.channel}: {letters} dead letters"] if letters else []
    if places != rows:
        counts = f"{len(places - rows)} only processed, {len(rows - places)} only in the table"
        differences.append(f"{source.channel}: {counts}, first {sorted(places ^ rows)[:3]}")
    return differences, repeated


def _is_killed(gap: Gap, time: Microseconds) -> bool:
    """Return whether a message of this time was sent while no process was there to store it, after a kill."""
    is_over = gap.stop is not None and time > gap.stop + TOLERANCE
    return gap.cause == Cause.KILLED and gap.start - TOLERANCE <= time and not is_over


def _explains(event: Event, gap: Gap, exchange: Exchange) -> bool:
    """Return whether a fault may have caused a gap."""
    is_about = event.victim in ("", exchange.name, f"collect-{exchange.region}")
    is_later = gap.stop is None or gap.stop >= event.start - TOLERANCE  # a polled feed was heard before the fault
    return is_about and is_later and gap.start <= event.stop + HEALING
