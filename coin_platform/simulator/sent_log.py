"""Log the messages that simulated exchanges really sent, so that they can be compared with the stored ones."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec


def digest(payload: bytes) -> str:
    """Return the short hash that names a message in the log."""
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


class SentLog:
    """The files `sent.jsonl` and `closed.jsonl` of a folder. A line is written before its message goes to the client.

    1. `sent.jsonl` has a line `{time, exchange, connection, path, number, kind, hash}` for each message that an open
       socket took.
    2. `closed.jsonl` has a line `{time, exchange, connection, path, code, sent}` for each connection that has ended.
       With code 1006 the last messages may be lost on the way. With any other code none is lost.
    3. Times are UTC, in µs.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._sent = (folder / "sent.jsonl").open("ab", buffering=0)
        self._closed = (folder / "closed.jsonl").open("ab", buffering=0)

    def sent(self, **line: str | int) -> None:
        """Write the line of a message."""
        self._sent.write(_line(line))

    def closed(self, **line: str | int | None) -> None:
        """Write the line of a connection that has ended."""
        self._closed.write(_line(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sent.close()
        self._closed.close()


def _line(content: Mapping[str, str | int | None]) -> bytes:
    return msgspec.json.encode({"time": time.time_ns() // 1000, **content}) + b"\n"


def open_log(folder: Path) -> SentLog:
    """Open the log in a folder. Make the folder if it is missing."""
    return SentLog(folder)
