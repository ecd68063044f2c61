"""The report shows the numbers of the lake, a line for each exchange, and charts."""

import base64
import io
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from coin_platform.demo import report
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import SECOND, Window
from coin_platform.tables import schema
from coin_platform.tables.premium import prices

START = datetime(2026, 11, 2, tzinfo=UTC)
BEGIN = int(START.timestamp()) * SECOND
WINDOW = Window(BEGIN, BEGIN + 60 * SECOND)
NAMES = ("upbit", "okx", "kraken")
SUMMARY = report.Summary(("exchange", "sent", "missing"), [[name, "7", "0"] for name in NAMES])


def rows(table: str, *columns: dict[str, Any]) -> pl.DataFrame:
    """Return rows of a table, received a second apart, 20 ms after the exchange's time."""
    filled = [
        {"transport": "ws", "received_time": time, "exchange_time": time - timedelta(milliseconds=20)} | row
        for time, row in ((START + timedelta(seconds=number), row) for number, row in enumerate(columns))
    ]
    return pl.DataFrame(
        [{name: row.get(name) for name in schema.TABLES[table]} for row in filled], schema=schema.TABLES[table]
    )


def ticker(pair: str, last: float) -> dict[str, Any]:
    """Return the columns of a ticker row."""
    return {"pair": pair, "last": last}


@pytest.fixture
def lake() -> Lake:
    """A lake in which Upbit pays 2 % more than the others."""
    lake = Lake(MemoryStore(), 60 * SECOND)
    won = rows("ticker", ticker("BTC-KRW", 1.0), ticker("USDT-KRW", 1400.0), ticker("BTC-KRW", 102.0 * 1400))
    lake.commit("ticker", "upbit", WINDOW, won, {})
    lake.commit("ticker", "okx", WINDOW, rows("ticker", ticker("BTC-USDT", 99.0)), {})
    lake.commit("ticker", "kraken", WINDOW, rows("ticker", ticker("BTC-USD", 101.0)), {})
    book = {"pair": "BTC-USDT", "best_bid": 99.0, "best_ask": 101.0, "spread": 2.0}
    lake.commit("orderbook", "okx", WINDOW, rows("orderbook", book, book), {})
    gone = [
        ("ticker", pair, START, START + timedelta(seconds=2), "disconnect", "reset", None, START, "t", 0, 7)
        for pair in ("BTC-KRW", "USDT-KRW")
    ]
    lasts = (
        "trade",
        "BTC-KRW",
        START + timedelta(seconds=1),
        None,
        "silence",
        "nothing came",
        "rest",
        START,
        "t",
        0,
        9,
    )
    lake.commit("gap", "upbit", WINDOW, pl.DataFrame([*gone, lasts], schema=schema.GAP, orient="row"), {})
    return lake


class Page(HTMLParser):
    """The page as a reader sees it: tables as lists of cells, texts, and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.images: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.images.append(dict(attrs)["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self.tags[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        self.texts.append(data)


def write(folder: Path, lake: Lake, summary: report.Summary = SUMMARY) -> Page:
    """Write a report and read it."""
    report.write(folder / "deep" / "report.html", lake, NAMES, summary)
    return Page((folder / "deep" / "report.html").read_text(encoding="utf-8"))


def test_each_exchange_has_its_line_and_the_numbers_are_those_of_the_lake(tmp_path: Path, lake: Lake) -> None:
    summary, prices, late, holes = write(tmp_path, lake).tables
    assert summary == [["exchange", "sent", "missing"], *([name, "7", "0"] for name in NAMES)]
    assert prices[1:] == [["BTC", "upbit", "102", "100", "+2.00%"]]
    assert late[1:] == [[name, "20.0", "20.0", "20.0"] for name in NAMES]
    assert holes[1:] == [
        ["upbit", "ticker", "BTC-KRW USDT-KRW", "2026-11-02 00:00:00", "00:00:02", "2.0", "disconnect", "reset"],
        ["upbit", "trade", "BTC-KRW", "2026-11-02 00:00:01", "lasts", "", "silence, filled by rest", "nothing came"],
    ]


def test_won_are_converted_with_the_last_rate_before_them_and_left_out_without_one(lake: Lake) -> None:
    tickers = lake.scan("ticker", exchanges=NAMES).collect()
    converted = prices(tickers)
    assert sorted(converted.select("exchange", "base", "price").rows()) == [
        ("kraken", "BTC", 101.0),
        ("okx", "BTC", 99.0),
        ("upbit", "BTC", 102.0),
    ]


def test_spreads_are_basis_points_and_rows_are_counted_by_the_minute(lake: Lake) -> None:
    assert report.spreads(lake, NAMES).rows() == [("okx", "BTC-USDT", 200.0, 200.0)]
    assert report.minutes(lake, NAMES).rows() == [("kraken", START, 1), ("okx", START, 3), ("upbit", START, 3)]


def test_the_page_needs_no_other_file_and_its_pictures_are_not_blank(tmp_path: Path, lake: Lake) -> None:
    page = write(tmp_path, lake)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.images) == 3
    for source in page.images:
        kind, _, encoded = source.partition(",")
        image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
        assert kind == "data:image/png;base64"
        assert image.width == 1210
        assert len(set(image.convert("L").get_flattened_data())) > 10, "it is not blank"


def test_a_problem_is_shown_as_text_and_never_as_html(tmp_path: Path, lake: Lake) -> None:
    bad = "<script>alert(1)</script> & more"
    page = write(tmp_path, lake, report.Summary(("exchange",), [[bad]], [bad]))
    assert "script" not in page.tags
    assert page.tables[0][1] == [bad]
    assert bad in page.texts
    assert "Everything adds up." not in page.texts


def test_an_empty_lake_gives_a_page_that_says_so(tmp_path: Path) -> None:
    page = write(tmp_path, Lake(MemoryStore(), 60 * SECOND))
    assert page.tables[0] == [["exchange", "sent", "missing"], *([name, "7", "0"] for name in NAMES)]
    assert page.images == []
    assert any(text.startswith("None: no frame is missing") for text in page.texts)
