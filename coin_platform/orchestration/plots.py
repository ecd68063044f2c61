"""Small pictures of a window's rows for the metadata of its materialisation: a line for each pair."""

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

LIMIT = 5 << 10  # bytes of a picture: each event keeps its own, for ever
PAIRS = 8  # what there is room for
BINS = 120  # points of a line; more of them look the same
DOTS, COLOURS = (84, 72, 60), (6, 4, 3)  # dots an inch: the first that fit, with as many colours as fit
WIDTH, ROW, LEFT, RIGHT = 5.5, 0.3, 0.95, 3.1  # inches; the lines are between LEFT and RIGHT
COLUMNS = (3.9, 4.7, 5.45)  # where the numbers end
LAST, SUM = ("last", "low", "high"), ("sum", "smallest", "largest")  # which numbers
INK, FAINT, LINE = "#1f2937", "#6b7280", "#2563eb"


class Plot(NamedTuple):
    """What is drawn of a channel: a value of each row, and what stands for the rows of one moment."""

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


def pictures(channel: Channel, rows: pl.DataFrame, window: Window) -> dict[str, dg.MarkdownMetadataValue]:
    """Return a picture of a window's rows, named after what it shows (`price`, `spread` …); none without rows.

    The same rows give the same bytes; the PNG has at most `LIMIT` of them.
    """
    plot = PLOTS[channel]
    found = rows.select("pair", time=pl.col(plot.time).to_physical(), value=plot.value).drop_nulls()
    if found.is_empty():
        return {}
    times = found["time"]
    if plot.time == "open_time":  # a window is told of the minutes before it, too
        window = Window(int(times.min()), max(int(times.max()), int(times.min()) + 1))  # type: ignore[arg-type]
    encoded = base64.b64encode(png(plot, found.sort("pair", "time", maintain_order=True), window)).decode()
    return {plot.name: dg.MetadataValue.md(f"![{plot.name}](data:image/png;base64,{encoded})")}


def png(plot: Plot, found: pl.DataFrame, window: Window) -> bytes:
    """Draw columns `pair`, `time` (µs) and `value`, sorted, as a PNG."""
    from PIL import Image  # matplotlib needs it; both take longer to load than all that Dagster is told

    canvas, data = _canvas(plot, found, window), b""
    for dots in DOTS:
        canvas.figure.set_dpi(dots)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = bytes(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        image = Image.frombytes("RGBA", canvas.get_width_height(), pixels).convert("RGB")
        for colours in COLOURS:
            file = io.BytesIO()
            image.quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
            data = file.getvalue()
            if len(data) <= LIMIT:
                return data
    return data


def _canvas(plot: Plot, found: pl.DataFrame, window: Window) -> "FigureCanvasAgg":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    pairs = found.partition_by("pair", maintain_order=True)
    shown = pairs[:PAIRS]
    height = ROW * len(shown) + 0.5
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    inches = figure.dpi_scale_trans  # no axes: they would take most of the time

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x, y, text, **{"transform": inches, "va": "center", "fontsize": 8, "color": FAINT, **style})

    more = f" (and {len(pairs) - PAIRS} more pairs)" if len(pairs) > PAIRS else ""
    write(0.05, height - 0.13, plot.caption + more)
    for x, title in zip(COLUMNS, SUM if plot.is_sum else LAST, strict=True):
        write(x, height - 0.13, title, ha="right")
    lines: list[list[tuple[float, float]]] = []
    for number, rows in enumerate(shown, 1):
        bottom, values = height - 0.22 - ROW * number, rows["value"]
        write(0.05, bottom + ROW / 2, rows["pair"][0], color=INK)
        last = values.sum() if plot.is_sum else values[-1]
        for x, value in zip(COLUMNS, (last, values.min(), values.max()), strict=True):
            write(x, bottom + ROW / 2, digits(value), color=INK, ha="right", fontsize=7)  # type: ignore[arg-type]
        lines += _lines(plot, rows, window, bottom)
    figure.add_artist(LineCollection(lines, colors=LINE, linewidths=0.9, antialiaseds=False, transform=inches))
    write(LEFT, 0.12, _clock(window.start), fontsize=7)
    write(RIGHT, 0.12, f"{_clock(window.stop)} UTC", fontsize=7, ha="right")
    return FigureCanvasAgg(figure)


def _lines(plot: Plot, rows: pl.DataFrame, window: Window, bottom: float) -> list[list[tuple[float, float]]]:
    """Return the line of one pair, or its columns, in inches."""
    place = (pl.col("time") - window.start) * BINS // (window.stop - window.start)
    points = rows.group_by(place.alias("time"), maintain_order=True).agg(plot.point)
    low = 0.0 if plot.is_sum else float(points["value"].min())  # type: ignore[arg-type]
    high = float(points["value"].max())  # type: ignore[arg-type]
    reach, base = (ROW - 0.08) / ((high - low) or 1.0), bottom + 0.04
    middle = (ROW - 0.08) / 2 if high == low else 0.0
    step = (RIGHT - LEFT) / BINS
    line = [(LEFT + step * time, base + middle + reach * (value - low)) for time, value in points.iter_rows()]
    return [[(x, base), (x, y)] for x, y in line] if plot.is_sum else [line]


def digits(value: float) -> str:
    """Write a number with five digits, or all those before the point: 118,345,000, 2.4013, 1.23e-05."""
    size = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.3g}" if size < -3 else f"{value:,.{max(0, 4 - size)}f}"


def _clock(time: Microseconds) -> str:
    return f"{datetime.fromtimestamp(time / SECOND, UTC):%H:%M:%S}"
