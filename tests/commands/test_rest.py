"""`coin pairs list` and `coin ticker`, against the simulated exchanges and against wrong answers."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import httpx
import pytest
from typer.testing import CliRunner, Result

from coin_platform.cli import app
from coin_platform.commands.quotes import TickerQuote, listed_markets, quotes
from coin_platform.errors import NoAnswer
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Event, Frame, Pair, Refused
from coin_platform.runtime.ports import free_port
from coin_platform.settings import Mode, Settings, load
from coin_platform.simulator.faults import Faults
from coin_platform.simulator.server import Simulator, open_log
from tests.kit.recordings import frames

BTC = {exchange.title: Pair("BTC", exchange.quote) for exchange in EXCHANGES.values()}
IMPORTED = time.time_ns() // 1000  # in µs: the simulated market begins later
KOREAN = ("upbit", "bithumb", "coinone", "korbit")
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, int]]:
    """Serve all exchanges from a thread. The commands run their own event loop."""
    settings = Settings(exchanges_mode=Mode.SIMULATED, simulator_port=free_port(0))
    started: Future[tuple[Simulator, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        with open_log(tmp_path_factory.mktemp("simulator")) as log:
            simulator = Simulator(settings, 7, log, rate=2)
            serving = asyncio.create_task(simulator.run(stop, ready))
            await ready.wait()
            started.set_result((simulator, asyncio.get_running_loop(), stop))
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    simulator, loop, stop = started.result(timeout=60)
    try:
        yield simulator, settings.simulator_port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def faults(simulator: tuple[Simulator, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Faults]]:
    """Point `coin` at the simulated exchanges. Give the faults of each exchange, for tests to change."""
    monkeypatch.setenv("COIN_EXCHANGES_MODE", "simulated")
    monkeypatch.setenv("COIN_SIMULATOR_PORT", str(simulator[1]))
    monkeypatch.delenv("COIN_EXCHANGES", raising=False)
    load.cache_clear()
    yield simulator[0].faults
    simulator[0].faults.update({name: Faults() for name in simulator[0].faults})
    load.cache_clear()


def coin(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def ask(name: str, answer: Handler, pair: str = "") -> TickerQuote:
    """Return the quote that comes of an answer of an exchange."""
    exchange = EXCHANGES[name]
    asked = Pair.parse(pair) if pair else Pair("BTC", exchange.quote)
    [quote] = asyncio.run(quotes([(exchange, asked)], Settings(), httpx.MockTransport(answer)))
    return quote


def always(status: int, body: str, **headers: str) -> Handler:
    return lambda request: httpx.Response(status, text=body, headers=headers)


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_pairs_of_every_exchange_are_listed_sorted_and_by_quote(
    name: str, simulator: tuple[Simulator, int], faults: dict[str, Faults]
) -> None:
    pairs = sorted(simulator[0].market.listings[name])
    assert coin("pairs", "list", name).stdout.split() == [str(pair) for pair in pairs]
    quote = EXCHANGES[name].quote.lower()
    lines = [json.loads(line) for line in coin("pairs", "list", name, "--quote", quote, "--json").stdout.splitlines()]
    assert [{key: line[key] for key in ("exchange", "pair", "symbol", "state")} for line in lines] == [
        {"exchange": name, "pair": str(pair), "symbol": EXCHANGES[name].symbol(pair), "state": "trading"}
        for pair in pairs
        if pair.quote == EXCHANGES[name].quote
    ]
    assert coin("pairs", "list", name, "--quote", "XYZ").stdout == ""


def test_a_base_is_asked_of_each_exchange_in_its_own_quote(faults: dict[str, Faults]) -> None:
    result = coin("ticker", "btc", "--all")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["exchange", "pair", "last", "change", "best", "bid", "best", "ask", "UTC"]
    assert {line[0]: line[1] for line in lines[1:]} == {title: str(pair) for title, pair in BTC.items()}
    prices = {line[0]: float(line[2].replace(",", "")) for line in lines[1:]}
    assert all(1e8 < price < 2e8 for title, price in prices.items() if BTC[title].quote == "KRW")
    assert all(5e4 < price < 2e5 for title, price in prices.items() if BTC[title].quote != "KRW")
    assert (result.exit_code, result.stderr) == (0, "")


def test_exchanges_that_do_not_list_a_pair_say_so_and_the_others_answer(faults: dict[str, Faults]) -> None:
    result = coin("ticker", "BTC-KRW", "--all", "--json")
    lines = {line["exchange"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert list(lines) == list(EXCHANGES)
    assert tuple(name for name, line in lines.items() if "last" in line) == KOREAN
    for name, line in lines.items():
        if name not in KOREAN:
            assert line == {"exchange": name, "pair": "BTC-KRW", "failure": "BTC-KRW is not listed"}
            assert f"{name}: BTC-KRW is not listed\n" in result.stderr
    assert result.exit_code == 0
    assert "\nOKX       BTC-KRW  BTC-KRW is not listed\n" in coin("ticker", "BTC-KRW", "--all").stdout


def test_one_exchange_gives_the_columns_of_the_ticker_table(faults: dict[str, Faults]) -> None:
    line = json.loads(coin("ticker", "okx", "BTC-USDT", "--json").stdout)
    assert (line["exchange"], line["pair"]) == ("okx", "BTC-USDT")
    assert line["low_24h"] <= line["last"] <= line["high_24h"]
    assert line["best_bid"] < line["best_ask"]
    assert IMPORTED - SECOND < line["exchange_time"] < time.time_ns() // 1000 + SECOND


def test_the_exit_code_is_1_if_no_exchange_answers(faults: dict[str, Faults]) -> None:
    assert coin("ticker", "upbit", "NOPE").exit_code == 1
    faults["kraken"].status, faults["kraken"].retry_after = 429, "30"
    for words in (("ticker", "kraken", "BTC"), ("pairs", "list", "kraken")):
        result = coin(*words)
        assert (result.exit_code, result.stderr) == (1, "kraken: HTTP 429, ask again in 30 s\n")


def test_one_failing_exchange_is_named_and_costs_nothing_else(faults: dict[str, Faults]) -> None:
    faults["bybit"].status = 503
    result = coin("ticker", "ETH", "--all")
    assert (result.exit_code, result.stderr) == (0, "bybit: HTTP 503\n")
    assert "Bybit     ETH-USDT  HTTP 503\n" in result.stdout
    assert len(result.stdout.splitlines()) == 1 + len(EXCHANGES)


def test_all_means_the_enabled_exchanges(faults: dict[str, Faults], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COIN_EXCHANGES", "okx,upbit")
    load.cache_clear()
    lines = coin("ticker", "XRP", "--all", "--json").stdout.splitlines()
    assert [json.loads(line)["exchange"] for line in lines] == ["upbit", "okx"]


@pytest.mark.parametrize("words", [("BTC",), ("upbit", "BTC", "--all"), ("upbit", "BTC", "KRW")])
def test_other_arguments_than_exchange_and_pair_or_pair_and_all_are_explained(words: tuple[str, ...]) -> None:
    result = coin("ticker", *words)
    assert result.exit_code == 2
    assert "write EXCHANGE PAIR, or PAIR --all" in result.stderr


def test_an_unknown_exchange_is_refused_with_the_known_names() -> None:
    for words in (("ticker", "nope", "BTC"), ("pairs", "list", "nope")):
        assert "nope: there is no such name; write one of upbit, bithumb," in str(coin(*words).exception)


NO_SUCH = '{"code":"51001","data":[],"msg":"Instrument ID doesn\'t exist."}'


def okx(refusal: httpx.Response, markets: httpx.Response) -> Handler:
    return lambda request: markets if "instruments" in request.url.path else refusal


def test_a_refusal_in_an_answer_of_status_200_is_looked_up_in_the_list_of_markets() -> None:
    other = httpx.Response(200, text='{"code":"0","data":[{"instId":"ETH-USDT"}]}')
    same = httpx.Response(200, text='{"code":"0","data":[{"instId":"BTC-USDT"}]}')
    broken = httpx.Response(200, text='{"code":"50013","data":[],"msg":"Systems are busy."}')
    refusal = httpx.Response(200, text=NO_SUCH)
    assert ask("okx", okx(refusal, other)).failure == "BTC-USDT is not listed"
    assert ask("okx", okx(refusal, same)).failure == "51001: Instrument ID doesn't exist."
    assert ask("okx", okx(refusal, broken)).failure == "51001: Instrument ID doesn't exist."


def test_a_refusal_with_a_status_keeps_its_words() -> None:
    refusal = httpx.Response(400, text='{"code":"51001","msg":"Instrument ID doesn\'t exist."}')
    markets = httpx.Response(200, text='{"code":"0","data":[{"instId":"BTC-USDT"}]}')
    assert ask("okx", okx(refusal, markets)).failure == "HTTP 400: 51001: Instrument ID doesn't exist."


WRONG = [
    ("bybit", always(403, "<html>access too frequent</html>"), "HTTP 403"),
    ("kraken", always(502, "<html>"), "HTTP 502"),
    (
        *("binance", always(429, '{"code":-1003,"msg":"Too much."}', **{"Retry-After": "7"})),
        "HTTP 429, ask again in 7 s: -1003: Too much.",
    ),
    (
        *("upbit", always(418, '{"error":{"name":"too_many_requests","message":"banned"}}')),
        "HTTP 418: too_many_requests: banned",
    ),
    ("coinone", always(200, "<html>there is nothing here</html>"), "not as documented: coinone: "),
    ("okx", always(200, '{"code":"0","msg":"","data":[]}'), "no ticker in the answer"),
    ("kraken", always(200, '{"error":["EGeneral:Too many requests"]}'), "EGeneral:Too many requests"),
    (
        *("coinone", always(200, '{"result":"error","error_code":"4","error_msg":"Blocked user access"}')),
        "4: Blocked user access",
    ),
]


@pytest.mark.parametrize(("name", "answer", "failure"), WRONG)
def test_a_failure_is_told_in_the_words_of_the_exchange(name: str, answer: Handler, failure: str) -> None:
    quote = ask(name, answer)
    assert quote.ticker is None
    assert quote.failure.startswith(failure)
    assert quote.failure == failure or failure.endswith(" ")


def test_during_a_ban_the_list_of_markets_is_not_asked_for() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(429, headers={"Retry-After": "3600"})

    assert ask("okx", answer).failure == "HTTP 429, ask again in 3600 s"
    assert asked == ["/api/v5/market/ticker"]


def test_R9_during_a_ban_sent_in_a_body_the_list_of_markets_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Banning(type(EXCHANGES["okx"])):  # type: ignore[misc]
        def read_rest(self, frame: Frame) -> Iterator[Event]:
            yield Refused(reason="50011: Too Many Requests", pair=frame.pair, ban_seconds=60.0)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, content=b"{}")

    monkeypatch.setitem(EXCHANGES, "okx", Banning())
    assert ask("okx", answer).failure == "50011: Too Many Requests"
    assert asked == ["/api/v5/market/ticker"]


def test_D16_an_answer_that_takes_too_much_is_a_failure_of_that_exchange() -> None:
    packed = httpx.Response(200, headers={"Content-Encoding": "br"}, stream=httpx.ByteStream(b"[]"))
    failure = "packed as 'br', which was not asked for"
    assert ask("gateio", lambda request: packed).failure == f"BadAnswer: {failure}"
    with pytest.raises(NoAnswer, match=failure):
        asyncio.run(listed_markets(EXCHANGES["gateio"], Settings(), httpx.MockTransport(lambda request: packed)))


def test_a_broken_network_is_a_failure_of_that_exchange() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route to host", request=request)

    assert ask("gateio", answer).failure == "ConnectError: no route to host"


def test_the_ticker_of_another_pair_is_no_answer() -> None:
    payload = frames("okx", "rest_ticker")[0].payload.decode()
    assert '"instId":"BTC-USDT"' in payload.replace(": ", ":")
    assert ask("okx", always(200, payload)).ticker is not None
    markets = httpx.Response(200, text='{"code":"0","data":[{"instId":"ETH-USDT"}]}')
    other = okx(httpx.Response(200, text=payload), markets)
    assert ask("okx", other, "ETH-USDT").failure == "no ticker in the answer"


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_page_instead_of_a_list_of_markets_is_no_answer(name: str) -> None:
    page = httpx.MockTransport(always(200, "<html>"))
    with pytest.raises(NoAnswer, match=f"not a list of markets: {name}: "):
        asyncio.run(listed_markets(EXCHANGES[name], Settings(), page))
