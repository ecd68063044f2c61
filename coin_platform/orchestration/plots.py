"""Small plots of a window's rows for the metadata of its materialisation: one line for each pair."""

import base64
import io
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg
import polars as pl

from coin_platform.model import SECOND, Channel, Microseconds, Window

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

LIMIT_BYTES = 5 << 10  # of one PNG: each materialisation keeps its own for ever
MOST_PAIRS = 8  # for which a plot has room
BINS = 120  # points of a line; more points look the same
RESOLUTIONS_DPI = (84, 72, 60)  # the plot has the first resolution and the most colours that fit into `LIMIT_BYTES`
COLOURS = (6, 4, 3)
WIDTH, ROW_HEIGHT = 5.5, 0.3  # inches
LINE_LEFT, LINE_RIGHT = 0.95, 3.1  # inches, between which the lines are drawn
NUMBERS_RIGHT = (3.9, 4.7, 5.45)  # inches, the right edges of the columns of numbers
VALUE_TITLES, SUM_TITLES = ("last", "low", "high"), ("sum", "smallest", "largest")  # of the columns of numbers
TEXT_COLOUR, FAINT_COLOUR, LINE_COLOUR = "#1f2937", "#6b7280", "#2563eb"


class Plot(NamedTuple):
    """What is drawn of a channel: one value of each row, and one point for the rows of each bin."""

    name: str
    caption: str
    value: pl.Expr
    point: pl.Expr
    time: str = "log_time"
    is_sum: bool = False  # drawn as columns from zero


MIDDLE = (pl.col("best_bid") + pl.col("best_ask")) / 2
VALUE = pl.col("value")
PLOTS = {
    Channel.TICKER: Plot("price", "last price", pl.col("last"), VALUE.last()),
    Channel.ORDERBOOK: Plot("spread", "spread, basis points", pl.col("spread") / MIDDLE * 1e4, VALUE.median()),
    Channel.TRADE: Plot("volume", "traded volume, base currency", pl.col("size"), VALUE.sum(), is_sum=True),
    Channel.CANDLE: Plot("close", "close of each minute", pl.col("close"), VALUE.last(), time="open_time"),
}


def plots(channel: Channel, rows: pl.DataFrame, window: Window) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the plot of a window's rows by its name (`price`, `spread` …), or nothing if there are no values.

    The same rows give the same bytes. The PNG has at most `LIMIT_BYTES`.
    """
    plot = PLOTS.get(channel)
    if plot is None:
        return {}
    values = rows.select("pair", time=pl.col(plot.time).to_physical(), value=plot.value).drop_nulls()
    if values.is_empty():
        return {}
    times = values["time"]
    if plot.time == "open_time":  # the candles of a window begin before the window
        window = Window(int(times.min()), max(int(times.max()), int(times.min()) + 1))  # type: ignore[arg-type]
    encoded = base64.b64encode(png(plot, values.sort("pair", "time", maintain_order=True), window)).decode()
    return {plot.name: dg.MetadataValue.md(f"![{plot.name}](data:image/png;base64,{encoded})")}


def png(plot: Plot, values: pl.DataFrame, window: Window) -> bytes:
    """Draw the columns `pair`, `time` (µs) and `value`, which are sorted, as a PNG."""
    from PIL import Image  # imported here: PIL and matplotlib take longer to load than all definitions

    canvas, data = _canvas(plot, values, window), b""
    for resolution in RESOLUTIONS_DPI:
        canvas.figure.set_dpi(resolution)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = bytes(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        image = Image.frombytes("RGBA", canvas.get_width_height(), pixels).convert("RGB")
        for colours in COLOURS:
            file = io.BytesIO()
            image.quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
            data = file.getvalue()
            if len(data) <= LIMIT_BYTES:
                return data
    return data


def _canvas(plot: Plot, values: pl.DataFrame, window: Window) -> "FigureCanvasAgg":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    pairs = values.partition_by("pair", maintain_order=True)
    shown_pairs = pairs[:MOST_PAIRS]
    height = ROW_HEIGHT * len(shown_pairs) + 0.5
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    inches = figure.dpi_scale_trans  # there are no axes, which would take most of the time

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x, y, text, **{"transform": inches, "va": "center", "fontsize": 8, "color": FAINT_COLOUR, **style})

    more = f" (and {len(pairs) - MOST_PAIRS} more pairs)" if len(pairs) > MOST_PAIRS else ""
    write(0.05, height - 0.13, plot.caption + more)
    for x, title in zip(NUMBERS_RIGHT, SUM_TITLES if plot.is_sum else VALUE_TITLES, strict=True):
        write(x, height - 0.13, title, ha="right")
    lines: list[list[tuple[float, float]]] = []
    for number, rows in enumerate(shown_pairs, 1):
        bottom, series = height - 0.22 - ROW_HEIGHT * number, rows["value"]
        write(0.05, bottom + ROW_HEIGHT / 2, rows["pair"][0], color=TEXT_COLOUR)
        first = series.sum() if plot.is_sum else series[-1]
        for x, value in zip(NUMBERS_RIGHT, (first, series.min(), series.max()), strict=True):
            text = digits(value)  # type: ignore[arg-type]  # the column holds floats
            write(x, bottom + ROW_HEIGHT / 2, text, color=TEXT_COLOUR, ha="right", fontsize=7)
        lines += _lines(plot, rows, window, bottom)
    figure.add_artist(LineCollection(lines, colors=LINE_COLOUR, linewidths=0.9, antialiaseds=False, transform=inches))
    write(LINE_LEFT, 0.12, _clock(window.start), fontsize=7)
    write(LINE_RIGHT, 0.12, f"{_clock(window.stop)} UTC", fontsize=7, ha="right")
    return FigureCanvasAgg(figure)


def _lines(plot: Plot, rows: pl.DataFrame, window: Window, bottom: float) -> list[list[tuple[float, float]]]:
    """Return the line of one pair, or its columns, in inches."""
    bin_number = (pl.col("time") - window.start) * BINS // (window.stop - window.start)
    points = rows.group_by(bin_number.alias("time"), maintain_order=True).agg(plot.point)
    low = 0.0 if plot.is_sum else float(points["value"].min())  # type: ignore[arg-type]
    high = float(points["value"].max())  # type: ignore[arg-type]
    scale, base = (ROW_HEIGHT - 0.08) / ((high - low) or 1.0), bottom + 0.04
    middle = (ROW_HEIGHT - 0.08) / 2 if high == low else 0.0
    step = (LINE_RIGHT - LINE_LEFT) / BINS
    line = [(LINE_LEFT + step * time, base + middle + scale * (value - low)) for time, value in points.iter_rows()]
    return [[(x, base), (x, y)] for x, y in line] if plot.is_sum else [line]


def digits(value: float) -> str:
    """Write a number with five digits, or with all digits before the point: 118,345,000, 2.4013, 1.23e-05."""
    exponent = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.3g}" if exponent < -3 else f"{value:,.{max(0, 4 - exponent)}f}"


def _clock(time: Microseconds) -> str:
    return f"{datetime.fromtimestamp(time / SECOND, UTC):%H:%M:%S}"
