"""The monitor page in a real browser: what it shows, where its filters are, and on which screens it can be used."""

import re

import pytest
from playwright.sync_api import Browser, expect

from coin_platform.cluster.status import ComponentKind, Status
from tests.kit.monitor import (
    DOLLARS,
    MARKUP,
    NOT_KNOWN,
    PREMIUM,
    Deployment,
    Watched,
    announce,
    cell,
    expect_state,
    number,
    row,
    watched,
)

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300), pytest.mark.xdist_group("monitor")]


def test_prices_stand_side_by_side_in_dollars_and_in_their_own_quote(opened: Watched) -> None:
    page = opened.page
    won, dollars = cell(page, "BTC", "Upbit"), cell(page, "BTC", "OKX")
    expect(won.locator("b")).not_to_be_empty()
    expect(won).to_have_attribute("data-step", re.compile("1"))  # it moved, and says whether up or down
    assert number(won.locator("b")) == pytest.approx(DOLLARS["BTC"] * (1 + PREMIUM), rel=0.003)
    assert number(won.locator("small")) == pytest.approx(DOLLARS["BTC"] * (1 + PREMIUM) * 1_400, rel=0.003)
    assert number(dollars.locator("b")) == pytest.approx(DOLLARS["BTC"], rel=0.003)
    expect(page.locator("#rate")).to_have_text("1,400 KRW")
    expect(page.locator("#rung")).to_have_text("local")
    assert page.locator("#matrix-body button.base").all_inner_texts() == ["BTC", "ETH", "USDT"]


def test_the_premium_is_that_of_the_API_and_its_chart_is_drawn(opened: Watched) -> None:
    page = opened.page
    expect(row(page, "BTC").locator(".premium")).to_have_text(re.compile(r"^\+[12]\.\d\d%$"))
    assert number(row(page, "BTC").locator(".premium")) == pytest.approx(100 * PREMIUM, abs=0.25)
    expect(page.locator("#detail-body tr")).to_have_count(5)
    expect(page.locator("#detail-body tr").first.locator(".spread")).to_have_text("2.0")
    expect(page.locator("#chart")).to_have_attribute("data-points", re.compile(r"^([2-9]|\d\d+)$"))
    inked = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
    drawn = page.locator("#chart canvas").evaluate(
        f"canvas => {{ const data = ({inked})(canvas); let blue = 0;"
        " for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && data[i + 2] > 150 && data[i] < 60) blue++;"
        " return blue; }"
    )
    assert drawn > 50, "the line of Upbit"
    expect(page.locator("#chart-text")).to_contain_text("Upbit +")


def test_the_filters_are_in_the_address_and_a_link_shows_the_same(opened: Watched, served: Deployment) -> None:
    page = opened.page
    page.get_by_text("Upbit", exact=True).first.click()
    page.get_by_text("OKX", exact=True).first.click()
    expect(page.locator("#matrix-head tr:last-child th")).to_have_count(4)
    assert page.url == f"{served.address}?exchange=upbit,okx"
    page.keyboard.press("/")
    page.keyboard.type("eth, btc-usdt")
    expect(page.locator("#matrix-body tr")).to_have_count(2)
    expect(cell(page, "BTC", "Upbit").locator("b")).to_be_empty()
    page.locator("#type-filter label").filter(has_text="ticker").click()
    expect(page).to_have_url(f"{served.address}?exchange=upbit,okx&pair=ETH,BTC-USDT&type=ticker")
    expect(page.locator("#detail-body .bid").first).to_have_text(NOT_KNOWN)  # no book is asked for
    page.reload()
    expect(page.locator("#matrix-head tr:last-child th")).to_have_count(4)
    expect(page.locator("#pair")).to_have_value("ETH, BTC-USDT")
    expect(page.get_by_role("checkbox", name="Upbit")).to_be_checked()
    expect(page.locator("#matrix-body button.base")).to_have_text(["ETH", "BTC"])  # on more exchanges, first
    page.go_back()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#matrix-body tr")).to_have_count(3)
    assert page.url == served.address


def test_a_chosen_base_is_in_the_address_and_arrows_move_to_the_next(opened: Watched) -> None:
    page = opened.page
    page.get_by_role("button", name="BTC", exact=True).focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#detail-title")).to_have_text("ETH premium")
    expect(page.get_by_role("button", name="ETH", exact=True)).to_be_focused()
    expect(page.get_by_role("button", name="ETH", exact=True)).to_have_attribute("aria-pressed", "true")
    assert page.url.endswith("?base=ETH")


def test_text_of_exchanges_is_shown_as_text(opened: Watched, served: Deployment) -> None:
    page = opened.page
    served.market.say("okx", f"{MARKUP}-USDT", 1.0)
    served.market.gap("upbit", f"{MARKUP}-KRW", reason=f"closed: {MARKUP}")
    served.market.trade("okx", "BTC-USDT", side=MARKUP)
    component = Status(name=f"feed/okx/{MARKUP}/0", kind=ComponentKind.FEED, state="refused", reason=f"no: {MARKUP}")
    reporter = announce(served, component)
    try:
        expect(page.get_by_role("button", name=MARKUP)).to_be_visible()
        expect(page.locator("#alert-list")).to_contain_text(f"no: {MARKUP}")
        expect(page.locator("#alert-list")).to_contain_text(f"closed: {MARKUP}")
        page.get_by_role("button", name=MARKUP).click()
        expect(page.locator("#detail-title")).to_have_text(f"{MARKUP} premium")
        page.goto(f"{served.address}?type=trade&base={MARKUP}&pair={MARKUP}")
        page.goto(f"{served.address}?type=trade")
        served.market.trade("okx", "BTC-USDT", side=MARKUP)
        expect(page.locator("#tape-body")).to_contain_text(f"{MARKUP} 1")
        assert page.locator("img:not([src='/static/icon.svg'])").count() == 0
    finally:
        reporter.end()
        served.market.gap("upbit", f"{MARKUP}-KRW", stop="2026-11-02 00:00:01.000000+00:00")


def test_it_is_usable_on_a_phone_in_the_dark_and_without_motion(chrome: Browser, served: Deployment) -> None:
    served.market.go_on()
    context = chrome.new_context(
        viewport={"width": 390, "height": 844},
        color_scheme="dark",
        is_mobile=True,
        has_touch=True,
        reduced_motion="reduce",
    )
    monitor = watched(context)
    page = monitor.page
    page.goto(served.address)
    expect_state(page, "live")
    expect(page.locator("#detail-body tr")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#detail-body th").first.bounding_box() is not None
    shown = [
        name
        for name in ("price", "spread", "premium", "age")
        if page.locator(f"#detail-body .{name}").first.is_visible()
    ]
    assert shown == ["price", "spread", "premium", "age"]
    expect(cell(page, "BTC", "Upbit")).to_have_attribute("data-step", re.compile("1"))
    assert page.evaluate("document.getAnimations().length") == 0
    brightness = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number))"
    dark = page.evaluate(brightness)
    page.get_by_role("button", name="Colours: as the system").tap()
    light = page.evaluate(brightness)
    assert dark < 60 < 200 < light
    page.reload()
    assert page.evaluate(brightness) == light, "the choice is kept"
    expect_state(page, "live")
    context.close()
    assert monitor.faults == []


def test_every_table_button_and_field_has_a_name(opened: Watched) -> None:
    unnamed = opened.page.evaluate(
        """() => [...document.querySelectorAll('button, input, table, section, [role=region], dialog')]
            .filter((each) => !(each.ariaLabel || each.textContent.trim() || each.labels?.length ||
                each.getAttribute('aria-labelledby') || each.caption?.textContent))
            .map((each) => each.outerHTML)"""
    )
    assert unnamed == []
    assert opened.page.locator("[aria-live], [role=status], [role=alert]").count() == 2, (
        "little is read aloud by itself"
    )


def test_the_chart_begins_with_what_the_server_remembers_and_a_hole_is_a_hole(opened: Watched) -> None:
    page = opened.page
    with page.expect_response("**/api/premium/ETH"):
        page.get_by_role("button", name="ETH", exact=True).click()
    times, lines, most = page.evaluate(
        """async () => {
            const { History } = await import("/static/chart.js");
            const history = new History();
            const now = (premium) => [{ base: "BTC", prices: [{ exchange: "upbit", pair: "BTC-KRW", premium }] }];
            history.take(100, now(0.02));
            history.seed("BTC", { times: [10, 20, 90, 100], premiums: { upbit: [0.01, null, 0.03, 0.04] } });
            const { times, lines } = history.of("BTC");
            const seen = [[...times], [...lines.get("upbit")]];
            for (let time = 101; time < 10_000; time += 1) history.take(time, now(0.02));
            return [...seen, history.of("BTC").times.length];
        }"""
    )
    assert times == [10, 20, 21, 90, 100]
    assert lines == [0.01, None, None, 0.03, 0.02]
    assert most == 4_000


def test_records_of_a_former_leader_change_nothing_and_memory_is_bounded(opened: Watched) -> None:
    shown, bounded, left = opened.page.evaluate(
        """async () => {
            const { Store, price } = await import("/static/store.js");
            const { now } = await import("/static/time.js");
            const time = new Date(now()).toISOString();
            const ticker = (pair, trade_price, epoch, more = {}) => ({
                type: "ticker", exchange: "upbit", pair, epoch, received_time: time, data: [{ trade_price }], ...more
            });
            const store = new Store();
            const take = (...records) => store.take({ records });
            const shown = () => price(store.pairs.get("upbit|A-KRW"), now()).value;
            const seen = [];
            take(ticker("A-KRW", "1", 2)); seen.push(shown());
            take(ticker("A-KRW", "2", 1)); seen.push(shown());
            take(ticker("A-KRW", "3", 2, { redriven: true })); seen.push(shown());
            take(ticker("A-KRW", "4", 3)); seen.push(shown());
            store.take({ snapshot: true, records: [ticker("A-KRW", "5", 1)] }); seen.push(shown());
            store.take({ snapshot: true, part: 2, records: [ticker("B-KRW", "6", 1)] });
            seen.push(store.pairs.size);
            for (let number = 0; number < 6000; number += 1) take(ticker(`C${number}-KRW`, "1", 1));
            const gap = { type: "gap", exchange: "upbit", channel: "ticker", from: time, to: null, cause: "" };
            for (let number = 0; number < 600; number += 1) take({ ...gap, pair: `C${number}-KRW` });
            return [seen, [store.pairs.size, store.gaps.size], store.left];
        }"""
    )
    assert shown == [1, 1, 1, 4, 5, 2]
    assert bounded == [5_000, 500] and left == 1_002
