"""What a ledger of gaps remembers, and how the footer of a gap table keeps it for the next window."""

from typing import Any

import msgspec

from coin_platform.model import Microseconds


class LoggedConnection(msgspec.Struct):
    """A connection, or the pairs that a feed wants, as far as its records tell."""

    epoch: int
    number: int  # of its last frame
    time: Microseconds  # when its last record was received
    pairs: list[str]
    is_feed: bool  # it brings the channel itself: false for REST beside a stream, and for pairs that are only wanted
    unheard: list[str] = []  # its pairs without data so far; for books, its pairs without a valid book

    def hear(self, name: str) -> None:
        """Note that the connection has brought a pair."""
        if name in self.unheard:
            self.unheard.remove(name)


class PendingGap(msgspec.Struct):
    """A gap that may still end, or still be filled."""

    start: Microseconds
    cause: str
    reason: str
    stop: Microseconds | None = None
    reached: Microseconds = 0  # REST answers tell what happened up to this time
    note: str = ""  # why REST does not fill it
    due: Microseconds = 0  # the pair is expected until then, and the gap is not told yet; 0: the gap was told

    @property
    def lasts(self) -> bool:
        """Whether the gap was told and has no end."""
        return self.stop is None and not self.due


class LedgerState(msgspec.Struct, rename={"connections": "lines", "last_rows": "told"}):
    """All that a ledger remembers. The next window goes on from here. A footer keeps the names of former versions."""

    epoch: int = 0
    epoch_time: Microseconds = 0  # when its first connection opened
    beside: int = 0  # the oldest epoch that may still collect beside it; 0: none
    connections: dict[str, LoggedConnection] = {}  # by name
    pending: dict[str, list[PendingGap]] = {}  # by pair, oldest first; only the last one can be open
    last_rows: dict[str, Microseconds] = {}  # when each pair's last row was received, for books that come as changes

    def pack(self) -> Any:
        """Return the state as plain values, for a footer."""
        return msgspec.to_builtins(self)

    @classmethod
    def unpack(cls, body: Any) -> "LedgerState":
        """Read what `pack` of this version or a former one wrote."""
        lines = {name: _up_to_date(line) for name, line in body["lines"].items()}
        return msgspec.convert({**body, "lines": lines}, cls)


def _up_to_date(line: dict[str, Any]) -> dict[str, Any]:
    """Return a connection as this version keeps it. Former versions kept `has_spoken`, and `bookless` pairs."""
    if "unheard" in line:
        return line
    silent = [] if line.get("has_spoken") else line["pairs"]
    return {**line, "unheard": line.get("bookless") or (silent if line["is_feed"] else [])}
