"""Write the log: one line an event, in UTC, to stderr. Text from outside is escaped and cut, and files stay small."""

import logging
import os
import shutil
import time
from pathlib import Path

_LONGEST_LINE = 1024  # characters


class OneLine(logging.Formatter):
    """Formats a record as one line of limited length. So text from outside forges no line. Tracebacks are indented."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _escaped(super().formatMessage(record))[:_LONGEST_LINE]

    def formatException(self, ei: object) -> str:  # noqa: N802
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(f"    {_escaped(line)[:_LONGEST_LINE]}" for line in text.split("\n"))


def set_up(level: str) -> None:
    """Send the log of this process to stderr: our own from `level` upwards, that of libraries from WARNING upwards."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("coin_platform").setLevel(level)


def rotate(log: Path, most_bytes: int, old_logs: int) -> None:
    """Begin a log larger than `most_bytes` anew: copy it to `<log>.1` and empty it, so that its writers go on."""
    if not log.exists() or log.stat().st_size <= most_bytes:
        return
    names = [log, *(log.with_name(f"{log.name}.{number}") for number in range(1, old_logs + 1))]
    for older, newer in zip(reversed(names[1:]), reversed(names[1:-1]), strict=False):
        if newer.exists():
            newer.replace(older)
    shutil.copyfile(log, names[1])
    os.truncate(log, 0)


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
