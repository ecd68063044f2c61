"""Draw the charts of the report."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from coin_platform.exchanges import EXCHANGES

if TYPE_CHECKING:  # importing matplotlib takes a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_POINTS = 300  # for each line: more points look the same
COLOURS = ("#2563eb", "#dc2626", "#16a34a", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#65a30d", "#4b5563", "#92400e")


def price_chart(prices: pl.DataFrame, exchanges: Sequence[str]) -> "Figure":
    """Draw the prices of each base currency, a line for each exchange. Korean exchanges are thick."""
    bases = prices["base"].unique().sort().to_list()
    rows = (len(bases) + 1) // 2
    figure, axes = _figure(rows, 2, 0.5 + 2.6 * rows)
    for plot, base in zip(axes, bases, strict=False):
        plot.set_title(base, loc="left", fontsize=10)
        for number, name in enumerate(exchanges):
            line = prices.filter((pl.col("base") == base) & (pl.col("exchange") == name))
            points = line.gather_every(max(1, line.height // LINE_POINTS))
            width = 1.6 if EXCHANGES[name].quote == "KRW" else 0.8
            colour = COLOURS[number % len(COLOURS)]
            plot.plot(points["time"].to_list(), points["price"].to_list(), color=colour, linewidth=width, label=name)
        _set_time_axis(plot)
    for plot in axes[len(bases) :]:
        plot.set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=10, fontsize=8, frameon=False)
    return figure


def spread_chart(spreads: pl.DataFrame) -> "Figure":
    """Draw the median and the 95th percentile of each spread."""
    figure, [plot] = _figure(1, 1, 1 + 0.17 * spreads.height)
    labels = [f"{name} {pair}" for name, pair in spreads.select("exchange", "pair").iter_rows()]
    places = range(spreads.height)
    plot.hlines(places, spreads["median"].to_list(), spreads["p95"].to_list(), color="#93c5fd", linewidth=4)
    plot.plot(spreads["median"].to_list(), places, "o", color=COLOURS[0], markersize=4)
    plot.set_yticks(places, labels, fontsize=7)
    plot.invert_yaxis()
    plot.set_xlabel("basis points", fontsize=8)
    return figure


def row_chart(counted: pl.DataFrame, exchanges: Sequence[str]) -> "Figure":
    """Draw the rows of each minute, a line for each exchange."""
    figure, [plot] = _figure(1, 1, 3)
    for number, name in enumerate(exchanges):
        line = counted.filter(pl.col("exchange") == name)
        colour = COLOURS[number % len(COLOURS)]
        plot.plot(line["minute"].to_list(), line["rows"].to_list(), "o-", color=colour, markersize=3, label=name)
    plot.set_ylim(bottom=0)
    _set_time_axis(plot)
    figure.legend(*plot.get_legend_handles_labels(), loc="outside upper center", ncols=10, fontsize=8, frameon=False)
    return figure


def encoded_png(figure: "Figure") -> str:
    """Return a figure as a PNG in Base64."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return base64.b64encode(file.getvalue()).decode()


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


def _set_time_axis(plot: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    plot.xaxis.set_major_locator(locator)
    plot.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
