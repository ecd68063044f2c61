"""Real sockets and HTTP: addresses, REST paths, faults by request, and a busy port."""

import asyncio
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coin_platform.errors import SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.model import BookUpdate, Candle, Channel, Event, Ticker, Trade
from coin_platform.settings import Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.faults import Faults
from coin_platform.simulator.sent_log import open_log
from coin_platform.simulator.server import Simulator
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import say
from tests.kit.served_simulator import open_socket, served, subscribe
from tests.kit.venue_talk import PAIR_CHANNELS, pair_of


def test_upbit_sends_binary_frames_and_the_others_text(tmp_path: Path) -> None:
    payload_types: dict[str, type] = {}

    async def work(port: int, simulator: Simulator) -> None:
        for name in VENUES:
            async with open_socket(port, name) as socket:
                await subscribe(socket, name)
                payload_types[name] = type(await socket.recv())

    served(tmp_path, work)
    assert (payload_types["upbit"], payload_types["okx"], payload_types["kraken"]) == (bytes, str, str)


def test_faults_are_set_over_http_and_felt(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        host = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{host}/_faults?exchange=okx&drop=0.01&close=1&refuse=BTC-USDT")
            assert answer.json()["okx"] | {"drop": 0.01, "close": True, "refuse": "BTC-USDT"} == answer.json()["okx"]
            assert simulator.faults["kraken"] == Faults()
            for wrong in ("exchange=nope", "drop=2", "gibberish=1"):
                assert (await http.get(f"{host}/_faults?{wrong}")).status_code == 400
            async with open_socket(port, "okx") as socket:
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1000
            await http.get(f"{host}/_faults?exchange=kraken&status=429&retry_after=7")
            with pytest.raises(InvalidStatus) as refused:
                async with open_socket(port, "kraken"):
                    pass
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "7"
            answer = await http.get(simulated_url(EXCHANGES["kraken"].markets_url() or "", "kraken", host[7:]))
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
            await http.get(f"{host}/_faults?status=0&close=0")
            answer = await http.get(simulated_url(EXCHANGES["kraken"].markets_url() or "", "kraken", host[7:]))
            assert pair_of("kraken") in traded_pairs(EXCHANGES["kraken"], answer.content)
            async with open_socket(port, "okx") as socket:
                await subscribe(socket, "okx")
                assert '"code":"60018"' in str(await socket.recv())

    served(tmp_path, work)


def test_unknown_addresses_are_not_found(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for path in ("", "nope/v2", "kraken/v3", "okx/api/v5/nothing?instId=BTC-USDT"):
                assert (await http.get(f"http://127.0.0.1:{port}/{path}")).status_code == 404
        with pytest.raises(InvalidStatus, match="404"):
            async with connect(f"ws://127.0.0.1:{port}/kraken/v3", proxy=None):
                pass

    served(tmp_path, work)


def test_a_busy_port_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        with open_log(tmp_path / "other") as log:
            twice = Simulator(Settings(simulator_port=port), 7, log)
            with pytest.raises(SettingsError, match=f"COIN_SIMULATOR_PORT={port}: the port is in use"):
                await twice.run(asyncio.Event())

    served(tmp_path, work)


def test_every_rest_path_is_served_for_every_pair(tmp_path: Path) -> None:
    answers: dict[tuple[str, Channel], tuple[int, list[Event]]] = {}
    unknown: dict[str, int] = {}

    async def work(port: int, simulator: Simulator) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for name in ("gateio", "binance", "coinbase"):
                exchange, pair = EXCHANGES[name], pair_of(name, "ETH")
                for channel in PAIR_CHANNELS:
                    url = simulated_url(exchange.request_url(channel, pair) or "", name, f"127.0.0.1:{port}")
                    answer = await http.get(url)
                    answers[name, channel] = answer.status_code, say(name, channel, answer.content, pair)
                    unknown[name] = (await http.get(url.replace("ETH", "NOPE"))).status_code

    served(tmp_path, work)
    event_types: dict[Channel, type] = dict(zip(PAIR_CHANNELS, (Ticker, BookUpdate, Trade, Candle), strict=True))
    for (_, channel), (status, events) in answers.items():
        assert status == 200
        assert {type(event) for event in events} == {event_types[channel]}
        assert {event.pair.base for event in events if isinstance(event, Trade)} <= {"ETH"}
    assert unknown == {"gateio": 400, "binance": 400, "coinbase": 404}


def test_a_connection_that_comes_at_the_end_is_closed_before_anything_is_sent(tmp_path: Path) -> None:
    async def work(port: int, simulator: Simulator) -> None:
        simulator._is_ending = True
        async with open_socket(port, "bybit") as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await subscribe(socket, "bybit")
                await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001

    sent, _ = served(tmp_path, work)
    assert sent == []
