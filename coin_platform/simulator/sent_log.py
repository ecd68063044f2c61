"""The log of what the simulated exchanges really sent: the checker compares it with what is stored."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec


def digest(payload: bytes) -> str:
    """Return the short hash by which the log of what was sent names a message."""
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


class SentLog:
    """What was really sent. Each line is on its way to the disk before its message is on its way to the client.

    `sent.jsonl` has a line `{time, exchange, connection, path, number, kind, hash}` for each message handed to an open
    socket, `closed.jsonl` a line `{time, exchange, connection, path, code, sent}` for each connection that has ended;
    times are UTC, in µs.
    With code 1006 the last messages may have been lost on the way, with any other they were not.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._sent = (folder / "sent.jsonl").open("ab", buffering=0)
        self._closed = (folder / "closed.jsonl").open("ab", buffering=0)

    def sent(self, **line: str | int) -> None:
        """Note a message."""
        self._sent.write(_line(line))

    def closed(self, **line: str | int | None) -> None:
        """Note the end of a connection."""
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
    """Open the log of what is sent, in a folder that is made if need be."""
    return SentLog(folder)
