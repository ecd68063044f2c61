"""How long nothing may be asked of an exchange: as its answer says, otherwise as its documentation says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.bans import LONGEST_BAN_SECONDS, longest_duration_seconds
from coin_platform.model import SECOND, Microseconds

NOW: Microseconds = 1_796_000_000 * SECOND
DOCUMENTED = {"bithumb": 600.0, "bybit": 600.0, "kraken": 600.0, "binance": 120.0}


@pytest.mark.parametrize("status", [403, 418, 429])
@pytest.mark.parametrize("name", EXCHANGES)
def test_R9_a_refusal_lasts_as_long_as_told_else_as_documented(name: str, status: int) -> None:
    exchange = EXCHANGES[name]
    page = b"<html>Access denied. Ray ID 8f2 since 2026-11-30</html>"
    for body in (page, b"", b'{"error":{"name":"too_many_requests"}}', b"[" * 5000):
        assert exchange.read_ban(status, None, body, NOW) == exchange.ban_seconds > 0
        assert exchange.read_ban(status, 7.0, body, NOW) == 7
        assert exchange.read_ban(status, 259_200.0, body, NOW) == 259_200
    assert exchange.ban_seconds >= DOCUMENTED.get(name, 10.0)


@pytest.mark.parametrize("name", EXCHANGES)
def test_R9_only_refusals_and_servers_in_trouble_forbid(name: str) -> None:
    exchange = EXCHANGES[name]
    for status in (200, 301, 400, 404, 451):
        assert exchange.read_ban(status, 9.0, b"blocked for 60 seconds", NOW) == 0
    for status in (500, 503, 520):
        assert exchange.read_ban(status, 5.0, b"", NOW) == 5
        assert exchange.read_ban(status, None, b"blocked for 60 seconds", NOW) == 0


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Blocked. Try again in 90 seconds.", 90),
        ("blocked for 1 minute 30 seconds", 90),
        ("blocked for 1 hour, and 5 min", 3900),
        ("BLOCKED: 10 MINUTES", 600),
        ("요청이 차단되었습니다. 60초 후 다시 시도해 주세요.", 60),
        ("1시간 30분 동안 차단됩니다", 5400),
        ("차단 시간: 3분", 180),
        ("at most 10 requests per 1 second, blocked for 2 days", 172_800),
        ("wait 1,200 s", 1200),
        ("wait 1500ms", 1.5),
        ("wait 45s", 45),
    ],
)
def test_R9_upbits_block_lasts_as_long_as_its_message_says(message: str, seconds: float) -> None:
    upbit = EXCHANGES["upbit"]
    error = {"error": {"name": 418, "message": message}}
    for body in (json.dumps(error), json.dumps(error, ensure_ascii=False), message):
        assert upbit.read_ban(418, None, body.encode(), NOW) == seconds
    assert upbit.read_ban(418, 7200.0 * 100, json.dumps(error).encode(), NOW) == 720_000


@pytest.mark.parametrize(
    "message", ["Too many API requests.", "blocked for 0 seconds", "wait 9000000 days", "5 mice", ""]
)
def test_R9_what_names_no_length_leaves_the_documented_one(message: str) -> None:
    upbit = EXCHANGES["upbit"]
    assert upbit.read_ban(418, None, json.dumps({"message": message}).encode(), NOW) == upbit.ban_seconds


@given(st.one_of(st.binary(max_size=200), st.text("0123456789 .,smhd분초일-and", max_size=200).map(str.encode)))
def test_R9_whatever_a_body_says_a_length_is_plausible_or_none(body: bytes) -> None:
    seconds = longest_duration_seconds(body)
    assert seconds is None or 0 < seconds <= LONGEST_BAN_SECONDS


def test_R9_binances_ban_ends_when_its_message_says() -> None:
    binance = EXCHANGES["binance"]
    until = NOW // 1000 + 300_000
    body = f'{{"code":-1003,"msg":"Way too much request weight used; IP banned until {until}. Please use WebSocket"}}'
    assert binance.read_ban(418, None, body.encode(), NOW) == 300
    assert binance.read_ban(418, 259_200.0, body.encode(), NOW) == 259_200
    for other in (NOW // 1000 - 5, NOW // 1000 + 40 * 86_400_000):  # over, and further than any exchange means
        text = body.replace(str(until), str(other)).encode()
        assert binance.read_ban(418, None, text, NOW) == binance.ban_seconds
