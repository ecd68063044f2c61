"""Secrets stand in all settings that hold one, and no service is there. Real processes show none of the secrets."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from coin_platform.runtime.ports import free_ports
from coin_platform.settings import SECRETS
from tests.kit.served_process import running
from tests.kit.waiting import until

pytestmark = pytest.mark.timeout(300)

CANARY = "c4n4ry"  # in every secret, and in nothing else
ADMIN = f"{CANARY}-admin-{'k' * 40}"
ENOUGH_SECONDS = 200.0  # for a command whose every question runs into its own limit of time


def settings_of(tmp_path: Path) -> dict[str, str]:
    """Return settings, without COIN_, with a secret wherever one may be, and with addresses at which nobody listens."""
    kafka, s3, redis, proxy = free_ports(4)
    (tmp_path / "keys").write_text(f"pairs:{CANARY}-in-file-{'k' * 40}\n")
    return {
        "EXCHANGES": "upbit,okx",
        "BROKER_URL": f"kafka://127.0.0.1:{kafka}",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_USER": "coin",
        "KAFKA_PASSWORD": f"{CANARY}-kafka=/+&",
        "LAKE_URL": "s3://bucket/prefix",
        "S3_ENDPOINT": f"http://127.0.0.1:{s3}",
        "S3_ACCESS_KEY": f"{CANARY}-access",
        "S3_SECRET_KEY": f"{CANARY}-secret/+=",
        "S3_SESSION_TOKEN": f"{CANARY}-token",
        "REDIS_URL": f"redis://coin:{CANARY}%2Fredis%40x@127.0.0.1:{redis}/0",
        "PROXY": f"http://coin:{CANARY}-proxy%3A@127.0.0.1:{proxy}",
        "SERVE_KEYS": f"admin:{ADMIN},read:{CANARY}-read-{'k' * 40}",
        "SERVE_KEYS_FILE": str(tmp_path / "keys"),
        "SERVE_KEY": ADMIN,
        "DEPLOYMENT": "hidden",
        "LOG_LEVEL": "DEBUG",
    }


def environment(home: Path, settings: dict[str, str]) -> dict[str, str]:
    """Return the environment of a process, without settings of the machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COIN_", "DAGSTER_"))}
    return kept | {"COIN_HOME": str(home)} | {f"COIN_{name}": value for name, value in settings.items()}


def files_below(folder: Path) -> str:
    """Return the text of all files of a home, such as logs, copies and journals. The file of keys is our own."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "keys"]
    return "\n".join(f"{path}\n{path.read_bytes().decode('latin-1')}" for path in files)


def assert_hidden(*texts: str) -> None:
    """Raise `AssertionError`, which shows what stands around it, for a text with a secret."""
    for text in texts:
        at = text.find(CANARY)
        assert at < 0, text[max(0, at - 300) : at + 100]


def answer_of(url: str, method: str = "GET", key: str = ADMIN, body: object = None) -> tuple[int, str]:
    """Return the status of an answer, and its headers and body as text."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "If-Match": "*"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, f"{answer.headers}{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return error.code, f"{error.headers}{error.read().decode()}"


def test_every_secret_setting_has_a_canary(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert {name for name, value in settings.items() if CANARY in value} == {name.upper() for name in SECRETS}


def test_C3_no_secret_is_in_an_answer_or_the_log_of_a_server(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with running(tmp_path, **settings, LOG_FORMAT="json") as (port, process):
        assert process.poll() is None, (tmp_path / "log").read_text()
        url, texts, statuses = f"http://127.0.0.1:{port}", list[str](), set[int]()
        pairs = {"pairs": ["DOGE-KRW"]}
        for method, path, body in (
            *(("GET", path, None) for path in ("/health", "/ready", "/metrics", "/openapi.json", "/docs", "/nope")),
            *(
                ("GET", f"/api/{path}", None)
                for path in ("exchanges", "exchanges/okx/markets", "pairs", "status", "gaps")
            ),
            *(("GET", f"/api/{path}", None) for path in ("pairs/upbit/ticker", "status/nobody", "gaps?from=x")),
            *(("PUT", path, pairs) for path in ("/api/pairs/upbit", "/api/pairs/upbit/trade")),
            ("POST", "/api/pairs/upbit", pairs | {"unchecked": True}),
            ("POST", "/api/pairs/upbit", ADMIN),
            ("DELETE", "/api/pairs/upbit?pair=BTC-KRW", None),
            ("POST", "/api/pairs/reload", None),
            ("POST", "/api/feeds/upbit/ticker/0/reconnect", None),
        ):
            status, text = answer_of(f"{url}{path}", method, body=body)
            statuses.add(status)
            texts.append(text)
        status, text = answer_of(f"{url}/api/status", key=f"{ADMIN}-wrong")
        statuses.add(status)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert {200, 401, 404, 422, 503} <= statuses
    assert_hidden(*texts, text, (tmp_path / "log").read_text(), files_below(tmp_path))


def test_C3_no_secret_is_in_the_log_or_the_metrics_of_a_collector(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    [metrics_port] = free_ports(1)
    settings |= {"METRICS_PORT": str(metrics_port - 10)}
    command = [sys.executable, "-m", "coin_platform", "collect", "--region", "korea"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(tmp_path, settings), cwd=tmp_path, stdout=log, stderr=log)
        try:
            until(lambda: process.poll() is not None or "no answer over REST" in (tmp_path / "log").read_text(), 120)
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=60) as answer:
                metrics = answer.read().decode()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()
            process.wait()
    assert "coin_" in metrics
    assert_hidden(metrics, (tmp_path / "log").read_text(), files_below(tmp_path))


@pytest.mark.parametrize(
    "arguments",
    [
        ("settings",),
        ("settings", "--json"),
        ("status",),
        ("doctor",),
        ("doctor", "--json"),
        ("pairs", "list"),
        ("pairs", "list", "okx"),
        ("pairs", "add", "upbit", "DOGE", "--unchecked"),
        ("ticker", "BTC", "--all"),
        ("topics", "describe"),
        ("lake", "tables"),
        ("dead-letters", "list"),
    ],
    ids=" ".join,
)
def test_C3_no_secret_is_in_what_a_command_prints(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "coin_platform", *arguments]
    done = subprocess.run(
        command,
        env=environment(tmp_path, settings_of(tmp_path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=ENOUGH_SECONDS,
    )
    assert done.stdout + done.stderr and "Traceback" not in done.stderr
    assert done.returncode == 0 if arguments[0] == "settings" else done.returncode in (0, 1, 2)
    assert_hidden(done.stdout, done.stderr, files_below(tmp_path))


def test_C3_no_secret_is_in_a_command_that_asks_a_server(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with running(tmp_path, **settings) as (port, _):
        for address in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_ports(1)[0]}"):
            for key in (ADMIN, f"{ADMIN}-wrong"):
                values = settings | {"SERVE_URL": address, "SERVE_KEY": key}
                done = subprocess.run(
                    [sys.executable, "-m", "coin_platform", "status"],
                    env=environment(tmp_path, values),
                    capture_output=True,
                    text=True,
                    timeout=ENOUGH_SECONDS,
                )
                assert done.returncode in (1, 2)
                assert_hidden(done.stdout, done.stderr)


def test_C3_no_secret_is_in_what_dagster_shows_of_a_run_that_failed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.secret_run"],
        env=environment(tmp_path, settings_of(tmp_path)) | {"DAGSTER_HOME": ""},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=ENOUGH_SECONDS,
    )
    assert "the run failed, as it should" in done.stdout, done.stderr[-3000:]
    assert "STEP_FAILURE" in done.stdout
    assert_hidden(done.stdout, done.stderr, files_below(tmp_path))
