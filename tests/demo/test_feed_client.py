"""The demo's client of the feed: what it is told against the tables."""

import time

import pytest

from coin_platform.demo.feed_client import CountingClient, feed_client
from coin_platform.errors import DemoError
from coin_platform.lake import Lake
from coin_platform.model import Channel
from coin_platform.runtime.ports import free_ports
from tests.kit.platform import FIRST, Platform, recorded

RANGE = ("--from", "2026-11-02T03:00", "--to", "2026-11-02T03:01")


@pytest.fixture
def lake(platform: Platform) -> Lake:
    """Give a lake with the tickers of Upbit's recording."""
    platform.time = FIRST.start
    platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker"))
    done = platform.coin("lake", "backfill", *RANGE)
    assert done.exit_code == 0, done.output
    return platform.opened()


@pytest.fixture
def client() -> CountingClient:
    """Give a client of a feed that there is not. A test tells it what came."""
    client = CountingClient(f"http://127.0.0.1:{free_ports(1)[0]}")
    client.close()
    return client


def tell(client: CountingClient, lake: Lake) -> None:
    rows = lake.scan("ticker", exchanges=["upbit"]).select("offset", "index").collect()
    for offset, index in rows.iter_rows():
        client.take({"type": "ticker", "exchange": "upbit", "offset": offset, "index": index})


def test_each_row_told_once_is_right(client: CountingClient, lake: Lake) -> None:
    tell(client, lake)
    client.take({"type": "gap", "exchange": "upbit", "pair": None})  # a gap has no row of its own
    client.take({"type": "candle", "exchange": "upbit", "offset": 1, "index": 0})  # nor has a former update of a candle
    assert client.count > 1 and client.failures(lake, ["upbit"]) == [] == client.last_failures(lake, ["upbit"])


def test_a_row_that_was_not_told_or_told_twice_and_a_hole_are_named(
    client: CountingClient, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coin_platform.demo.feed_client.QUIET_SECONDS", 0.01)
    rows = lake.scan("ticker", exchanges=["upbit"]).collect().height
    assert client.last_failures(lake, ["upbit"]) == [f"the live feed: {rows} rows were not told"]
    tell(client, lake)
    tell(client, lake)
    client.take({"type": "ticker", "exchange": "okx", "offset": 1, "index": 0})
    client.take({"type": "hole", "reason": "slow", "missed_bundles": 1})
    assert client.failures(lake, ["upbit"]) == [
        "the live feed: 1 records have no row",
        f"the live feed: {rows} records came twice",
        "the live feed: 1 holes were told",
    ]


def test_without_a_server_the_demo_gives_up_with_one_line() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(DemoError, match="no client could connect to the live feed"), feed_client(url, time.monotonic()):
        pass
