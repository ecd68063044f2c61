"""The active pairs over HTTP: who may change them, what is checked, and what the collectors answer."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from coin_platform.cluster.pairs import PairSet
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Pair
from coin_platform.serve.parameters import PairChannel
from tests.kit.serving import ADMIN_KEY, PAIRS_KEY, READ_KEY, Follower, Served, key

UPBIT = "/api/pairs/upbit"
BTC, ETH, XRP = "BTC-KRW", "ETH-KRW", "XRP-KRW"
WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", UPBIT, {"json": {"pairs": [BTC]}, "headers": {"If-Match": "*"}}),
    ("PUT", f"{UPBIT}/ticker", {"json": {"pairs": [BTC]}, "headers": {"If-Match": "*"}}),
    ("POST", UPBIT, {"json": {"pairs": [BTC]}}),
    ("POST", f"{UPBIT}/trade", {"json": {"pairs": [BTC]}}),
    ("DELETE", UPBIT, {"params": {"pair": BTC}}),
    ("DELETE", f"{UPBIT}/candle", {"params": {"pair": BTC}}),
    ("POST", "/api/pairs/reload", {}),
    ("POST", "/api/feeds/upbit/ticker/0/reconnect", {}),
]
READS = ("/api/pairs", UPBIT, f"{UPBIT}/ticker", "/api/status", "/api/status/feed/upbit")


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def change(served: Served, method: str, path: str, version: str | None = None, **options: Any) -> Any:
    """Return the answer to a change, with a key of scope `pairs`."""
    headers = key(PAIRS_KEY) | ({} if version is None else {"If-Match": version})
    return served.ask(method, path, headers=headers, **options)


def wanted(served: Served) -> dict[str, list[str]]:
    """Return what is stored."""
    entries: dict[str, list[str]] = served.ask("GET", UPBIT, headers=key(READ_KEY)).json()["wanted"]
    return entries


@pytest.mark.parametrize(("method", "path", "options"), WRITES)
def test_C1_no_key_changes_nothing(served: Served, method: str, path: str, options: dict[str, Any]) -> None:
    for headers in ({}, key("w" * 40), {"X-API-Key": READ_KEY[:-1]}, {"Cookie": f"key={ADMIN_KEY}"}):
        answer = served.ask(method, path, **{**options, "headers": options.get("headers", {}) | headers})
        assert answer.status_code == HTTPStatus.UNAUTHORIZED, answer.text
    answer = served.ask(method, path, **{**options, "headers": options.get("headers", {}) | key(READ_KEY)})
    assert answer.status_code == HTTPStatus.FORBIDDEN and "scope" in answer.json()["detail"]
    assert served.cluster.entries("pairs/") == served.cluster.entries("commands/") == {}


@pytest.mark.parametrize("path", READS)
def test_C1_no_key_shows_no_configuration_even_on_this_machine(served: Served, path: str) -> None:
    assert served.ask("GET", path).status_code == HTTPStatus.UNAUTHORIZED
    assert served.ask("GET", path, headers=key(READ_KEY)).status_code in (200, 404)


def test_C1_every_route_that_changes_something_needs_a_key(served: Served) -> None:
    document = served.ask("GET", "/openapi.json").json()
    writes = {
        f"{method} {path}": operation.get("security")
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "get"
    }
    assert len(writes) == 8 and all(writes.values())


def test_the_settings_decide_until_something_is_stored(served: Served) -> None:
    answer = served.ask("GET", UPBIT, headers=key(READ_KEY))
    assert (answer.headers["etag"], answer.json()["version"], answer.json()["time"]) == ('"0"', 0, None)
    assert wanted(served) == {"*": [BTC, ETH, XRP, "SOL-KRW", "USDT-KRW"]}
    assert len(served.ask("GET", "/api/pairs", headers=key(READ_KEY)).json()) == len(EXCHANGES)


def test_a_set_is_replaced_only_if_its_version_is_named(served: Served) -> None:
    body = {"pairs": [BTC, "eth-krw", BTC]}
    assert change(served, "PUT", UPBIT, json=body).status_code == HTTPStatus.PRECONDITION_REQUIRED
    assert change(served, "PUT", UPBIT, '"1"', json=body).status_code == HTTPStatus.PRECONDITION_FAILED
    answer = change(served, "PUT", UPBIT, '"0"', json=body)
    assert (answer.status_code, answer.headers["etag"]) == (HTTPStatus.ACCEPTED, '"1"')
    assert wanted(served) == {"*": [BTC, ETH]}
    late = change(served, "PUT", UPBIT, '"0"', json={"pairs": [XRP]})
    assert late.status_code == HTTPStatus.PRECONDITION_FAILED
    assert (late.json()["version"], late.headers["etag"]) == (1, '"1"')
    assert change(served, "PUT", UPBIT, "*", json={"pairs": [XRP]}).json()["version"] == 2
    assert change(served, "PUT", UPBIT, "tomorrow", json=body).status_code == HTTPStatus.UNPROCESSABLE_ENTITY


def test_every_channel_may_have_pairs_of_its_own(served: Served) -> None:
    assert [channel.value for channel in PairChannel] == ["all", *Channel]
    for channel in Channel:
        answer = change(served, "PUT", f"{UPBIT}/{channel}", "*", json={"pairs": [BTC]})
        assert answer.status_code < HTTPStatus.BAD_REQUEST
    found = wanted(served)
    assert {channel: found[channel] for channel in Channel} == {channel: [BTC] for channel in Channel}


def test_pairs_are_added_and_dropped_for_one_channel_and_for_all(served: Served) -> None:
    change(served, "PUT", UPBIT, "*", json={"pairs": [BTC]})
    assert change(served, "POST", UPBIT, json={"pairs": [ETH]}).json()["version"] == 2
    answer = change(served, "DELETE", f"{UPBIT}/orderbook", params={"pair": ETH})
    assert (answer.json()["channel"], wanted(served)) == ("orderbook", {"*": [BTC, ETH], "orderbook": [BTC]})
    noted = change(served, "POST", UPBIT, json={"pairs": [XRP]})
    assert "orderbook" in noted.json()["note"]
    change(served, "DELETE", UPBIT, params={"pair": [XRP, ETH]})
    assert wanted(served) == {"*": [BTC], "orderbook": [BTC]}


def test_an_empty_set_must_be_explicit(served: Served) -> None:
    assert change(served, "PUT", UPBIT, "*", json={"pairs": []}).status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    change(served, "PUT", UPBIT, "*", json={"pairs": [BTC]})
    refused = change(served, "DELETE", UPBIT, params={"pair": BTC})
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY and "explicit" in refused.json()["remedy"]
    assert change(served, "DELETE", UPBIT, params={"pair": BTC, "explicit": "true"}).json()["version"] == 2
    assert wanted(served) == {"*": []}


def test_a_pair_that_the_exchange_does_not_list_is_named_and_nothing_is_stored(served: Served) -> None:
    for method in ("PUT", "POST"):
        answer = change(served, method, UPBIT, "*", json={"pairs": [BTC, "DOGE-KRW", "BTC-EUR"]})
        assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert answer.json()["unlisted"] == ["DOGE-KRW", "BTC-EUR"]
    assert served.cluster.entries("pairs/") == {}
    served.markets.failure = "HTTP 418"
    assert change(served, "POST", "/api/pairs/okx", json={"pairs": ["NEW-USDT"]}).status_code == 503
    assert change(served, "POST", UPBIT, json={"pairs": [BTC]}).status_code == HTTPStatus.ACCEPTED  # it is active


HOSTILE = (
    *("../../etc/passwd", "BTC/KRW", "BTC\n-KRW", "BTC-KRW%0d%0aX: y", "BTC-KRW\r\nX: y", "🚀-KRW", "x" * 10_000),
    *("__proto__", "__proto__-KRW", "BTC-KRW'; DROP TABLE pairs;--", "=cmd|' /C calc'!A0", "", "-", "BTC-", "-KRW"),
    *(
        "BTC-KRW\x00",
        "\ud83d-KRW",
        "<script>-KRW",
        "BTC KRW",
        "*",
        "..-..",
        "%2e%2e-KRW",
        "BTC-KRW-X",
        "${jndi:ldap://x}",
    ),
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_pair_names_are_refused_and_reach_no_store(served: Served, text: str) -> None:
    escaped = "".join(rf"\u{ord(c):04x}" if ord(c) < 65536 else c for c in text)
    body = f'{{"pairs": ["{escaped}"]}}'
    json_header = key(PAIRS_KEY) | {"Content-Type": "application/json", "If-Match": "*"}
    answers = [served.ask(method, UPBIT, content=body.encode(), headers=json_header) for method in ("PUT", "POST")]
    if text.isprintable():
        answers.append(change(served, "DELETE", UPBIT, params={"pair": text}))
    assert {answer.status_code for answer in answers} == {HTTPStatus.UNPROCESSABLE_ENTITY}
    assert all("\n" not in answer.text and len(answer.text) < 3_000 for answer in answers)
    assert served.cluster.entries("pairs/") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"pairs":' * 6_000,
        b'{"pairs": [%s]}' % (b"9" * 50_000),
        b"\xff\xfe",
        b"null",
        b'{"pairs": {"0": "BTC-KRW"}}',
        b'{"pairs": ["BTC-KRW"], "explicit": 1e999}',
        b'{"pairs": [' + b'"BTC-KRW",' * 1_000 + b'"BTC-KRW"]}',
        b"pairs=BTC-KRW",
        b"",
    ],
    ids=range(10),
)
def test_C2_bodies_that_are_no_set_of_pairs_are_refused(served: Served, body: bytes) -> None:
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        headers = key(PAIRS_KEY) | {"Content-Type": kind, "If-Match": "*"}
        answer = served.ask("PUT", UPBIT, content=body, headers=headers)
        assert answer.status_code in (400, 422), answer.text
        assert answer.headers["content-type"] == "application/problem+json" and "Traceback" not in answer.text
    assert served.cluster.entries("pairs/") == {}


def test_of_parallel_writers_of_one_set_one_wins_each_version(served: Served) -> None:
    async def race() -> tuple[int, ...]:
        wins = 0
        for version in range(5):
            bodies = [{"pairs": [BTC, pair]} for pair in (ETH, XRP, "SOL-KRW")] * 4
            headers = key(PAIRS_KEY) | {"If-Match": f'"{version}"'}
            answers = await asyncio.gather(
                *(served.ask_in_loop("PUT", UPBIT, json=body, headers=headers) for body in bodies)
            )
            won = [answer for answer in answers if answer.status_code == HTTPStatus.ACCEPTED]
            lost = [answer for answer in answers if answer.status_code == HTTPStatus.PRECONDITION_FAILED]
            assert (len(won), len(lost)) == (1, 11)
            stored = (await served.ask_in_loop("GET", UPBIT, headers=key(READ_KEY))).json()
            assert stored["version"] == version + 1
            assert [BTC, *stored["wanted"]["*"][1:]] == stored["wanted"]["*"]
            named = {result["pair"] for result in won[0].json()["results"] if result["state"] != "dropped"}
            assert set(stored["wanted"]["*"]) <= named
            wins += 1
        return (wins,)

    assert asyncio.run(race()) == (5,)


def test_parallel_writers_that_add_lose_nothing(served: Served) -> None:
    change(served, "PUT", UPBIT, "*", json={"pairs": [BTC]})

    async def add() -> list[int]:
        bodies = [{"pairs": [pair]} for pair in (ETH, XRP, "SOL-KRW")]
        answers = await asyncio.gather(
            *(served.ask_in_loop("POST", UPBIT, json=body, headers=key(PAIRS_KEY)) for body in bodies)
        )
        return sorted(answer.json()["version"] for answer in answers)

    assert asyncio.run(add()) == [2, 3, 4]
    assert sorted(wanted(served)["*"]) == sorted([BTC, ETH, XRP, "SOL-KRW"])


def test_a_change_waits_for_the_collectors_and_says_how_far_each_pair_has_come(tmp_path: Path) -> None:
    served = Served(tmp_path, wait_seconds=60)
    stop = asyncio.Event()

    async def ask() -> list[Any]:
        follower = asyncio.create_task(Follower(served, "upbit", refused=[XRP]).run(stop))
        headers = key(PAIRS_KEY) | {"If-Match": "*"}
        replaced = await served.ask_in_loop("PUT", UPBIT, json={"pairs": [BTC, XRP]}, headers=headers)
        dropped = await served.ask_in_loop("DELETE", UPBIT, params={"pair": XRP}, headers=key(PAIRS_KEY))
        stop.set()
        await follower
        return [replaced, dropped]

    replaced, dropped = asyncio.run(ask())
    assert (replaced.status_code, dropped.status_code) == (HTTPStatus.OK, HTTPStatus.OK)
    states = {result["pair"]: (result["state"], result["reason"]) for result in replaced.json()["results"]}
    assert states[BTC] == ("confirmed", "")
    assert states[XRP][0] == "refused" and "no such market" in states[XRP][1]
    assert states[ETH] == ("dropped", "")
    assert {result["pair"]: result["state"] for result in dropped.json()["results"]} == {
        BTC: "confirmed",
        XRP: "dropped",
    }


def test_without_a_collector_a_change_is_stored_and_pending(served: Served) -> None:
    answer = change(served, "POST", UPBIT, json={"pairs": [BTC]})
    assert answer.status_code == HTTPStatus.ACCEPTED
    [result] = answer.json()["results"]
    assert (result["state"], result["reason"]) == ("pending", "ticker: no collector reports")


def test_who_changed_a_set_and_when_is_known(served: Served) -> None:
    change(served, "POST", UPBIT, json={"pairs": [BTC]})
    shown = served.ask("GET", UPBIT, headers=key(READ_KEY)).json()
    assert shown["by"].startswith("api pairs-") and PAIRS_KEY not in shown["by"] and shown["time"]


def test_C4_while_the_store_is_away_the_last_good_pairs_are_shown_and_nothing_is_changed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coin_platform.errors import ClusterError

    change(served, "PUT", UPBIT, "*", json={"pairs": [BTC]})

    def fail(*_: object) -> None:
        raise ClusterError("redis: away; start it")

    monkeypatch.setattr(type(served.cluster), "put", fail)
    answer = change(served, "POST", UPBIT, json={"pairs": [ETH]})
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and answer.headers["Retry-After"]
    assert wanted(served) == {"*": [BTC]}


def test_a_large_set_is_stored_and_shown(served: Served) -> None:
    pairs = [f"C{number}-KRW" for number in range(1_000)]
    served.markets._pairs = {"upbit": pairs}
    assert change(served, "PUT", UPBIT, "*", json={"pairs": pairs}).status_code == HTTPStatus.ACCEPTED
    assert wanted(served)["*"] == pairs
    assert PairSet(pairs={"*": (Pair("C0", "KRW"),)}).of("ticker") == (Pair("C0", "KRW"),)
