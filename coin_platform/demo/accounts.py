"""Compare what the exchanges of a demo sent with what the lake holds, and print the accounts."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
from rich.table import Table

from coin_platform.broker import Broker, connect
from coin_platform.demo.console import console
from coin_platform.demo.report import Summary, write
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, open_lake
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import Settings
from coin_platform.simulator.sent_log import digest
from coin_platform.tables.outcomes import FrameOutcome
from coin_platform.topic_names import processed_topic

QUANTILES = (0.5, 0.95, 0.99)
COLUMNS = (
    *("exchange", "sent", "missing", "double", "no row", "declared", "rows", "live", "dead", "gaps"),
    *("p50 ms", "p95", "p99", "files"),
)


def dagster_failures(home: Path) -> list[str]:
    """Return a line for each failed check and each failed run of a window, from Dagster's event log.

    The check `no_gap` is left out: the exchanges end before the last window does, so it always fails there. The
    report counts the gaps that began before that end.
    """
    import dagster as dg

    from coin_platform.orchestration.alerts import failed_checks

    with dg.DagsterInstance.from_config(str(home / "dagster_home")) as instance:
        runs = [run for run in instance.get_runs() if run.job_name.startswith("tables_")]
        lines = [line for run in runs for line in failed_checks(instance, run.run_id) if ": no_gap: " not in line]
        return lines + [f"run {run.run_id} of {run.job_name} failed" for run in runs if run.is_failure]


class Balance(NamedTuple):
    """What an exchange sent against what the lake holds."""

    sent: int
    missing: int  # sent more often than stored
    double: int  # stored more often than sent
    without_rows: int  # stored market data that gave no row, beyond the declared frames
    declared: int  # frames that a window counts as duplicates, as no market data, or as before their book


class StoredCounts(NamedTuple):
    """What is stored of one exchange: rows, live records, dead letters, and gaps that began before the end."""

    rows: int
    live: int
    dead: int
    gaps: int


def balance(lake: Lake, exchange_sources: Sequence[Source], sent: Counter[str], data: Counter[str]) -> Balance:
    """Compare the messages that an exchange sent with its stored frames, and its market data with its rows.

    `sent` and `data` count the hashes of all messages, and of those with market data.
    """
    stored: Counter[str] = Counter()
    without = declared = 0
    for source in exchange_sources:
        exchange, channel = source.exchange, source.channel.value
        frames = lake.scan(f"raw_{channel}", exchanges=[exchange.name]).filter(pl.col("kind") == "w").collect()
        names = [digest(payload) for payload in frames["payload"]]
        stored.update(names)
        facts = [
            lake.provenance(channel, exchange.name, window) or {} for window in lake.windows(channel, exchange.name)
        ]
        outcomes = Counter({name: sum(int(fact[f"frames_{name}"]) for fact in facts) for name in FrameOutcome})
        # Only a book that begins with a REST answer may lack rows before that answer.
        declared += (
            outcomes[FrameOutcome.DUPLICATE]
            + outcomes[FrameOutcome.IGNORED]
            + exchange.is_bridged * outcomes[FrameOutcome.INVALID]
        )
        data_frames = sum(name in data for name in names)
        # The log of sent messages has no REST answers. Counting them as data can only make the result stricter.
        rest = sum(int(fact["frames"]) for fact in facts) - frames.height
        without += (
            max(0, data_frames + rest - outcomes[FrameOutcome.ROWS] - outcomes[FrameOutcome.DEAD])
            if facts
            else data_frames
        )
    return Balance(
        sent=sum(sent.values()),
        missing=(sent - stored).total(),
        double=(stored - sent).total(),
        without_rows=max(0, without - declared),
        declared=declared,
    )


def report(settings: Settings, home: Path, ended: datetime, failures: list[str]) -> int:
    """Print the accounts of each exchange, and write the report.

    Return 0 only if all numbers add up, no gap began before `ended`, and there are no `failures`.
    """
    lake, broker = open_lake(settings), connect(settings)
    sent, data = _sent_messages(home / "data/simulator/sent.jsonl")
    lines = []
    is_right = not failures
    for exchange in exchanges_of(None, settings):
        name, exchange_sources = exchange.name, list(sources(exchange, settings))
        balanced = balance(lake, exchange_sources, sent.get(name, Counter()), data.get(name, Counter()))
        stored = _stored(lake, broker, exchange_sources, ended)
        lines.append(
            (name, *map(str, (*balanced, *stored, *_latency(lake, name))), str(_object_count(lake, exchange_sources)))
        )
        wrong = balanced.missing or balanced.double or balanced.without_rows or stored.dead or stored.gaps
        is_right = is_right and balanced.sent > 0 and stored.live > 0 and not wrong
    broker.close()
    table = Table(*COLUMNS)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for failure in failures:
        console.print(f"FAILED {failure}")
    problems = failures if is_right or failures else ["the numbers do not add up"]
    write(home / "report.html", lake, [line[0] for line in lines], Summary(COLUMNS, lines, problems))
    console.print(f"report: {home / 'report.html'}")
    console.print("everything adds up: sent = stored" if is_right else "the numbers do NOT add up")
    return 0 if is_right else 1


def _sent_messages(file: Path) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """Return the hashes of all messages that each exchange sent, and of those with market data."""
    sent: dict[str, Counter[str]] = {}
    data: dict[str, Counter[str]] = {}
    with file.open(encoding="utf-8") as log:
        for line in map(json.loads, log):
            sent.setdefault(line["exchange"], Counter())[line["hash"]] += 1
            if line["kind"] == "data":
                data.setdefault(line["exchange"], Counter())[line["hash"]] += 1
    return sent, data


def _stored(lake: Lake, broker: Broker, exchange_sources: Sequence[Source], ended: datetime) -> StoredCounts:
    """Count what is stored of one exchange."""
    exchange = exchange_sources[0].exchange
    topics = {processed_topic(exchange.region, source.channel) for source in exchange_sources}

    def rows(table: str, end: datetime | None = None) -> int:
        return int(lake.scan(table, exchanges=[exchange.name], end=end).select(pl.len()).collect().item())

    return StoredCounts(
        rows=sum(rows(source.channel.value) for source in exchange_sources),
        live=sum(broker.end_offset(topic, exchange.partition) for topic in topics),
        dead=rows("dead"),
        gaps=rows("gap", ended),
    )


def _object_count(lake: Lake, exchange_sources: Sequence[Source]) -> int:
    channels = [source.channel.value for source in exchange_sources]
    tables = (*channels, *(f"raw_{channel}" for channel in channels), "dead", "gap")
    return sum(len(lake.windows(table, exchange_sources[0].exchange.name)) for table in tables)


def _latency(lake: Lake, exchange: str) -> Iterator[str]:
    """Yield percentiles, in ms, of the time from the exchange to us. Candles are left out, as they are sent late."""
    parts = [
        lake.scan(channel, exchanges=[exchange]).filter(pl.col("transport") == "ws")
        for channel in ("ticker", "orderbook", "trade")
    ]
    late = pl.concat([part.select((pl.col("received_time") - pl.col("exchange_time")).alias("age")) for part in parts])
    ages = late.collect()["age"].dt.total_microseconds() / 1000
    for quantile in QUANTILES:
        yield f"{ages.quantile(quantile) or 0:.1f}"
