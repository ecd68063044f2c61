"""Fixtures of the tests of the monitor page: one browser and one deployment for each file of tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.kit.monitor import OFFLINE, Deployment, Watched, browser, deployment, expect_state, watched


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def served(chrome: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(tmp_path_factory.mktemp("monitor")) as running:
        yield running


@pytest.fixture
def opened(chrome: Browser, served: Deployment) -> Iterator[Watched]:
    """A page of a desktop that is live. At the end nothing may have been refused by its policy, or logged."""
    served.market.go_on()
    served.feed.start()
    context = chrome.new_context(viewport={"width": 1440, "height": 1000}, color_scheme="light")
    monitor = watched(context)
    monitor.page.goto(served.address)
    expect_state(monitor.page, "live")
    yield monitor
    context.close()
    assert [fault for fault in monitor.faults if not OFFLINE.search(fault)] == []
