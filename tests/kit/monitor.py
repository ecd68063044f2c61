"""The monitor page in a real browser, over servers that are processes and a journal that a test fills."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from coin_platform.broker import LocalBroker
from coin_platform.clock import wall
from coin_platform.cluster import open_cluster
from coin_platform.cluster.status import Reporter, Status
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel
from coin_platform.runtime.ports import free_ports
from coin_platform.settings import Settings
from infra.stack import is_listening
from tests.kit.feed import append_gap, append_processed
from tests.kit.ui import chromium
from tests.kit.waiting import until

DOLLARS = {"BTC": 70_000.0, "ETH": 2_500.0, "USDT": 1.0}
WON = 1_400.0  # for a dollar
PREMIUM = 0.02  # of all Korean exchanges
NAMES = ("upbit", "bithumb", "okx", "binance", "kraken")
OFFLINE = re.compile(r"WebSocket connection to|ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
NOT_KNOWN = "\u2013"
MARKUP = "<img src=x onerror=alert(1)>"
_PERIOD_SECONDS = 0.15


class Market:
    """Five exchanges whose prices come until they are paused. The prices move by a thousandth, up and down."""

    def __init__(self, home: Path) -> None:
        self._broker = LocalBroker(home / "data" / "journal")
        self._lock, self._stop, self._flows = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="market")
        self._offset = 0
        self.factor = 1.0  # of all prices
        self.silent: set[str] = set()  # exchanges that say nothing
        self._flows.set()
        self._thread.start()

    def pause(self) -> None:
        """Let nothing come any more."""
        self._flows.clear()

    def go_on(self) -> None:
        """Let prices come again, from every exchange."""
        self.silent.clear()
        self._flows.set()

    def say(self, exchange: str, pair: str, price: float, age_seconds: float = 0) -> None:
        """Append a ticker and a book of this price, which came `age_seconds` ago."""
        with self._lock:
            self._say(exchange, pair, price, age_seconds)

    def gap(self, exchange: str, pair: str | None, *, stop: str | None = None, **words: str) -> None:
        """Append a gap."""
        with self._lock:
            append_gap(self._broker, exchange, pair, stop=stop, **words)

    def trade(self, exchange: str, pair: str, **body: Any) -> None:
        """Append a trade of now."""
        with self._lock:
            self._offset += 1
            append_processed(
                *(self._broker, exchange, pair), channel=Channel.TRADE, offset=self._offset, time=wall(), **body
            )

    def close(self) -> None:
        """End."""
        self._stop.set()
        self._flows.set()
        self._thread.join()
        self._broker.close()

    def _say(self, exchange: str, pair: str, price: float, age_seconds: float = 0) -> None:
        self._offset += 1
        time = wall() - int(age_seconds * SECOND)
        data = [{"trade_price": str(price), "signed_change_rate": "0.01", "acc_trade_volume_24h": "10"}]
        append_processed(self._broker, exchange, pair, offset=self._offset, time=time, data=data)
        append_processed(
            *(self._broker, exchange, pair),
            channel=Channel.ORDERBOOK,
            offset=self._offset,
            time=time,
            highest_bid=price * 0.9999,
            lowest_ask=price * 1.0001,
        )

    def _run(self) -> None:
        rounds = 0
        while not self._stop.is_set():
            self._flows.wait()
            rounds += 1
            move = self.factor * (1 + 0.001 * (rounds % 2))
            with self._lock:
                for name in set(NAMES) - self.silent:
                    for base, dollars in DOLLARS.items():
                        self._quote(name, base, dollars, move)
            self._stop.wait(_PERIOD_SECONDS)

    def _quote(self, name: str, base: str, dollars: float, move: float) -> None:
        quote = EXCHANGES[name].quote
        if base == "USDT" and quote == "KRW":
            self._say(name, "USDT-KRW", WON)
        elif base != "USDT":
            price = dollars * WON * (1 + PREMIUM) if quote == "KRW" else dollars
            self._say(name, f"{base}-{quote}", round(price * move, 2))


class Server:
    """`coin serve api` or `coin serve feed`, which can be ended and started again at the same port."""

    def __init__(self, home: Path, part: str, port: int, **settings: str) -> None:
        self.port, self._part, self._home = port, part, home
        names = {"HOME": str(home), f"{'SERVE' if part == 'api' else 'FEED'}_PORT": str(port), **settings}
        self._environment = {**os.environ, **{f"COIN_{name}": value for name, value in names.items()}}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs. Do not wait."""
        if self._process is not None:
            return
        log = (self._home / f"{self._part}-{self.port}.log").open("ab")
        with log:
            command = [sys.executable, "-m", "coin_platform", "serve", self._part]
            self._process = subprocess.Popen(command, env=self._environment, cwd=self._home, stderr=log)

    def listens(self) -> bool:
        """Whether it takes connections."""
        return is_listening(self.port)

    def end(self) -> None:
        """End it as an operator does, and wait."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


class Watched(NamedTuple):
    """A page and what went wrong in it: messages of the console, errors, and what its policy forbade."""

    page: Page
    faults: list[str]


class Deployment(NamedTuple):
    """Servers over one journal."""

    home: Path
    market: Market
    api: Server
    feed: Server

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.api.port}/"


@contextlib.contextmanager
def deployment(home: Path) -> Iterator[Deployment]:
    """Run a control API and a feed over a market."""
    ports = free_ports(2)
    api, feed = Server(home, "api", ports[0]), Server(home, "feed", ports[1])
    market = Market(home)
    try:
        api.start()
        feed.start()
        until(lambda: api.listens() and feed.listens(), 60)
        yield Deployment(home, market, api, feed)
    finally:
        api.end()
        feed.end()
        market.close()


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Run headless Chromium."""
    executable = chromium()
    if executable is None:
        reason = "Chromium is not installed: run infra/install-ci"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        expect.set_options(timeout=30_000)
        yield running
        running.close()


def watched(context: BrowserContext) -> Watched:
    """Return a new page. What its console, its errors and its policy tell is kept."""
    page, faults = context.new_page(), list[str]()
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective}`))"
    )
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    return Watched(page, faults)


def expect_state(page: Page, name: str) -> None:
    """Wait until the page says that the feed is so."""
    expect(page.locator("#state-word")).to_have_text(name)


def row(page: Page, base: str) -> Locator:
    """Return the row of a base in the matrix."""
    return page.locator("#matrix-body tr").filter(has=page.get_by_role("button", name=base, exact=True))


def cell(page: Page, base: str, exchange: str) -> Locator:
    """Return the cell of a base on an exchange, by the title of its column."""
    columns = page.locator("#matrix-head tr:last-child th")
    expect(columns.filter(has_text=exchange)).to_have_count(1)
    titles = columns.all_inner_texts()
    [place] = [place for place, title in enumerate(titles) if title.split()[0] == exchange]
    return row(page, base).locator("th, td").nth(place)


def number(locator: Locator) -> float:
    """Return the number that an element shows."""
    return float(re.sub(r"[^\d.\-]", "", locator.inner_text().replace("\u2212", "-")))


def announce(served: Deployment, *components: Status) -> Reporter:
    """Let components report, a little ahead of the time, so that no other report of them is newer."""
    reporter = Reporter(open_cluster(Settings(home=served.home)), "test")
    reporter.announce(components, wall() + 20 * SECOND)
    return reporter


def shown_until(page: Page, condition: Callable[[], bool]) -> None:
    """Let a page go on until a condition is true."""
    until(lambda: page.wait_for_timeout(50) is not None or condition())  # type: ignore[func-returns-value]
