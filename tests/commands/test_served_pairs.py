"""`coin pairs` and `coin status` through the control API: the same output and exit codes as on the store itself."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from coin_platform.cli import app
from coin_platform.clock import wall
from coin_platform.cluster.status import ComponentKind, PairStatus, Reporter, Status
from coin_platform.commands import stored_deployment
from coin_platform.commands.api_client import ApiClient
from coin_platform.commands.served_deployment import ServedDeployment
from coin_platform.errors import ApiError, BadArgument, CoinPlatformError, NoAnswer, UnknownName
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Instrument, InstrumentState, Pair
from coin_platform.settings import load
from tests.kit.serving import ADMIN_KEY, PAIRS_KEY, READ_KEY, Markets, Served, listening, report_feed

OTHERS = [
    Instrument(pair=Pair("DOGE", "KRW"), state=InstrumentState.TRADING, exchange_state="ON", tick_size="0.10"),
    Instrument(pair=Pair("LUNA", "KRW"), state=InstrumentState.HALTED, listed_time=1_500_000_000_000_000),
    Instrument(pair=Pair("SALE", "KRW"), state=InstrumentState.LIMITED, min_value="5000"),
]


class Desk:
    """A control API with an empty store, a store of the same kind without one, and `coin` on each of them."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self._stored_home = monkeypatch, tmp_path / "stored"
        self._stored_home.mkdir()
        self.served = Served(tmp_path / "served", exchanges=("upbit", "okx"))
        self.served.markets.others["upbit"] = OTHERS
        self.url = ""

    def served_coin(self, *arguments: str, key: str | None = ADMIN_KEY, url: str | None = None) -> Result:
        """Run a command through the API. Nothing of the deployment but the address and the key is set here."""
        values = {"HOME": str(self._stored_home.parent / "elsewhere"), "SERVE_URL": url or self.url, "SERVE_KEY": key}
        return self._coin(arguments, values)

    def stored_coin(self, *arguments: str) -> Result:
        """Run a command on a store of its own."""
        return self._coin(arguments, {"HOME": str(self._stored_home), "EXCHANGES": "upbit,okx"})

    def _coin(self, arguments: tuple[str, ...], values: dict[str, str | None]) -> Result:
        for name in ("HOME", "EXCHANGES", "SERVE_URL", "SERVE_KEY"):
            self._monkeypatch.delenv(f"COIN_{name}", raising=False)
        for name, value in values.items():
            if value is not None:
                self._monkeypatch.setenv(f"COIN_{name}", value)
        load.cache_clear()
        return CliRunner().invoke(app, arguments)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Give both ways to a deployment. Exchanges list the same on both, and okx answers nobody."""
    desk = Desk(tmp_path, monkeypatch)
    markets = Markets()
    markets.others["upbit"] = OTHERS

    async def fetch(exchange: Exchange, settings: object = None) -> list[Instrument]:
        if exchange.name == "okx":
            raise NoAnswer("HTTP 503")
        return await markets.fetch(exchange)

    desk.served.markets.fetch = fetch  # type: ignore[method-assign]
    monkeypatch.setattr(stored_deployment, "listed_markets", fetch)
    served = Served(tmp_path / "served", fetch=fetch, exchanges=("upbit", "okx"))
    desk.served = served
    with listening(served.app) as desk.url:
        yield desk
    load.cache_clear()


def shown(done: Result) -> tuple[int, str, str, str]:
    """Return what a command did, without who changed a set, when, and where the error happened."""
    text = re.sub(r'"by": "(?!the settings)[^"]*"|"changed": "[^"]*"', "", done.stdout)
    error = "" if done.exception is None else f"{type(done.exception).__name__}: {done.exception}"
    return done.exit_code, text, done.stderr, error


SAME = (
    ("pairs", "list", "--json"),
    ("pairs", "list", "upbit", "--active", "--json"),
    ("pairs", "list", "upbit"),
    ("pairs", "list", "upbit", "--all", "--json"),
    ("pairs", "list", "upbit", "--quote", "usd"),
    ("pairs", "list", "okx"),
    ("pairs", "list", "nope"),
    ("pairs", "add", "upbit", "doge", "--json"),
    ("pairs", "add", "upbit", "NOPE", "LUNA"),
    ("pairs", "add", "upbit", "SALE", "--channel", "trade", "--json"),
    ("pairs", "add", "okx", "NOPE"),
    ("pairs", "add", "okx", "NOPE", "--unchecked", "--json"),
    ("pairs", "add", "upbit", "A-B-C"),
    ("pairs", "add", "upbit", "DOGE", "--channel", "books"),
    ("pairs", "add", "upbit", "SALE", "--json"),
    ("pairs", "drop", "upbit", "XRP", "--json"),
    ("pairs", "drop", "upbit", "XRP"),
    ("pairs", "drop", "okx", "BTC", "ETH", "XRP", "SOL", "NOPE"),
    ("pairs", "drop", "okx", "BTC", "ETH", "XRP", "SOL", "NOPE", "--empty", "--json"),
    ("pairs", "reload", "--json"),
    ("status",),
    ("status", "--json"),
)


def test_C4_each_command_prints_and_ends_through_the_api_as_on_the_store(desk: Desk) -> None:
    for arguments in SAME:
        assert shown(desk.served_coin(*arguments)) == shown(desk.stored_coin(*arguments)), arguments
    assert json.loads(desk.served_coin("pairs", "list", "--json").stdout.splitlines()[0])["by"].startswith("api admin-")


def test_markets_that_are_limited_or_not_traded_are_named(desk: Desk) -> None:
    done = desk.served_coin("pairs", "list", "upbit")
    assert "DOGE-KRW\n" in done.stdout and "SALE-KRW  limited\n" in done.stdout and "LUNA" not in done.stdout
    assert done.stderr == "not traded now: LUNA-KRW halted; --all lists them\n"
    done = desk.served_coin("pairs", "list", "upbit", "--all")
    assert "LUNA-KRW  halted\n" in done.stdout and done.stderr == ""
    rows = [
        json.loads(line) for line in desk.served_coin("pairs", "list", "upbit", "--all", "--json").stdout.splitlines()
    ]
    [luna] = [row for row in rows if row["pair"] == "LUNA-KRW"]
    assert (luna["state"], luna["listed_time"]) == ("halted", "2017-07-14T02:40:00Z")
    assert {row["tick_size"] for row in rows if row["pair"] == "DOGE-KRW"} == {"0.10"}


def test_the_status_of_the_server_is_shown_as_that_of_the_store(desk: Desk) -> None:
    feed = Status(
        name="feed/upbit/ticker/0",
        kind=ComponentKind.FEED,
        state="live",
        numbers={"age_seconds": 0.25, "pairs": 2},
        texts={"transport": "socket"},
        pairs={
            "BTC-KRW": PairStatus(state="confirmed", last_time=7),
            "X-KRW": PairStatus(state="refused", reason="no"),
        },
    )
    Reporter(desk.served.cluster, "collector-korea").announce([feed], wall())
    done = desk.served_coin("status")
    assert done.exit_code == 0 and "feed/upbit/ticker/0" in done.stdout and "1 of 2" in done.stdout
    [row] = [json.loads(line) for line in desk.served_coin("status", "--json").stdout.splitlines()]
    assert row["numbers"] == {"age_seconds": 0.25, "pairs": 2} and row["texts"] == {"transport": "socket"}
    assert row["pairs"] == {
        "BTC-KRW": {"state": "confirmed", "last_time": 7},
        "X-KRW": {"state": "refused", "reason": "no"},
    }


def test_C4_a_degraded_store_of_the_server_is_named_on_stderr(desk: Desk) -> None:
    assert desk.served_coin("pairs", "add", "upbit", "DOGE").exit_code == 0
    (desk.served.settings.home / "data/cluster/pairs/upbit").write_bytes(b"half")
    done = desk.served_coin("pairs", "list", "upbit", "--active")
    assert "DOGE-KRW" in done.stdout and "degraded since" in done.stderr


def test_a_pair_that_the_exchange_refuses_and_a_channel_that_is_not_reached_are_notes(desk: Desk) -> None:
    assert desk.served_coin("pairs", "add", "upbit", "SALE", "--channel", "trade").exit_code == 0
    for channel in ("ticker", "orderbook", "candle"):
        report_feed(desk.served.cluster, "upbit", channel, {"DOGE-KRW": "refused"}, time=wall() + 4_000_000)
    done = desk.served_coin("pairs", "add", "upbit", "DOGE")
    assert done.exit_code == 0
    assert "upbit refuses DOGE-KRW, ticker: no such market" in done.stderr
    assert "trade have pairs of their own" in done.stderr


def raised(done: Result) -> CoinPlatformError:
    """Return the error of a command: `coin` prints it as one line, and ends with code 2."""
    assert isinstance(done.exception, CoinPlatformError), done.output
    assert "\n" not in str(done.exception)
    return done.exception


def test_a_key_that_is_missing_wrong_or_of_too_small_a_scope_is_one_line_without_the_key(desk: Desk) -> None:
    for key, arguments, says in (
        (None, ("status",), "this needs a key of scope read; set COIN_SERVE_KEY"),
        ("w" * 40, ("status",), "this key is not known; set COIN_SERVE_KEY"),
        (READ_KEY, ("pairs", "add", "upbit", "DOGE"), "this key has scope read; set COIN_SERVE_KEY"),
    ):
        error = raised(desk.served_coin(*arguments, key=key))
        assert isinstance(error, ApiError) and says in str(error) and desk.url in str(error)
        assert key is None or key not in str(error)
    assert desk.served_coin("pairs", "add", "upbit", "DOGE", key=PAIRS_KEY).exit_code == 0


def test_the_own_key_of_a_server_on_this_machine_is_found_and_sent_nowhere_else(tmp_path: Path) -> None:
    served = Served(tmp_path, serve_keys=None)
    with listening(served.app) as url:
        client = ApiClient.of(served.settings, url)
        assert ServedDeployment(client).statuses() == []
        client.close()
    for url in ("http://10.0.0.1:8600", "https://api.example", "http://127.0.0.1.evil.test:8600"):
        client = ApiClient.of(served.settings, url)
        assert "authorization" not in client._client.headers
        client.close()


def test_a_server_that_is_away_or_something_else_is_one_line_that_names_the_setting(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = f"http://127.0.0.1:{taken.getsockname()[1]}"
    error = raised(desk.served_coin("status", url=free))
    assert str(error).startswith(f"COIN_SERVE_URL={free}: the control API cannot be reached, ")
    for body, status in ((b"<html>", 200), (b"<html>", 502), (b"{}", 404), (b"[", 200)):

        async def other(scope: object, receive: object, send: object, body: bytes = body, status: int = status) -> None:
            await send({"type": "http.response.start", "status": status, "headers": []})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": body})  # type: ignore[operator]

        with listening(other) as url:
            error = raised(desk.served_coin("status", url=url))
        assert f"HTTP {status}, and not the answer of a control API" in str(error)


def test_an_answer_of_another_version_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ApiClient("http://127.0.0.1:1", None)
    monkeypatch.setattr(client, "ask", lambda *_, **__: {"total": 1, "markets": [{"pair": "BTC-KRW"}]})
    with pytest.raises(ApiError, match="the control API answers what this version of coin does not read"):
        ServedDeployment(client).markets(EXCHANGES["upbit"])
    client.close()


def test_a_change_without_an_answer_says_that_it_may_have_been_made() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("timed out", request=request)

    client = ApiClient("http://127.0.0.1:1", None)
    client._client.close()
    client._client = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answer))
    with pytest.raises(ApiError, match="no answer in time, timed out; whether the change was made is not known"):
        client.ask("POST", "/api/pairs/reload")
    with pytest.raises(ApiError, match=r"no answer in time, timed out$"):
        client.ask("GET", "/api/status")
    client.close()


def test_a_long_list_of_markets_and_of_pairs_takes_several_requests(tmp_path: Path) -> None:
    names = [f"A{number}-KRW" for number in range(1_201)]

    async def fetch(exchange: Exchange) -> list[Instrument]:
        return [Instrument(pair=Pair.read(name), state=InstrumentState.TRADING) for name in names]

    served = Served(tmp_path, fetch=fetch)
    upbit = EXCHANGES["upbit"]
    with listening(served.app) as url:
        deployment = ServedDeployment(ApiClient(url, ADMIN_KEY))
        pairs = [market.pair for market in deployment.markets(upbit)]
        assert sorted(map(str, pairs)) == sorted(names)
        assert deployment.add(upbit, "*", pairs, is_unchecked=False) == []
        assert set(pairs) < set(deployment.pairs(upbit).pairs["*"])
        assert deployment.drop(upbit, "*", pairs[:1_100], is_explicit=False) == []
        assert len(set(pairs) & set(deployment.pairs(upbit).pairs["*"])) == 101
        deployment.close()


def test_wrong_names_raise_the_same_errors(desk: Desk) -> None:
    for arguments, error in (
        (("pairs", "add", "upbit", "NOPE"), UnknownName),
        (("pairs", "drop", "upbit", "BTC", "ETH", "XRP", "SOL", "USDT"), BadArgument),
        (("pairs", "add", "okx", "NOPE"), NoAnswer),
    ):
        assert isinstance(raised(desk.served_coin(*arguments)), error)
