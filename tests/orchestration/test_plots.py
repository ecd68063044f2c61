"""Plots in the metadata are small, the same for the same rows, and show the right values."""

import base64
import io
import math
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from PIL import Image

from coin_platform.model import SECOND, Channel, Window
from coin_platform.orchestration.plots import BINS, LIMIT_BYTES, PLOTS, digits, plots
from coin_platform.tables import schema

START = datetime(2026, 11, 2, tzinfo=UTC)
BEGIN = int(START.timestamp()) * SECOND
WINDOW = Window(BEGIN, BEGIN + 60 * SECOND)
BASES = ("BTC", "ETH", "SOL", "USDT", "XRP", "DOGE", "ADA", "TRX", "AVAX", "SHIB", "LINK", "PEPE")


def noise(channel: Channel, pairs: int, count: int = 600) -> pl.DataFrame:
    """Return rows of a channel that jump about: nothing compresses worse."""
    chance = random.Random(1)
    rows = []
    for base in BASES[:pairs]:
        for number in range(count):
            time, price = START + timedelta(seconds=60 * number / count), 118_000_000 * (1 + chance.random())
            prices = {"pair": f"{base}-KRW", "log_time": time, "open_time": time, "last": price, "close": price}
            book = {"spread": chance.random(), "best_bid": 10.0, "best_ask": 10.0}
            rows.append({**prices, **book, "size": chance.random()})
    wanted = schema.CURATED[channel]
    return pl.DataFrame([{name: row.get(name) for name in wanted} for row in rows], schema=wanted)


def image(channel: Channel, rows: pl.DataFrame) -> tuple[bytes, Image.Image]:
    """Return the PNG of a picture, and what it shows."""
    [metadata] = plots(channel, rows, WINDOW).values()
    start, _, encoded = str(metadata.value).partition(",")
    assert start == f"![{PLOTS[channel].name}](data:image/png;base64"
    data = base64.b64decode(encoded.removesuffix(")"), validate=True)
    return data, Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("pairs", [1, 5, 12])
@pytest.mark.parametrize("channel", list(PLOTS))
def test_a_picture_is_small_whatever_it_shows(channel: Channel, pairs: int) -> None:
    data, shown = image(channel, noise(channel, pairs))
    assert len(data) <= LIMIT_BYTES
    assert shown.width >= 320


def test_the_same_rows_give_the_same_bytes_in_whichever_order() -> None:
    rows = noise(Channel.TICKER, 3, count=100)
    assert image(Channel.TICKER, rows)[0] == image(Channel.TICKER, rows.sample(fraction=1, shuffle=True, seed=3))[0]


def line(shown: Image.Image, x: float) -> list[int]:
    """Return where the line is at a part of its width, in pixels from the top."""
    left, right = int(shown.width * 0.95 / 5.5) + 2, int(shown.width * 3.1 / 5.5) - 3
    column = round(left + x * (right - left))
    return [y for y in range(shown.height) if _is_blue(shown.getpixel((column, y)))]


def _is_blue(pixel: object) -> bool:
    assert isinstance(pixel, tuple)
    red, _, blue = pixel
    return bool(blue > red + 80)


def test_a_price_that_rises_is_a_line_that_rises() -> None:
    rows = noise(Channel.TICKER, 1).with_columns(last=pl.int_range(pl.len()).cast(pl.Float64))
    _, shown = image(Channel.TICKER, rows)
    places = [line(shown, x / 10) for x in range(11)]
    assert all(max(after) < max(before) for before, after in pairwise(places))


def test_a_pair_that_fell_silent_has_no_line_from_then_on() -> None:
    _, shown = image(Channel.TICKER, noise(Channel.TICKER, 1, count=600).head(300))
    assert line(shown, 0.4)
    assert line(shown, 0.6) == []


def test_a_spread_is_told_in_basis_points_of_the_middle() -> None:
    rows = noise(Channel.ORDERBOOK, 1, count=1).with_columns(spread=2.0, best_bid=99.0, best_ask=101.0)
    value = rows.select(PLOTS[Channel.ORDERBOOK].value).item()
    assert math.isclose(value, 200.0)


def test_unknown_values_and_empty_windows_give_no_picture() -> None:
    rows = noise(Channel.ORDERBOOK, 1)
    assert plots(Channel.ORDERBOOK, rows.head(0), WINDOW) == {}
    assert plots(Channel.ORDERBOOK, rows.with_columns(spread=pl.lit(None, pl.Float64)), WINDOW) == {}


def test_one_row_and_a_price_that_stands_still_are_drawn() -> None:
    for channel in PLOTS:
        image(channel, noise(channel, 1, count=1))
    rows = noise(Channel.TICKER, 1).with_columns(last=5.0)
    _, shown = image(Channel.TICKER, rows)
    assert line(shown, 0.1) == line(shown, 0.9)
    assert rows.height > BINS, "or this would not test what many rows at one moment become"


@pytest.mark.parametrize(
    ("value", "text"),
    [(118_345_000.4, "118,345,000"), (2.40126, "2.4013"), (0.0, "0.0000"), (0.0123456, "0.012346"), (1e-5, "1e-05")],
)
def test_numbers_are_written_with_the_digits_that_matter(value: float, text: str) -> None:
    assert digits(value) == text


def test_definitions_load_without_matplotlib() -> None:
    code = "import sys, coin_platform.orchestration.definitions; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
