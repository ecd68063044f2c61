"""`/api/exchanges`: what the exchanges offer, and what they list of each pair, in their own text."""

from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from coin_platform.commands.quotes import listed_markets
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Instrument, InstrumentState, Pair
from coin_platform.settings import Settings
from tests.kit.recordings import frames
from tests.kit.serving import PAIRS_KEY, Served, key


def served_from(tmp_path: Path, exchange: str, line: int) -> Served:
    """Return a server whose exchange answers a recorded list of markets, which really goes through its decoder."""
    payload = frames(exchange, "rest_instrument")[line].payload
    answer = httpx.MockTransport(lambda request: httpx.Response(200, content=payload))
    return Served(tmp_path, fetch=partial(listed_markets, settings=Settings(home=tmp_path), transport=answer))


def markets(served: Served, exchange: str, **params: Any) -> dict[str, Any]:
    answer = served.ask("GET", f"/api/exchanges/{exchange}/markets", params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_market_has_its_steps_its_minimum_and_its_time_in_the_text_of_the_exchange(tmp_path: Path) -> None:
    body = markets(served_from(tmp_path, "okx", 0), "okx")
    assert body["total"] == 2
    assert body["markets"][0] == {
        "pair": "BTC-USDT",
        "symbol": "BTC-USDT",
        "state": "trading",
        "exchange_state": "live",
        "tick_size": "0.1",
        "size_step": "0.00000001",
        "min_size": "0.00001",
        "min_value": None,
        "listed_time": "2019-01-22T05:03:33Z",
    }


def test_a_market_that_is_not_traded_is_listed_only_where_its_state_is_asked_for(tmp_path: Path) -> None:
    served = served_from(tmp_path, "binance", 0)
    assert [market["pair"] for market in markets(served, "binance")["markets"]] == ["BTC-USDT", "ETH-BTC"]
    [halted] = markets(served, "binance", state="halted")["markets"]
    assert (halted["pair"], halted["exchange_state"], halted["min_value"]) == ("BCC-BTC", "BREAK", "0.00010000")
    both = markets(served, "binance", state=["trading", "halted"], limit=1, offset=1)
    assert (both["total"], [market["pair"] for market in both["markets"]]) == (3, ["BTC-USDT"])
    assert markets(served, "binance", quote="btc")["total"] == 1
    assert served.ask("GET", "/api/exchanges/binance/markets", params={"state": "sleeping"}).status_code == 422


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_each_exchange_lists_its_recorded_markets(exchange: str, tmp_path: Path) -> None:
    body = markets(served_from(tmp_path, exchange, 0), exchange, state=list(InstrumentState))
    assert body["markets"]
    for market in body["markets"]:
        assert EXCHANGES[exchange].symbol(Pair.read(market["pair"])) == market["symbol"]


def test_a_pair_that_is_listed_and_not_traded_is_refused_with_its_state_unless_it_is_forced(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.markets.others["upbit"] = [Instrument(pair=Pair("LUNA", "KRW"), state=InstrumentState.HALTED)]
    answer = served.ask("POST", "/api/pairs/upbit", headers=key(PAIRS_KEY), json={"pairs": ["LUNA-KRW", "NO-KRW"]})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "upbit does not list NO-KRW; upbit lists LUNA-KRW as halted"
    assert answer.json()["unlisted"] == ["NO-KRW"]
    assert answer.json()["not_traded"] == {"LUNA-KRW": "halted", "NO-KRW": "delisted"}
    forced = {"pairs": ["LUNA-KRW", "NO-KRW"], "unchecked": True}
    assert served.ask("POST", "/api/pairs/upbit", headers=key(PAIRS_KEY), json=forced).status_code == 202
    whole = served.ask("PUT", "/api/pairs/upbit", headers=key(PAIRS_KEY) | {"If-Match": "*"}, json=forced)
    assert whole.status_code == 202


def test_the_channels_and_the_proof_of_every_exchange_are_listed(tmp_path: Path) -> None:
    body = Served(tmp_path).ask("GET", "/api/exchanges").json()
    assert [exchange["name"] for exchange in body] == list(EXCHANGES)
    assert all("ticker" in exchange["streamed"] + exchange["polled"] for exchange in body)
