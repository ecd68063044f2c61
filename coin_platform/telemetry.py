"""Logging set-up: one line an event, UTC, to stderr; what exchanges write is escaped and cut."""

import logging
import time

_LONGEST = 1024


class _OneLine(logging.Formatter):
    """Formats a record so that text from outside can neither forge a line nor flood one."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.exc_info:
            return text
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)[:_LONGEST]


def set_up(level: str) -> None:
    """Send the log of this process to stderr, from `level` upwards; libraries only from WARNING."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("coin_platform").setLevel(level)
