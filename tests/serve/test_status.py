"""Status and commands over HTTP."""

from http import HTTPStatus
from pathlib import Path

import pytest

from coin_platform.clock import wall
from coin_platform.cluster.commands import CommandReader, reconnect_key
from coin_platform.errors import ClusterError
from coin_platform.model import SECOND, Channel
from tests.kit.serving import ADMIN_KEY, PAIRS_KEY, READ_KEY, Served, key, report_feed


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def test_components_are_listed_with_their_pairs(served: Served) -> None:
    report_feed(served.cluster, "upbit", "ticker", {"BTC-KRW": "confirmed", "XRP-KRW": "refused"})
    report_feed(served.cluster, "okx", "ticker", {"BTC-USDT": "confirmed"})
    answer = served.ask("GET", "/api/status", headers=key(READ_KEY)).json()
    assert answer["cluster"]["state"] == "good"
    assert [component["name"] for component in answer["components"]] == ["feed/okx/ticker/0", "feed/upbit/ticker/0"]
    [upbit] = served.ask("GET", "/api/status/feed/upbit", headers=key(READ_KEY)).json()
    assert {pair: news["state"] for pair, news in upbit["pairs"].items()} == {
        "BTC-KRW": "confirmed",
        "XRP-KRW": "refused",
    }
    assert served.ask("GET", "/api/status/feed/up", headers=key(READ_KEY)).status_code == HTTPStatus.NOT_FOUND


def test_an_old_report_is_shown_as_lost_and_confirms_nothing(served: Served) -> None:
    report_feed(served.cluster, "upbit", "ticker", {"BTC-KRW": "confirmed"}, time=wall() - 60 * SECOND)
    [component] = served.ask("GET", "/api/status/feed/upbit/ticker/0", headers=key(READ_KEY)).json()
    assert component["state"] == "lost"
    shown = served.ask("GET", "/api/pairs/upbit/ticker", headers=key(READ_KEY)).json()
    assert {pair["state"] for pair in shown["pairs"]} == {"pending"}
    answer = served.ask("POST", "/api/feeds/upbit/ticker/0/reconnect", headers=key(ADMIN_KEY))
    assert answer.status_code == HTTPStatus.NOT_FOUND


def test_a_feed_is_told_to_reconnect_once(served: Served) -> None:
    report_feed(served.cluster, "upbit", "ticker", {"BTC-KRW": "confirmed"})
    reader = CommandReader(served.cluster, wall)
    path = "/api/feeds/upbit/ticker/0/reconnect"
    assert served.ask("POST", path, headers=key(PAIRS_KEY)).status_code == HTTPStatus.FORBIDDEN
    assert reader.new() == {}
    answer = served.ask("POST", path, headers=key(ADMIN_KEY))
    assert (answer.status_code, answer.json()) == (202, {"feed": "feed/upbit/ticker/0", "command": 1})
    commands = reader.new()
    assert list(commands) == [reconnect_key("upbit", Channel.TICKER, 0)]
    assert commands[reconnect_key("upbit", Channel.TICKER, 0)].by.startswith("api admin-")
    assert reader.new() == CommandReader(served.cluster, wall).new() == {}
    assert served.ask("POST", path, headers=key(ADMIN_KEY)).json()["command"] == 2
    assert len(reader.new()) == 1


def test_a_reload_wakes_those_who_wait(served: Served) -> None:
    changes = served.cluster.changes()
    try:
        answer = served.ask("POST", "/api/pairs/reload", headers=key(PAIRS_KEY))
        assert (answer.status_code, answer.json()) == (202, {"version": 1, "exchanges": []})
        changes.wait(60)
    finally:
        changes.close()


def test_the_server_is_not_ready_while_the_store_is_away_and_says_so_without_its_address(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.ask("GET", "/ready").status_code == HTTPStatus.OK

    def fail(*_: object) -> None:
        raise ClusterError("redis://10.0.0.7:6379: away; start it")

    monkeypatch.setattr(type(served.cluster), "entries", fail)
    answer = served.ask("GET", "/ready")
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.json()["detail"] == "the cluster is not ready" and "10.0.0.7" not in answer.text
    assert served.ask("GET", "/api/status", headers=key(READ_KEY)).status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert served.ask("GET", "/health").status_code == HTTPStatus.OK
