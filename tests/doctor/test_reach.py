"""The doctor asks exchanges as a collector does: the simulated ones, those that refuse, and those that are away."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from coin_platform.doctor import plan, reach
from coin_platform.doctor.checks import State
from coin_platform.doctor.machine import ClockSamples
from coin_platform.exchanges import EXCHANGES
from coin_platform.runtime.ports import free_port
from coin_platform.settings import Mode, Settings
from tests.kit.exchanges import Exchanges


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Exchanges]]:
    """Serve all simulated exchanges."""
    settings = Settings(exchanges_mode=Mode.SIMULATED, simulator_port=free_port(0))
    with Exchanges(settings, tmp_path_factory.mktemp("exchanges"), seed=7, rate=1) as exchanges:
        yield settings, exchanges


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchange_that_answers_is_fine(served: tuple[Settings, Exchanges], name: str) -> None:
    [found] = reach.exchange(EXCHANGES[name], served[0], ClockSamples())
    assert found.state is State.FINE and "REST" in found.text and "socket" in found.text


def test_a_refusal_is_named_with_its_status(served: tuple[Settings, Exchanges]) -> None:
    settings, exchanges = served
    exchanges.fault("okx", status=451)
    try:
        [found] = reach.exchange(EXCHANGES["okx"], settings, ClockSamples())
    finally:
        exchanges.fault("okx", status=0)
    assert found.state is State.WRONG and "HTTP 451" in found.text and "refuses this address" in found.remedy


class _Refuses(BaseHTTPRequestHandler):
    """Answers HTTP 429 with the time of its clock, which is an hour ahead."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response_only(429)
        self.send_header("Date", self.date_time_string(int(time.time()) + 3600))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_the_clock_of_an_exchange_is_read_from_its_answer_even_if_that_is_a_refusal() -> None:
    samples = ClockSamples()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        settings = Settings(exchanges_mode=Mode.SIMULATED, simulator_port=server.server_port)
        [found] = reach.exchange(EXCHANGES["upbit"], settings, samples)
        server.shutdown()
        thread.join()
    assert found.text == "REST: HTTP 429; socket: HTTP 429"
    assert -3700 < samples.ahead["upbit"] < -3500


def test_an_exchange_that_is_away_is_one_line_with_the_remedy() -> None:
    nobody = Settings(exchanges_mode=Mode.SIMULATED, simulator_port=free_port(0))
    [found] = reach.exchange(EXCHANGES["upbit"], nobody, ClockSamples())
    assert found.state is State.WRONG and "REST: " in found.text and "socket: " in found.text
    assert "COIN_PROXY" in found.remedy


def test_simulated_exchanges_that_do_not_run_are_one_warning() -> None:
    nobody = Settings(exchanges_mode=Mode.SIMULATED, simulator_port=free_port(0))
    [check] = [check for check in plan.checks(nobody, ClockSamples()) if check.name == "simulator"]
    [found] = check.run()
    assert found.state is State.WARNING and "`coin simulate`" in found.remedy
