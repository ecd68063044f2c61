"""Write a log record as one line: for people, or as JSON. Text from outside is escaped and cut, secrets are hidden."""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec

LONGEST_LINE = 1024  # characters
_RUN_CHARACTERS = 8  # of a run's id in a line for people, as Dagster's UI shows it

_of_process: dict[str, str] = {}
_of_task: ContextVar[Mapping[str, str]] = ContextVar("_of_task", default=MappingProxyType({}))


def name_process(**names: str) -> None:
    """Say in every line of this process, whatever its thread: `component`, and `run`, the id of a Dagster run."""
    _of_process.clear()
    _of_process.update({key: name for key, name in names.items() if name})


@contextmanager
def named(**names: str) -> Iterator[None]:
    """Say in the lines of this task, and of the tasks it starts meanwhile: `exchange`, `channel`."""
    token = _of_task.set({**_of_task.get(), **names})
    try:
        yield
    finally:
        _of_task.reset(token)


def context() -> dict[str, str]:
    """Return what lines say now: component, run, exchange and channel, as far as they are known."""
    return {**_of_process, **_of_task.get()}


class Formatter(logging.Formatter):
    """Formats a record. So text from outside forges no line."""

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        super().__init__()
        self._redact = redact

    def parts(self, record: logging.LogRecord) -> tuple[datetime, dict[str, str], str, list[str]]:
        """Return the time, the context, the message and the lines that follow it, all safe to print.

        Dagster puts tracebacks into its messages; in those of others a line break is not to make a line.
        """
        message, *more = record.getMessage().split("\n") if record.name.startswith("dagster") else [record.getMessage()]
        if record.exc_info and record.exc_info[0] is not None:
            more += "".join(traceback.format_exception(*record.exc_info)).rstrip().split("\n")
        time = datetime.fromtimestamp(record.created, UTC)
        names = getattr(record, "names", None) or context()
        return time, names, self._safe(message), [self._safe(line) for line in more]

    def _safe(self, text: str) -> str:
        text = self._redact(text[: 16 * LONGEST_LINE])  # before it is cut: half a secret is not known any more
        return _escaped(text)[:LONGEST_LINE]


class PlainLines(Formatter):
    """Writes lines for people: the time in UTC, the level, the module, the context, the message. More is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        time, names, message, more = self.parts(record)
        shown = {**names, "run": names.get("run", "")[:_RUN_CHARACTERS]}
        words = " ".join(filter(None, (shown.get(key) for key in ("component", "exchange", "channel", "run"))))
        where = f"{record.name} [{words}]" if words else record.name
        line = f"{time:%Y-%m-%dT%H:%M:%SZ} {record.levelname:<7} {where}: {message}"
        return "\n".join([line[:LONGEST_LINE], *(f"    {text}" for text in more)])


class JsonLines(Formatter):
    """Writes one JSON object a line, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time, names, message, more = self.parts(record)
        body: dict[str, Any] = {"time": time.isoformat(), "level": record.levelname, "logger": record.name}
        body |= names
        body["message"] = message
        if more:
            body["more"] = "\n".join(more)
        return msgspec.json.encode(body).decode()


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
