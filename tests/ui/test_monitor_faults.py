"""The monitor page in a real browser: what it says while something is wrong, and what it needs to be shown at all."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from coin_platform.cluster.status import ComponentKind, Status
from coin_platform.runtime.ports import free_ports
from tests.kit.feed_server import READ_KEY
from tests.kit.monitor import (
    DOLLARS,
    NOT_KNOWN,
    OFFLINE,
    Deployment,
    Server,
    Watched,
    announce,
    cell,
    expect_state,
    number,
    row,
    shown_until,
    watched,
)
from tests.kit.waiting import until

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300), pytest.mark.xdist_group("monitor-faults")]

LATER = "const now = Date.now; Date.now = () => now() + 13_000"  # so that a test need not wait for so long


def test_it_says_reconnecting_and_goes_on_by_itself_with_the_newest_prices(opened: Watched, served: Deployment) -> None:
    page = opened.page
    served.feed.end()
    expect_state(page, "reconnecting")
    expect(page.locator("#said")).to_contain_text("reconnecting")
    expect(page.locator("#alert-list")).to_contain_text("live feed")
    assert number(cell(page, "BTC", "OKX").locator("b")) == pytest.approx(DOLLARS["BTC"], rel=0.003)
    assert float(cell(page, "BTC", "OKX").evaluate("cell => getComputedStyle(cell).opacity")) < 0.7
    served.market.factor = 1.1
    try:
        served.feed.start()
        expect_state(page, "live")
        expect(cell(page, "BTC", "OKX").locator("b")).to_have_text(re.compile(r"^7[67],"))
    finally:
        served.market.factor = 1.0
        served.feed.start()


def test_it_goes_on_with_the_next_server_when_one_ends(opened: Watched, served: Deployment) -> None:
    page = opened.page
    other = Server(served.home, "feed", free_ports(1)[0])
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    other.start()
    try:
        expect(page.locator("#services-body")).to_contain_text(f"server/feed/{other.port}")
        served.feed.end()
        shown_until(page, lambda: any(f":{other.port}/" in url for url in sockets))
        expect_state(page, "live")
        expect(cell(page, "BTC", "OKX")).to_have_attribute("data-age", "new")
        served.feed.start()
    finally:
        other.end()
    expect_state(page, "live")  # back on the first one
    assert f":{served.feed.port}/" in sockets[-1]


def test_it_comes_back_at_the_moment_that_the_server_named(chrome: Browser, served: Deployment) -> None:
    context = chrome.new_context()
    page, opened_at = watched(context).page, list[float]()

    def closing(socket: Any) -> None:
        """Close the first connection, as a server does that ends; pass on the others."""
        opened_at.append(time.monotonic())
        if len(opened_at) == 1:
            socket.close(code=1012, reason="retry in 3.0 s")
        else:
            socket.connect_to_server()

    page.route_web_socket(re.compile("/ws/exchange"), closing)
    page.goto(served.address)
    expect(page.locator("#state-text")).to_have_text(re.compile("^the server ends; next attempt in [123] s$"))
    expect_state(page, "live")
    assert opened_at[1] - opened_at[0] > 2.9
    context.close()


def test_a_price_of_before_is_shown_as_stale_and_never_as_new(opened: Watched, served: Deployment) -> None:
    page = opened.page
    served.market.silent = {"kraken"}
    time.sleep(0.3)  # until a round that had begun is over
    served.market.say("kraken", "BTC-USD", 12_345.0, age_seconds=40)
    old = cell(page, "BTC", "Kraken")
    expect(old).to_have_attribute("data-age", "stale")
    expect(old.locator("small")).to_have_text(re.compile(r"^stale 4\d s$"))
    assert old.get_attribute("data-step") is None, "an old price is no move"
    assert old.evaluate("cell => cell.getAnimations().length") == 0
    detail = page.locator("#detail-body tr").filter(has_text="Kraken")
    expect(detail.locator(".age")).to_have_text(re.compile(r"^4\d s stale$"))
    expect(detail.locator(".spread")).to_have_text(NOT_KNOWN)
    page.reload()
    expect(old).to_have_attribute("data-age", "stale")


def test_it_says_stale_while_nothing_comes(opened: Watched, served: Deployment) -> None:
    served.market.pause()
    time.sleep(1)  # until the last frame has come
    opened.page.evaluate(LATER)
    expect_state(opened.page, "stale")
    expect(opened.page.locator("#state-text")).to_have_text(re.compile(r"^nothing new for \d+ s$"))
    assert opened.page.title().startswith("stale")
    served.market.go_on()
    expect_state(opened.page, "live")


def test_it_says_degraded_and_why_while_the_server_of_the_feed_does(opened: Watched, served: Deployment) -> None:
    reason = "Kafka does not answer"
    server = Status(
        name=f"server/feed/{served.feed.port}",
        kind=ComponentKind.SERVER,
        state="degraded",
        reason=reason,
        texts={"address": f"ws://127.0.0.1:{served.feed.port}/ws/exchange"},
    )
    reporter = announce(served, server)
    try:
        expect_state(opened.page, "degraded")
        expect(opened.page.locator("#state-text")).to_have_text(reason)
        expect(opened.page.locator("#services-body")).to_contain_text(reason)
        expect(cell(opened.page, "BTC", "OKX")).to_have_attribute("data-age", "new")
    finally:
        reporter.end()
    expect_state(opened.page, "live")


def test_without_the_API_prices_come_and_what_it_told_is_not_taken_for_new(opened: Watched, served: Deployment) -> None:
    def fail(route: Route) -> None:
        route.fulfill(status=503, content_type="application/problem+json", body='{"detail": "the store is away"}')

    opened.page.route("**/api/**", fail)
    opened.page.evaluate(LATER)
    expect_state(opened.page, "degraded")
    expect(opened.page.locator("#alert-list")).to_contain_text("the store is away")
    expect(opened.page.locator("#rate")).to_have_text("not known")
    expect(row(opened.page, "BTC").locator(".premium")).to_have_text(NOT_KNOWN)
    expect(cell(opened.page, "BTC", "OKX")).to_have_attribute("data-age", re.compile("^(new|ageing)$"))
    opened.page.unroute("**/api/**")
    expect_state(opened.page, "live")
    opened.faults[:] = [fault for fault in opened.faults if "503" not in fault]


def test_after_a_hole_in_seq_it_begins_anew_with_a_snapshot(chrome: Browser, served: Deployment) -> None:
    served.market.go_on()
    context = chrome.new_context()
    page = watched(context).page
    connections: list[str] = []
    left_out = {
        "type": "hole",
        "exchange": "upbit",
        "pair": None,
        "channel": "trade",
        "missed_records": 12,
        "reason": "",
    }

    def lossy(socket: Any) -> None:
        """Pass on frames. Lose the third of the first connection; let the second one tell of a hole of the server."""
        server, number = socket.connect_to_server(), len(connections)
        connections.append(socket.url)
        frames: list[str] = []

        def pass_on(text: str) -> None:
            frames.append(text)
            if number == 0 and len(frames) == 3:
                return
            bundle = json.loads(text)
            bundle["records"] += [left_out] * (number == 1 and len(frames) == 2)
            socket.send(json.dumps(bundle))

        server.on_message(pass_on)

    page.route_web_socket(re.compile("/ws/exchange"), lossy)
    page.goto(served.address)
    shown_until(page, lambda: len(connections) == 2)
    expect_state(page, "live")
    expect(cell(page, "BTC", "OKX")).to_have_attribute("data-age", "new")
    expect(page.locator("#alert-list")).to_contain_text("the feed left out 12 records of upbit trade")
    assert len(connections) == 2 and all("conflate=1&type=ticker,orderbook,gap" in url for url in connections)
    context.close()


def test_C1_a_server_that_others_reach_asks_for_a_key_and_the_page_keeps_it_to_its_tab(
    chrome: Browser, served: Deployment
) -> None:
    settings = {
        "SERVE_HOST": "LOCALHOST",
        "SERVE_KEYS": f"read:{READ_KEY}",
    }  # this spelling counts as an address of others
    ports = free_ports(2)
    api, feed = (Server(served.home, part, port, **settings) for part, port in zip(("api", "feed"), ports, strict=True))
    served.market.go_on()
    context = chrome.new_context()
    monitor = watched(context)
    page = monitor.page
    try:
        api.start()
        feed.start()
        until(lambda: api.listens() and feed.listens(), 60)
        page.goto(f"http://localhost:{api.port}/")
        dialog = page.get_by_role("dialog", name="This server asks for a key")
        expect(dialog).to_be_visible()
        page.get_by_role("textbox", name="Key").fill("k" * 40)
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text("this key is not known")
        page.get_by_role("textbox", name="Key").fill(READ_KEY)
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        expect_state(page, "live")
        expect(cell(page, "BTC", "OKX")).to_have_attribute("data-age", "new")
        assert READ_KEY not in page.url and READ_KEY not in page.content()
        assert json.loads(page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")) == [
            {"coin.key": READ_KEY},
            {},
        ]
        page.get_by_role("button", name="Forget the key").click()
        expect(dialog).to_be_visible()
        assert [fault for fault in monitor.faults if "401" not in fault and not OFFLINE.search(fault)] == []
    finally:
        context.close()
        api.end()
        feed.end()


TYPES = (
    "Record<string, string>|FeedRecord|Bundle [|] null|Bundle|Take|MessageEvent<string>|CloseEvent|Promise<never>|"
    "Promise<string>|number|string|boolean|[(][)] => void"
)


def test_the_client_of_forty_lines_in_the_document_reads_the_feed(chrome: Browser, served: Deployment) -> None:
    text = Path("docs/monitor.md").read_text(encoding="utf-8")
    found = re.search(r"```typescript\n(.*?)```", text, re.DOTALL)
    assert found is not None and len(found[1].splitlines()) <= 40
    code = re.sub(r"^type .*\n", "", found[1], flags=re.MULTILINE).replace("Promise<void>", "Promise")
    code = re.sub(rf"\??: (?:{TYPES})(?=[,) ]|$)", "", code, flags=re.MULTILINE)
    tell = "(record) => console.info(JSON.stringify(record))"
    call = f"follow(location.origin, '?conflate=1&type=ticker', {tell}, () => {{}});"
    served.market.go_on()
    context = chrome.new_context(bypass_csp=True)  # a page of one's own has a policy of its own
    monitor, records = watched(context), list[str]()
    monitor.page.on("console", lambda message: records.append(message.text) if message.type == "info" else None)
    monitor.page.goto(f"{served.address}health")
    monitor.page.add_script_tag(content=f"{code}\n{call}", type="module")
    shown_until(monitor.page, lambda: len(records) > 20)
    context.close()
    assert [fault for fault in monitor.faults if "404" not in fault] == [], "this address has no icon"
    told = [json.loads(record) for record in records]
    assert {record["type"] for record in told} == {"ticker"} and {"upbit", "okx"} <= {each["exchange"] for each in told}
