"""Dagster's UI in a real browser: the lineage, a backfill launched by clicking, a failed check and its reason.

`SCREENSHOTS=docs/images pytest tests/ui` also takes the README's pictures.
"""

import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from coin_platform.model import Channel
from coin_platform.orchestration.definitions import definitions
from coin_platform.orchestration.partitions import FORMAT
from coin_platform.runtime.ports import free_port
from coin_platform.settings import Settings
from tests.kit.market import Feed
from tests.kit.ui import LOCATION, ROOT, chromium, dagster_dev, switch_off

pytestmark = [
    pytest.mark.ui,
    pytest.mark.timeout(600),  # seconds; a busy machine needs half of them
    pytest.mark.xdist_group("ui"),  # one backfill is launched for all
]

WINDOW = timedelta(minutes=1)
CROSSED = (
    b'{"type":"orderbook","code":"KRW-BTC","timestamp":%d,'
    b'"orderbook_units":[{"ask_price":1.0,"bid_price":2.0,"ask_size":1.0,"bid_size":1.0}]}'
)
CHANNELS = ("ticker", "orderbook", "trade", "candle", "instrument")

NODES = """nodes => nodes.map(node => ({
    name: node.querySelector('[data-tooltip]').dataset.tooltip,
    x: +node.getAttribute('x'), width: +node.getAttribute('width'),
    y: +node.getAttribute('y'), height: +node.getAttribute('height')}))"""
EDGES = "paths => paths.map(path => path.getAttribute('d'))"


class Node(NamedTuple):
    """An asset of the drawn graph: its name and its rectangle."""

    name: str
    left: float
    right: float
    top: float
    bottom: float


class UI(NamedTuple):
    """A browser's page, the UI's address, and the two windows that were logged."""

    page: Page
    address: str
    windows: list[str]

    def show(self, path: str) -> Page:
        """Go to a page of the UI."""
        self.page.goto(self.address + path)
        return self.page


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of headless Chromium."""
    executable = chromium()
    if executable is None:
        reason = "Chromium is not installed: run infra/install-ci"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1840, "height": 1500}, timezone_id="UTC")
        context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield context.new_page()
        browser.close()


@pytest.fixture(scope="module")
def ui(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UI]:
    """The UI over a log of two windows of Upbit, of which the second holds a crossed book."""
    home = tmp_path_factory.mktemp("ui")
    dagster_home = home / "dagster_home"
    dagster_home.mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", dagster_home)
    start = datetime.now(UTC).replace(second=0, microsecond=0) - 4 * WINDOW
    settings = Settings(home=home, exchanges=("upbit",), window=WINDOW, start=start)
    _fill(settings)
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        switch_off(instance, [sensor.name for sensor in definitions(settings).sensors or ()])
    environment = {
        "COIN_HOME": str(home),
        "COIN_EXCHANGES": "upbit",
        "COIN_EXCHANGES_MODE": "simulated",
        "COIN_WINDOW": "1m",
        "COIN_GRACE": "3s",
        "COIN_START": start.isoformat(),
        "DAGSTER_HOME": str(dagster_home),
    }
    with dagster_dev(home, environment, free_port(0)) as address:
        yield UI(page, address, [(start + number * WINDOW).strftime(FORMAT) for number in range(2)])


def _fill(settings: Settings) -> None:
    feed = Feed(settings, ["upbit"], int(settings.start.timestamp() * 1e6))
    feed.run(119)
    books = next(source for source in feed.sources if source.channel is Channel.ORDERBOOK)
    feed.append(books, CROSSED % (feed.time // 1000))
    feed.broker.close()


@pytest.fixture(scope="module")
def backfill(ui: UI) -> str:
    """Launch a backfill of both windows as a user does, by clicking; return the path of its page."""
    page = ui.show(f"/locations/{LOCATION}/asset-groups/korea/lineage")
    page.get_by_role("button", name="Materialize all").click()
    selection = page.get_by_placeholder("No matching partitions")
    selection.fill(f"[{ui.windows[0]}...{ui.windows[1]}]")
    selection.press("Enter")
    page.get_by_text("2 partitions", exact=True).wait_for()
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()
    page.get_by_role("link", name="View", exact=True).click()
    page.wait_for_url(re.compile("/runs/b/"))
    return page.url.removeprefix(ui.address)


def test_the_lineage_leads_from_the_exchange_over_the_topics_to_the_tables(ui: UI) -> None:
    page = ui.show(f"/locations/{LOCATION}/asset-groups/korea/lineage")
    page.locator("foreignObject [data-tooltip=dead]").wait_for()
    names = sorted(node.name for node in _nodes(page))
    upbits = ["upbit"] * (1 + len(CHANNELS))  # the exchange and its topics
    assert names == sorted(["dead", "gap", *CHANNELS, *(f"raw_{channel}" for channel in CHANNELS), *upbits])
    edges = _edges(page)
    columns = [_level(name, edges) for name in ("raw_ticker", "ticker", "dead", "gap")]
    assert columns == [2, 3, 3, 3], "exchange -> topic -> raw -> table"
    assert {(f"raw_{channel}", channel) for channel in CHANNELS} <= {(start.name, end.name) for start, end in edges}
    assert sum(start.name == end.name == "upbit" for start, end in edges) == len(CHANNELS), "a topic for each channel"
    assert all(start.right < end.left for start, end in edges)


def _nodes(page: Page) -> list[Node]:
    boxes = page.locator("foreignObject:has([data-tooltip])").evaluate_all(NODES)
    return [Node(b["name"], b["x"], b["x"] + b["width"], b["y"], b["y"] + b["height"]) for b in boxes]


def _edges(page: Page) -> list[tuple[Node, Node]]:
    """Return the nodes that each drawn line connects."""
    nodes, edges = _nodes(page), []
    for path in page.locator("path[marker-end]").evaluate_all(EDGES):
        x1, y1, *_, x2, y2 = map(float, re.findall(r"[\d.]+", path))
        [start] = [node for node in nodes if abs(node.right - x1) < 20 and node.top <= y1 <= node.bottom]
        [end] = [node for node in nodes if abs(node.left - x2) < 20 and node.top <= y2 <= node.bottom]
        edges.append((start, end))
    return edges


def _level(name: str, edges: list[tuple[Node, Node]]) -> int:
    """Return the number of edges from the first node to a node."""
    [node, *_] = [end for _, end in edges if end.name == name]
    count = 0
    while before := [start for start, end in edges if end == node]:
        node, count = before[0], count + 1
    return count


def _ended(ui: UI, backfill: str) -> str:
    """Wait for the end of the backfill; return the status that its page shows."""
    page = ui.show(backfill)
    status = r"() => /Status\s+(Succeeded|Failed|Canceled)/.exec(document.body.innerText)?.[1]"
    return str(page.wait_for_function(status, timeout=240_000).json_value())


def test_a_backfill_of_two_windows_launched_by_clicking_succeeds(ui: UI, backfill: str) -> None:
    assert _ended(ui, backfill) == "Succeeded"
    expect(ui.page.get_by_text("100% completed")).to_have_count(2 * len(CHANNELS) + 2)
    expect(ui.page.get_by_text(f"{ui.windows[0]}...{ui.windows[1]}")).to_be_visible()


def test_a_window_shows_its_numbers_and_a_picture_of_its_prices(ui: UI, backfill: str) -> None:
    assert _ended(ui, backfill) == "Succeeded"
    page = ui.show(f"/assets/korea/upbit/ticker?view=partitions&partition={ui.windows[1]}")
    row = page.get_by_role("row")
    row.filter(has_text=re.compile(r"^price")).get_by_text("[Show Markdown]").click()
    picture = page.get_by_alt_text("price")
    picture.wait_for()
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 462
    cells = row.all_inner_texts()
    assert any(re.search(r"dagster/partition_row_count\s+300\b", cell) for cell in cells)
    assert any(re.search(r"latency_p50_ms\s+1\d\.\d", cell) for cell in cells)
    _take(page, "window.png", width=1440, height=860)


def test_a_failed_check_shows_which_pair_and_why(ui: UI, backfill: str) -> None:
    assert _ended(ui, backfill) == "Succeeded"
    page = ui.show("/assets/korea/upbit/orderbook?view=checks")
    page.get_by_text("crossed_book").first.click()
    expect(page.get_by_text("1 rows are crossed: BTC-KRW")).to_be_visible()
    expect(page.get_by_text("Evaluation result").locator("xpath=..")).to_contain_text("Failed")
    expect(page.get_by_text(ui.windows[1])).to_be_visible()


def test_the_lineage_shows_what_was_materialised_and_which_table_failed_a_check(ui: UI, backfill: str) -> None:
    assert _ended(ui, backfill) == "Succeeded"
    page = ui.show(f"/locations/{LOCATION}/asset-groups/korea/lineage")
    page.get_by_text("3 / 4 Passed").wait_for()
    _take(page, "lineage.png", width=1840, height=1420)


def _take(page: Page, name: str, width: int, height: int) -> None:
    """Take a picture for the README if SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1000)  # until nothing fades in any more
        page.screenshot(path=Path(folder) / name, clip={"x": 0, "y": 0, "width": width, "height": height})
