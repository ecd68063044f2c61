"""The log of what the simulated exchanges really sent: the checker compares it with what is stored."""

import hashlib
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Self


def digest(payload: bytes) -> str:
    """Return the short hash by which the log of what was sent names a message."""
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


class Log:
    """What was really sent. Each line is on its way to the disk before its message is on its way to the client.

    `sent.jsonl` has a line `{time, exchange, connection, path, number, kind, hash}` for each message handed to an open
    socket, `closed.jsonl` a line `{time, exchange, connection, path, code, sent}` for each connection that has ended;
    times are UTC, in µs.
    With code 1006 the last messages may have been lost on the way, with any other they were not.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._sent = (folder / "sent.jsonl").open("a", buffering=1, encoding="utf-8")
        self._closed = (folder / "closed.jsonl").open("a", buffering=1, encoding="utf-8")

    def sent(self, **line: str | int) -> None:
        """Note a message."""
        self._sent.write(json.dumps({"time": time.time_ns() // 1000, **line}) + "\n")

    def closed(self, **line: str | int | None) -> None:
        """Note the end of a connection."""
        self._closed.write(json.dumps({"time": time.time_ns() // 1000, **line}) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sent.close()
        self._closed.close()


def open_log(folder: Path) -> Log:
    """Open the log of what is sent, in a folder that is made if need be."""
    return Log(folder)
