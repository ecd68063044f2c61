"""The server as a process: it answers, it keeps its limits, and it ends with code 0."""

import signal
import socket
from pathlib import Path

import pytest

from coin_platform.errors import SettingsError
from coin_platform.serve.listening import listen
from tests.kit.served_process import running, status


def test_the_server_answers_and_ends_with_code_0(tmp_path: Path) -> None:
    with running(tmp_path) as (port, process):
        assert status(port, "/health") == status(port, "/ready") == status(port, "/docs") == 200
        assert status(port, "/health", Host="evil.test") == 403
        assert status(port, "/health", X="x" * 20_000) == 431
        assert status(port, "/health", X="x" * 200_000) == 400
        with socket.create_connection(("127.0.0.1", port)) as silent:  # does not hold up the end
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            silent.close()
    log = (tmp_path / "log").read_text()
    key = (tmp_path / "data" / "serve.key").read_text().strip()
    assert key not in log and "Traceback" not in log


def test_C1_coin_serve_refuses_to_listen_elsewhere_without_a_key(tmp_path: Path) -> None:
    with running(tmp_path, SERVE_HOST="0.0.0.0") as (_, process):
        assert process.wait(30) == 2
    [line] = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("coin: COIN_SERVE_HOST=0.0.0.0: other machines reach this address, and no key is set")


def test_D24_an_address_that_cannot_be_had_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"COIN_SERVE_PORT={port}: the server cannot listen there"):
            listen("127.0.0.1", port)
    with pytest.raises(SettingsError, match=r"COIN_SERVE_HOST=no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 8600)
