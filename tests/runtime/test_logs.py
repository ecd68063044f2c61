"""What exchanges write cannot forge or flood the log."""

import logging
import sys

from coin_platform.runtime.logs import OneLine


def line(message: str, *values: object, error: bool = False) -> str:
    """Return what is logged for a message."""
    info = sys.exc_info() if error else None
    record = logging.LogRecord("coin_platform.x", logging.WARNING, "x.py", 1, message, values, info)
    record.created = 0.0
    return OneLine("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ").format(record)


def test_a_line_has_its_time_in_utc() -> None:
    assert line("%s: open", "kraken") == "1970-01-01T00:00:00Z WARNING kraken: open"


def test_control_characters_are_escaped() -> None:
    text = line("refused, %s", "no\n2026-01-01 ERROR forged\r\x1b[31m\u2028\udc80")
    assert text == "1970-01-01T00:00:00Z WARNING refused, no\\n2026-01-01 ERROR forged\\r\\x1b[31m\\u2028\\udc80"


def test_a_line_is_cut_at_a_kibibyte() -> None:
    assert len(line("%s", "x" * 100_000)) == 1024


def test_a_traceback_follows_indented_and_escaped() -> None:
    try:
        raise ValueError("bad \x1b text\n2026-01-01 ERROR forged")
    except ValueError:
        first, *rest = line("a bug", error=True).split("\n")
    assert first.endswith("a bug")
    assert rest[-2:] == ["    ValueError: bad \\x1b text", "    2026-01-01 ERROR forged"]
    assert all(text.startswith("    ") for text in rest)
