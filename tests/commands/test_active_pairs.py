"""`coin pairs add|drop|list|reload` and `coin status`, on the files of this machine."""

import json
import os

import pytest

from coin_platform.clock import wall
from coin_platform.cluster import open_cluster
from coin_platform.cluster.status import ComponentKind, PairStatus, Reporter, Status
from coin_platform.commands import stored_deployment
from coin_platform.errors import BadArgument, NoAnswer, UnknownName, UnknownPair
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Instrument, InstrumentState, Pair
from coin_platform.settings import Settings
from tests.kit.platform import Platform


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have exchanges list a few pairs, without asking them."""

    async def listed_markets(exchange: Exchange, settings: Settings) -> list[Instrument]:
        if exchange.name == "okx":
            raise NoAnswer("HTTP 503")
        states = dict.fromkeys(("BTC", "ETH", "XRP", "SOL", "USDT", "DOGE"), InstrumentState.TRADING)
        states["LUNA"] = InstrumentState.HALTED
        return [Instrument(pair=Pair(base, exchange.quote), state=state) for base, state in states.items()]

    monkeypatch.setattr(stored_deployment, "listed_markets", listed_markets)


def rows(platform: Platform, *arguments: str) -> list[dict[str, object]]:
    done = platform.coin("pairs", *arguments, "--json")
    assert done.exception is None, done.exception
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_pairs_of_the_settings_are_listed_until_somebody_changes_them(platform: Platform) -> None:
    [upbit, okx] = rows(platform, "list")
    assert (upbit["exchange"], upbit["version"], upbit["by"], okx["exchange"]) == ("upbit", 0, "the settings", "okx")
    assert upbit["pairs"] == ["BTC-KRW", "ETH-KRW", "XRP-KRW", "SOL-KRW", "USDT-KRW"]


def test_pairs_are_added_and_dropped_and_listed_with_who_changed_them(platform: Platform) -> None:
    [row] = rows(platform, "add", "upbit", "doge", "DOGE-KRW")
    assert row["pairs"] == ["BTC-KRW", "ETH-KRW", "XRP-KRW", "SOL-KRW", "USDT-KRW", "DOGE-KRW"]
    assert row["version"] == 1
    assert "@" in str(row["by"])
    [row] = rows(platform, "drop", "upbit", "BTC", "ETH-KRW")
    assert row["pairs"] == ["XRP-KRW", "SOL-KRW", "USDT-KRW", "DOGE-KRW"]
    assert rows(platform, "list", "upbit", "--active") == [row]
    shown = platform.coin("pairs", "list").stdout
    assert "XRP-KRW SOL-KRW USDT-KRW DOGE-KRW" in shown


def test_a_channel_gets_pairs_of_its_own(platform: Platform) -> None:
    found = rows(platform, "drop", "upbit", "SOL", "--channel", "orderbook")
    assert {row["channel"]: "SOL-KRW" in str(row["pairs"]) for row in found} == {"*": True, "orderbook": False}
    with pytest.raises(BadArgument, match=r"there is no such channel; write one of \*, ticker"):
        raise_of(platform, "pairs", "add", "upbit", "DOGE", "--channel", "books")


def test_what_the_exchange_does_not_list_is_refused_and_may_be_forced(platform: Platform) -> None:
    with pytest.raises(UnknownName, match="upbit does not list NOPE-KRW; see `coin pairs list upbit`"):
        raise_of(platform, "pairs", "add", "upbit", "NOPE")
    with pytest.raises(UnknownName, match="upbit does not list NOPE-KRW; upbit lists LUNA-KRW as halted; see"):
        raise_of(platform, "pairs", "add", "upbit", "NOPE", "LUNA", "BTC")
    with pytest.raises(NoAnswer, match="okx does not say which pairs it lists: HTTP 503; or write --unchecked"):
        raise_of(platform, "pairs", "add", "okx", "NOPE")
    [row] = rows(platform, "add", "okx", "NOPE", "--unchecked")
    assert "NOPE-USDT" in str(row["pairs"])


def test_wrong_names_are_one_line_and_change_nothing(platform: Platform) -> None:
    before = rows(platform, "list")
    for arguments, error, says in (
        (("add", "nope", "BTC"), UnknownName, "EXCHANGE nope"),
        (("add", "upbit", "A-B-C"), UnknownPair, "BASE-QUOTE"),
        (("drop", "upbit", "DOGE"), UnknownName, "DOGE-KRW is not active; active are BTC-KRW"),
        (("drop", "upbit", "BTC", "ETH", "XRP", "SOL", "USDT"), BadArgument, "would have no pair at all"),
    ):
        with pytest.raises(error, match=says):
            raise_of(platform, "pairs", *arguments)
    assert rows(platform, "list") == before


def test_all_pairs_are_dropped_only_explicitly(platform: Platform) -> None:
    [row] = rows(platform, "drop", "upbit", "BTC", "ETH", "XRP", "SOL", "USDT", "--empty")
    assert row["pairs"] == []


def test_reload_puts_back_what_the_store_has_lost(platform: Platform) -> None:
    rows(platform, "add", "upbit", "DOGE")
    (platform.home / "data/cluster/pairs/upbit").unlink()
    [row] = rows(platform, "reload")
    assert (row["exchange"], row["version"]) == ("upbit", 2)
    assert "DOGE-KRW" in str(row["pairs"])


def test_C4_a_degraded_store_is_named_on_stderr(platform: Platform) -> None:
    rows(platform, "add", "upbit", "DOGE")
    (platform.home / "data/cluster/pairs/upbit").write_bytes(b"half")
    done = platform.coin("pairs", "list", "upbit", "--active")
    assert "DOGE-KRW" in done.stdout
    assert "degraded since" in done.stderr


def test_status_shows_each_component_and_says_when_nothing_runs_or_something_is_lost(platform: Platform) -> None:
    done = platform.coin("status")
    assert (done.exit_code, "nothing runs: start `coin up`" in done.stdout) == (1, True)
    cluster, now = open_cluster(platform.settings), wall()
    feed = Status(
        name="feed/upbit/ticker/0",
        kind=ComponentKind.FEED,
        state="live",
        numbers={"age_seconds": 0.25, "frames_per_second": 12.5, "gap_records": 3, "books_proved": 1},
        texts={"proof": "sequence"},
        pairs={"BTC-KRW": PairStatus(state="confirmed"), "X-KRW": PairStatus(state="refused", reason="unknown")},
    )
    Reporter(cluster, "collector-korea").announce([feed], now)
    done = platform.coin("status")
    assert done.exit_code == 0
    for text in ("feed/upbit/ticker/0", "live", "1 of 2", "12.5", "1 books proved by sequence, 3 gaps"):
        assert text in done.stdout
    [row] = [json.loads(line) for line in platform.coin("status", "--json").stdout.splitlines()]
    assert row["pairs"]["X-KRW"] == {"state": "refused", "reason": "unknown"}
    assert row["process"] == os.getpid()
    done = platform.coin("status", "feed/upbit")
    for text in ("frames a second, over the last 10 s", "X-KRW", "unknown"):
        assert text in done.stdout
    assert isinstance(platform.coin("status", "feed/up").exception, UnknownName)
    Reporter(cluster, "collector-korea").announce([feed], now - 60 * SECOND)
    done = platform.coin("status")
    assert (done.exit_code, "lost" in done.stdout, "it was live" in done.stdout) == (1, True, True)


def raise_of(platform: Platform, *arguments: str) -> None:
    """Run a command, and raise what it raised."""
    done = platform.coin(*arguments)
    assert done.exception is not None, done.output
    raise done.exception
