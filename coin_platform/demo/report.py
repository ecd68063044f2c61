"""One self-contained HTML page about a lake: what is stored, prices, spreads, speed, gaps."""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake
from coin_platform.model import Channel
from coin_platform.tables import gap_table, quality, schema
from coin_platform.tables.premium import premium, prices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 300  # of a line; more of them look the same
QUICK = (Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE)  # told at once, so that their age is the latency
COLOURS = ("#2563eb", "#dc2626", "#16a34a", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#65a30d", "#4b5563", "#92400e")
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
    """What the caller has counted: a line for each exchange, its name first; what went wrong, if anything."""

    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    failures: Sequence[str] = ()


def write(path: Path, lake: Lake, exchanges: Sequence[str], summary: Summary) -> None:
    """Write the page about these exchanges of a lake; it needs no other file and no JavaScript."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(_page(lake, exchanges, summary)), encoding="utf-8")


def spreads(lake: Lake, exchanges: Sequence[str]) -> pl.DataFrame:
    """Return the spread of each `exchange` and `pair` in basis points of the middle: `median` and `p95`."""
    books = _read(lake, Channel.ORDERBOOK, exchanges, "pair", "best_bid", "best_ask", "spread")
    points = books.with_columns(points=pl.col("spread") / (pl.col("best_bid") + pl.col("best_ask")) * 2e4)
    quantiles = [pl.col("points").median().alias("median"), pl.col("points").quantile(0.95).alias("p95")]
    return points.drop_nulls("points").group_by("exchange", "pair").agg(quantiles).sort("exchange", "pair")


def minutes(lake: Lake, exchanges: Sequence[str]) -> pl.DataFrame:
    """Return how many `rows` of all tables each `exchange` has of each `minute` in which they were received."""
    found = pl.concat([_read(lake, channel, exchanges, "received_time") for channel in Channel])
    minute = pl.col("received_time").dt.truncate("1m").alias("minute")
    return found.group_by("exchange", minute).agg(rows=pl.len()).sort("exchange", "minute")


def latencies(lake: Lake, exchanges: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return `quality.latency` of what each exchange streams."""
    times = ("transport", "received_time", "exchange_time")
    found = pl.concat([_read(lake, channel, exchanges, *times) for channel in QUICK])
    streamed = found.filter(pl.col("transport") == "ws")
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
    """Return columns of a table, and `exchange`, of those exchanges that have it."""
    have = [name for name in exchanges if lake.windows(table, name)]
    if not have:
        return pl.DataFrame(schema={"exchange": pl.String, **{name: schema.TABLES[table][name] for name in columns}})
    return lake.scan(table, exchanges=have).select("exchange", *columns).collect()


def _page(lake: Lake, exchanges: Sequence[str], summary: Summary) -> Iterator[str]:
    yield "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>coin_platform: report</title>"
    yield f"<style>{STYLE}</style></head><body><h1>What was collected</h1>"
    yield f"<p>Made at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, from the lake alone. All times are UTC.</p>"
    if summary.failures:
        yield from (f"<p class=wrong>{html.escape(line)}</p>" for line in summary.failures)
    else:
        yield "<p class=right>Everything adds up.</p>"
    yield from _table(summary.columns, summary.lines)
    found = prices(_read(lake, Channel.TICKER, exchanges, "pair", "received_time", "last"))
    if not found.is_empty():
        yield "<h2>Prices</h2><p>In dollars. Won are converted with the same exchange's USDT-KRW, so what remains "
        yield "between the Korean exchanges (thick) and the others (thin) is the kimchi premium.</p>"
        yield _image("prices of all exchanges", _prices(found, exchanges))
        lines = premium(found).select("base", "exchange", "price", "elsewhere", "premium").iter_rows()
        head = ("base", "exchange", "median price", "median elsewhere", "premium")
        yield from _table(head, ((b, x, f"{p:,.6g}", f"{e:,.6g}", f"{r:+.2%}") for b, x, p, e, r in lines))
    yield from _books(spreads(lake, exchanges))
    counted = minutes(lake, exchanges)
    if not counted.is_empty():
        yield "<h2>Rows per minute</h2><p>Of all tables, by when they were received.</p>"
        yield _image("rows per minute", _rows(counted, exchanges))
    yield "<h2>Latency</h2><p>From the exchange's time to ours, of what is streamed, in milliseconds.</p>"
    late = latencies(lake, exchanges)
    yield from _table(
        ("exchange", "p50", "p95", "p99"),
        ((name, *(f"{value:.1f}" for value in late[name].values())) for name in exchanges if late[name]),
    )
    yield "<h2>Gaps</h2>"
    holes = list(gaps(lake, exchanges))
    if holes:
        yield from _table(("exchange", "channel", "pairs", "from", "to", "seconds", "cause", "reason"), holes)
    else:
        yield "<p>None: no frame is missing, and no book was ever out of step.</p>"
    yield "</body></html>\n"


def _books(found: pl.DataFrame) -> Iterator[str]:
    if found.is_empty():
        return
    yield "<h2>Spreads</h2><p>Between best bid and best ask, in basis points of their middle: median and p95.</p>"
    yield _image("spreads", _spreads(found))


def _table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in columns)}</tr>"
    for line in lines:
        yield f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in line)}</tr>"
    yield "</table>"


def _image(name: str, figure: "Figure") -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    encoded = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/png;base64,{encoded}">'


def _figure(rows: int, columns: int, height: float) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for plot in axes:
        plot.spines[["top", "right"]].set_visible(False)
        plot.tick_params(labelsize=8, colors="#4b5563")
        plot.grid(axis="y", color="#f3f4f6")
    return figure, axes


def _times(plot: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    plot.xaxis.set_major_locator(locator)
    plot.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _prices(found: pl.DataFrame, exchanges: Sequence[str]) -> "Figure":
    bases = found["base"].unique().sort().to_list()
    rows = (len(bases) + 1) // 2
    figure, axes = _figure(rows, 2, 0.5 + 2.6 * rows)
    for plot, base in zip(axes, bases, strict=False):
        plot.set_title(base, loc="left", fontsize=10)
        for number, name in enumerate(exchanges):
            line = found.filter((pl.col("base") == base) & (pl.col("exchange") == name))
            thin = line.gather_every(max(1, line.height // POINTS))
            width = 1.6 if EXCHANGES[name].quote == "KRW" else 0.8
            colour = COLOURS[number % len(COLOURS)]
            plot.plot(thin["time"].to_list(), thin["price"].to_list(), color=colour, linewidth=width, label=name)
        _times(plot)
    for plot in axes[len(bases) :]:
        plot.set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=10, fontsize=8, frameon=False)
    return figure


def _spreads(found: pl.DataFrame) -> "Figure":
    figure, [plot] = _figure(1, 1, 1 + 0.17 * found.height)
    labels = [f"{name} {pair}" for name, pair in found.select("exchange", "pair").iter_rows()]
    places = range(found.height)
    plot.hlines(places, found["median"].to_list(), found["p95"].to_list(), color="#93c5fd", linewidth=4)
    plot.plot(found["median"].to_list(), places, "o", color=COLOURS[0], markersize=4)
    plot.set_yticks(places, labels, fontsize=7)
    plot.invert_yaxis()
    plot.set_xlabel("basis points", fontsize=8)
    return figure


def _rows(counted: pl.DataFrame, exchanges: Sequence[str]) -> "Figure":
    figure, [plot] = _figure(1, 1, 3)
    for number, name in enumerate(exchanges):
        line = counted.filter(pl.col("exchange") == name)
        colour = COLOURS[number % len(COLOURS)]
        plot.plot(line["minute"].to_list(), line["rows"].to_list(), "o-", color=colour, markersize=3, label=name)
    plot.set_ylim(bottom=0)
    _times(plot)
    figure.legend(*plot.get_legend_handles_labels(), loc="outside upper center", ncols=10, fontsize=8, frameon=False)
    return figure
