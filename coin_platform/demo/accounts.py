"""The accounts of a demo: what the exchanges sent against what the lake holds, and how late it came."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
from rich.console import Console
from rich.table import Table

from coin_platform.broker import connect
from coin_platform.demo.report import Summary, write
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, open_lake
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import Settings
from coin_platform.simulator.sent_log import digest
from coin_platform.tables.transform import FrameOutcome
from coin_platform.topic_names import processed_topic


def failures(home: Path) -> list[str]:
    """Return a line for each failed check and each failed window run, from Dagster's own event log.

    Not for gaps: the exchanges end before the last window, so the report counts those that began before.
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
    missing: int
    double: int
    without_rows: int  # stored market data that gave no row, and is not declared as a double or as before its book
    declared: int


def balance(lake: Lake, found: Sequence[Source], sent: Counter[str], data: Counter[str]) -> Balance:
    """Compare the hashes of messages that an exchange sent with the stored frames, and its data with the rows of it."""
    stored: Counter[str] = Counter()
    without = declared = 0
    for source in found:
        kind, channel = source.exchange, source.channel.value
        frames = lake.scan(f"raw_{channel}", exchanges=[kind.name]).filter(pl.col("kind") == "w").collect()
        names = [digest(payload) for payload in frames["payload"]]
        stored.update(names)
        facts = [lake.provenance(channel, kind.name, window) or {} for window in lake.windows(channel, kind.name)]
        outcomes = Counter({name: sum(int(fact[f"frames_{name}"]) for fact in facts) for name in FrameOutcome})
        # a book that is bridged over REST waits for it; other books have no such excuse
        declared += (
            outcomes[FrameOutcome.DUPLICATE]
            + outcomes[FrameOutcome.IGNORED]
            + kind.is_bridged * outcomes[FrameOutcome.INVALID]
        )
        told = sum(name in data for name in names)
        # frames over REST are not in the log of what was sent, so this can only err on the strict side
        rest = sum(int(fact["frames"]) for fact in facts) - frames.height
        without += max(0, told + rest - outcomes[FrameOutcome.ROWS] - outcomes[FrameOutcome.DEAD]) if facts else told
    return Balance(
        sent=sum(sent.values()),
        missing=(sent - stored).total(),
        double=(stored - sent).total(),
        without_rows=max(0, without - declared),
        declared=declared,
    )


def report(settings: Settings, home: Path, ended: datetime, failed: list[str], console: Console) -> int:
    """Print what was sent and what is stored, per exchange; 0 only if it adds up, without a gap before `ended`."""
    lake, broker = open_lake(settings), connect(settings)
    sent: dict[str, Counter[str]] = {}
    data: dict[str, Counter[str]] = {}
    with (home / "data/simulator/sent.jsonl").open(encoding="utf-8") as log:
        for line in map(json.loads, log):
            sent.setdefault(line["exchange"], Counter())[line["hash"]] += 1
            if line["kind"] == "data":
                data.setdefault(line["exchange"], Counter())[line["hash"]] += 1
    names = ("sent", "missing", "double", "no row", "declared", "rows", "live", "dead", "gaps", "p50 ms", "p95", "p99")
    columns, lines = ("exchange", *names, "files"), []
    is_right = not failed
    for kind in exchanges_of(None, settings):
        name, found = kind.name, list(sources(kind, settings))
        balanced = balance(lake, found, sent.get(name, Counter()), data.get(name, Counter()))
        channels = [source.channel.value for source in found]
        rows = sum(lake.scan(channel, exchanges=[name]).select(pl.len()).collect().item() for channel in channels)
        windows = {t: lake.windows(t, name) for t in (*channels, *(f"raw_{c}" for c in channels), "dead", "gap")}
        gaps = lake.scan("gap", exchanges=[name], end=ended).select(pl.len()).collect().item()
        dead = lake.scan("dead", exchanges=[name]).select(pl.len()).collect().item()
        outs = {processed_topic(kind.region, source.channel) for source in found}
        live = sum(broker.end_offset(out, kind.partition) for out in outs)
        numbers = [*balanced, rows, live, dead, gaps, *_latency(lake, name)]
        lines.append((name, *map(str, numbers), str(sum(map(len, windows.values())))))
        wrong = balanced.missing or balanced.double or balanced.without_rows or dead or gaps
        is_right = is_right and balanced.sent > 0 and live > 0 and not wrong
    broker.close()
    table = Table(*columns)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for line in failed:
        console.print(f"FAILED {line}")
    wrongs = failed if is_right or failed else ["the numbers do not add up"]
    write(home / "report.html", lake, [line[0] for line in lines], Summary(columns, lines, wrongs))
    console.print(f"report: {home / 'report.html'}")
    console.print("everything adds up: sent = stored" if is_right else "the numbers do NOT add up")
    return 0 if is_right else 1


def _latency(lake: Lake, exchange: str) -> Iterator[str]:
    """Yield the percentiles of exchange time to received time in ms, of what is told at once."""
    parts = [
        lake.scan(channel, exchanges=[exchange]).filter(pl.col("transport") == "ws")
        for channel in ("ticker", "orderbook", "trade")
    ]
    late = pl.concat([part.select((pl.col("received_time") - pl.col("exchange_time")).alias("age")) for part in parts])
    ages = late.collect()["age"].dt.total_microseconds() / 1000
    for quantile in (0.5, 0.95, 0.99):
        yield f"{ages.quantile(quantile) or 0:.1f}"
