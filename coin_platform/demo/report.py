"""Write one HTML page about a lake: what is stored, prices, spreads, latency and gaps."""

import html
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from coin_platform.demo import charts
from coin_platform.lake import Lake
from coin_platform.model import Channel
from coin_platform.tables import gap_table, quality, schema
from coin_platform.tables.premium import premium, prices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPT_CHANNELS = (Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE)  # sent at once, so that their age is the latency
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 1120px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em; margin-bottom: 0 } h2 { font-size: 1.2em; margin-top: 2em }
p { color: #4b5563; max-width: 48em }
table { border-collapse: collapse; font-size: 13px }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #e5e7eb; font-variant-numeric: tabular-nums }
th { color: #6b7280; font-weight: 500 } th:first-child, td:first-child { text-align: left }
img { max-width: 100%; display: block } .right { color: #15803d } .wrong { color: #b91c1c; font-weight: 600 }
"""


class Summary(NamedTuple):
    """What the caller has counted: a line for each exchange, which begins with its name, and what went wrong."""

    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    failures: Sequence[str] = ()


def write(path: Path, lake: Lake, exchanges: Sequence[str], summary: Summary) -> None:
    """Write the page about these exchanges of a lake. The page needs no other file and no JavaScript."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(_page(lake, exchanges, summary)), encoding="utf-8")


def spreads(lake: Lake, exchanges: Sequence[str]) -> pl.DataFrame:
    """Return the spread of each `exchange` and `pair` in basis points of the middle: `median` and `p95`."""
    books = _read(lake, Channel.ORDERBOOK, exchanges, "pair", "best_bid", "best_ask", "spread")
    points = books.with_columns(points=pl.col("spread") / (pl.col("best_bid") + pl.col("best_ask")) * 2e4)
    quantiles = [pl.col("points").median().alias("median"), pl.col("points").quantile(0.95).alias("p95")]
    return points.drop_nulls("points").group_by("exchange", "pair").agg(quantiles).sort("exchange", "pair")


def minutes(lake: Lake, exchanges: Sequence[str]) -> pl.DataFrame:
    """Return the number of `rows` of all tables for each `exchange` and `minute` in which they were received."""
    rows = pl.concat([_read(lake, channel, exchanges, "received_time") for channel in Channel])
    minute = pl.col("received_time").dt.truncate("1m").alias("minute")
    return rows.group_by("exchange", minute).agg(rows=pl.len()).sort("exchange", "minute")


def latencies(lake: Lake, exchanges: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return `quality.latency` of the streamed rows of each exchange."""
    times = ("transport", "received_time", "exchange_time")
    rows = pl.concat([_read(lake, channel, exchanges, *times) for channel in PROMPT_CHANNELS])
    streamed = rows.filter(pl.col("transport") == "ws")
    return {name: quality.latency(streamed.filter(pl.col("exchange") == name)) for name in exchanges}


def gaps(lake: Lake, exchanges: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield exchange, channel, pairs, from, to, seconds, cause and reason of every gap, oldest first."""
    for row in gap_table.together(_read(lake, "gap", exchanges, *schema.GAP)).iter_rows(named=True):
        begin, end = row["from"], row["to"]
        length = "" if end is None else f"{(end - begin).total_seconds():,.1f}"
        cause = f"{row['cause']}, filled by {row['filled_by']}" if row["filled_by"] else row["cause"]
        times = (f"{begin:%Y-%m-%d %H:%M:%S}", f"{end:%H:%M:%S}" if end else "lasts", length)
        yield row["exchange"], row["channel"], row["pairs"], *times, cause, row["reason"]


def _read(lake: Lake, table: str, exchanges: Sequence[str], *columns: str) -> pl.DataFrame:
    """Return `exchange` and some columns of a table, for the exchanges that have it."""
    present = [name for name in exchanges if lake.windows(table, name)]
    if not present:
        return pl.DataFrame(schema={"exchange": pl.String, **{name: schema.TABLES[table][name] for name in columns}})
    return lake.scan(table, exchanges=present).select("exchange", *columns).collect()


def _page(lake: Lake, exchanges: Sequence[str], summary: Summary) -> Iterator[str]:
    yield "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>coin_platform: report</title>"
    yield f"<style>{STYLE}</style></head><body><h1>What was collected</h1>"
    yield f"<p>Written at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, from the lake alone. All times are UTC.</p>"
    if summary.failures:
        yield from (f"<p class=wrong>{html.escape(line)}</p>" for line in summary.failures)
    else:
        yield "<p class=right>Everything adds up.</p>"
    yield from _table(summary.columns, summary.lines)
    converted = prices(_read(lake, Channel.TICKER, exchanges, "pair", "received_time", "last"))
    if not converted.is_empty():
        yield "<h2>Prices</h2><p>In dollars. Won are converted with USDT-KRW of the same exchange. "
        yield "The difference between the Korean exchanges (thick) and the others (thin) is the kimchi premium.</p>"
        yield _image("prices of all exchanges", charts.price_chart(converted, exchanges))
        lines = premium(converted).select("base", "exchange", "price", "elsewhere", "premium").iter_rows()
        head = ("base", "exchange", "median price", "median elsewhere", "premium")
        yield from _table(
            head,
            (
                (base, name, f"{price:,.6g}", f"{elsewhere:,.6g}", f"{rate:+.2%}")
                for base, name, price, elsewhere, rate in lines
            ),
        )
    yield from _spread_part(spreads(lake, exchanges))
    counted = minutes(lake, exchanges)
    if not counted.is_empty():
        yield "<h2>Rows per minute</h2><p>Rows of all tables, by the minute in which they were received.</p>"
        yield _image("rows per minute", charts.row_chart(counted, exchanges))
    yield "<h2>Latency</h2><p>From the time of the exchange to ours, for streamed rows, in milliseconds.</p>"
    ages = latencies(lake, exchanges)
    yield from _table(
        ("exchange", "p50", "p95", "p99"),
        ((name, *(f"{value:.1f}" for value in ages[name].values())) for name in exchanges if ages[name]),
    )
    yield "<h2>Gaps</h2>"
    gap_rows = list(gaps(lake, exchanges))
    if gap_rows:
        yield from _table(("exchange", "channel", "pairs", "from", "to", "seconds", "cause", "reason"), gap_rows)
    else:
        yield "<p>None: no frame is missing, and every book kept its sequence.</p>"
    yield "</body></html>\n"


def _spread_part(table: pl.DataFrame) -> Iterator[str]:
    if table.is_empty():
        return
    yield "<h2>Spreads</h2><p>From best bid to best ask, in basis points of their middle: median and p95.</p>"
    yield _image("spreads", charts.spread_chart(table))


def _table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in columns)}</tr>"
    for line in lines:
        yield f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in line)}</tr>"
    yield "</table>"


def _image(name: str, figure: "Figure") -> str:
    return f'<img alt="{html.escape(name)}" src="data:image/png;base64,{charts.encoded_png(figure)}">'
