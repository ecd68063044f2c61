"""What is logged: no text forges or floods the log, no secret is in it, and each line says where it is from."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from coin_platform.runtime import log_lines
from coin_platform.runtime.log_bursts import LINES_AT_ONCE, LimitedHandler
from coin_platform.runtime.log_lines import JsonLines, PlainLines, context, name_process, named
from coin_platform.runtime.secrets import Redactor
from coin_platform.settings import LogFormat, Settings

CANARY = "canary-4f1c/9+2="
SECRETS = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_user": "coin",
    "kafka_password": CANARY,
    "s3_access_key": f"A{CANARY}",
    "s3_secret_key": f"S{CANARY}",
    "s3_session_token": f"T{CANARY}",
    "proxy": "http://user:canary-of-proxy@proxy:3128",
    "serve_keys": f"read:{CANARY}{CANARY}{CANARY}",
    "serve_key": f"K{CANARY}",
}


@pytest.fixture(autouse=True)
def _no_names() -> Iterator[None]:
    name_process()
    yield
    name_process()


def record(message: str, *values: object, error: bool = False, name: str = "coin_platform.x") -> logging.LogRecord:
    """Return a record of 1970."""
    made = logging.LogRecord(name, logging.WARNING, "x.py", 1, message, values, sys.exc_info() if error else None)
    made.created = 0.0
    return made


def line(message: str, *values: object, error: bool = False, name: str = "coin_platform.x") -> str:
    """Return what is logged for a message, for people."""
    return PlainLines().format(record(message, *values, error=error, name=name))


def test_a_line_has_its_time_in_utc() -> None:
    assert line("%s: open", "kraken") == "1970-01-01T00:00:00Z WARNING coin_platform.x: kraken: open"


def test_control_characters_are_escaped() -> None:
    text = line("refused, %s", "no\n2026-01-01 ERROR forged\r\x1b[31m\u2028\udc80")
    assert text.endswith(": refused, no\\n2026-01-01 ERROR forged\\r\\x1b[31m\\u2028\\udc80")
    body = json.loads(JsonLines().format(record("%s", "no\n\x1b\u202e")))
    assert body["message"] == "no\\n\\x1b\\u202e"


def test_a_line_is_cut_at_a_kibibyte() -> None:
    assert len(line("%s", "x" * 100_000)) == 1024
    assert len(json.loads(JsonLines().format(record("%s", "x" * 100_000)))["message"]) == 1024


def test_a_traceback_follows_indented_and_escaped() -> None:
    try:
        raise ValueError("bad \x1b text\n2026-01-01 ERROR forged")
    except ValueError:
        first, *rest = line("a bug", error=True).split("\n")
        body = json.loads(JsonLines().format(record("a bug", error=True)))
    assert first.endswith("a bug")
    assert rest[-2:] == ["    ValueError: bad \\x1b text", "    2026-01-01 ERROR forged"]
    assert all(text.startswith("    ") for text in rest)
    assert body["message"] == "a bug" and body["more"].endswith("ValueError: bad \\x1b text\n2026-01-01 ERROR forged")


def test_a_traceback_in_a_message_of_dagster_is_kept_and_indented() -> None:
    first, *rest = line("RUN_FAILURE\n\nValueError: bad", name="dagster").split("\n")
    assert first.endswith("RUN_FAILURE") and rest == ["    ", "    ValueError: bad"]


def test_a_line_says_component_run_exchange_and_channel() -> None:
    name_process(component="collect korea", run="3f2a91bc-0000-4000-8000-000000000000")
    with named(exchange="upbit", channel="trade"):
        assert "WARNING coin_platform.x [collect korea upbit trade 3f2a91bc]: open" in line("open")
        body = json.loads(JsonLines().format(record("open")))
    assert (body["component"], body["exchange"], body["channel"]) == ("collect korea", "upbit", "trade")
    assert body["run"] == "3f2a91bc-0000-4000-8000-000000000000"
    assert (body["time"], body["level"], body["logger"]) == ("1970-01-01T00:00:00+00:00", "WARNING", "coin_platform.x")
    assert "[collect korea 3f2a91bc]: closed" in line("closed")


async def test_tasks_and_threads_that_asyncio_starts_inherit_the_names_and_others_do_not() -> None:
    seen: dict[str, dict[str, str]] = {}

    def look(who: str) -> None:
        seen[who] = context()

    async def feed(exchange: str) -> None:
        with named(exchange=exchange):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(look, f"thread of {exchange}"))
                group.create_task(child(exchange))

    async def child(exchange: str) -> None:
        await asyncio.sleep(0)
        look(f"task of {exchange}")

    name_process(component="collect asia")
    await asyncio.gather(feed("okx"), feed("bybit"))
    thread = threading.Thread(target=look, args=("own thread",))
    thread.start()
    thread.join()
    for name in ("okx", "bybit"):
        for who in ("thread", "task"):
            assert seen[f"{who} of {name}"] == {"component": "collect asia", "exchange": name}
    assert seen["own thread"] == {"component": "collect asia"}


@pytest.mark.parametrize("lines", [PlainLines, JsonLines])
def test_C3_no_secret_of_the_settings_is_in_the_log(lines: type[log_lines.Formatter]) -> None:
    settings = Settings(**SECRETS)  # type: ignore[arg-type]
    formatter = lines(Redactor.of(settings))
    texts = [
        f"login with {CANARY} failed",
        f"https://host/?password={CANARY.replace('/', '%2F').replace('+', '%2B').replace('=', '%3D')}",
        f"{SECRETS!r}",
        json.dumps(SECRETS),
        f"{'x' * 1010} {CANARY}",  # cut within the secret
        str(SECRETS["proxy"]),
    ]
    for text in texts:
        assert "canary" not in formatter.format(record("%s", text))
        try:
            raise ConnectionError(text)
        except ConnectionError:
            assert "canary" not in formatter.format(record("failed", error=True))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2&x=1", "password=***&x=1"),
        ('{"api_key": "abcdef", "pair": "BTC-KRW"}', '{"api_key": "***", "pair": "BTC-KRW"}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("https://user:pw@host/path", "https://***@host/path"),
        ("ticker/exchange=upbit: key 3 of 5", "ticker/exchange=upbit: key 3 of 5"),
        ("check COIN_S3_ACCESS_KEY and COIN_S3_SECRET_KEY", "check COIN_S3_ACCESS_KEY and COIN_S3_SECRET_KEY"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_other_text_is_not(text: str, shown: str) -> None:
    assert Redactor()(text) == shown


class Limited:
    """A handler with a clock of its own, and what it has written."""

    def __init__(self) -> None:
        self.now, self.stream = 0.0, io.StringIO()
        self.handler = LimitedHandler(self.stream, lambda: self.now, tell_seconds=3600)
        self.handler.setFormatter(logging.Formatter("%(message)s"))

    def log(self, message: str, *values: object, times: int = 1) -> None:
        for _ in range(times):
            self.handler.handle(record(message, *values))

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_a_burst_of_one_cause_is_limited_and_the_rest_is_counted() -> None:
    limited = Limited()
    limited.log("%s: refused", "a", times=LINES_AT_ONCE + 30)
    limited.log("other", times=2)
    assert limited.lines == ["a: refused"] * LINES_AT_ONCE + ["other"] * 2
    limited.now = 1.0
    limited.handler.tell()
    assert limited.lines[-2:] == ["left out in 1.0 s: 29 lines like the next one", "a: refused"]
    limited.log("%s: refused", "b", times=20)
    assert limited.lines[-10:] == ["b: refused"] * 10, "10 a second"
    limited.handler.close()
    assert limited.lines[-2:] == ["left out in 0.0 s: 9 lines like the next one", "b: refused"]


def test_exchanges_are_causes_of_their_own() -> None:
    limited = Limited()
    for exchange in ("okx", "bybit"):
        with named(exchange=exchange):
            limited.log("refused", times=LINES_AT_ONCE + 1)
    assert len(limited.lines) == 2 * LINES_AT_ONCE
    limited.handler.close()


def test_a_flood_of_messages_that_are_all_different_is_limited_too() -> None:
    limited = Limited()
    for number in range(10_000):
        limited.log(f"text {number} of a peer")
    assert len(limited.lines) < 2_100
    limited.handler.close()
    assert "lines like the next one" in limited.lines[-2]


def test_the_end_of_a_process_tells_what_was_left_out() -> None:
    program = """
import logging
from coin_platform.runtime.logs import set_up
from coin_platform.settings import Settings
set_up(Settings(log_format="json"), "collect korea", "run-1")
for _ in range(60):
    logging.getLogger("coin_platform.x").warning("refused, password=%s", "hunter2")
logging.getLogger("kafka.client").warning("of a library")
logging.getLogger("kafka.client").info("not shown")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    bodies = [json.loads(text) for text in done.stderr.splitlines()]
    assert {(body["component"], body["run"]) for body in bodies} == {("collect korea", "run-1")}
    assert bodies[50]["logger"] == "kafka.client" and bodies[50]["message"] == "of a library"
    assert "9 lines like the next one" in bodies[51]["message"]
    assert [body["message"] for body in bodies[52:]] == ["refused, password=***"]


def test_the_format_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COIN_LOG_FORMAT", "json")
    assert Settings().log_format is LogFormat.JSON
