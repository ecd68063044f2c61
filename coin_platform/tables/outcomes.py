"""What became of a frame, and the records that could not become rows."""

from enum import StrEnum
from typing import NamedTuple

from coin_platform.errors import DecodeError
from coin_platform.records import Header, Record

REASON_CHARACTERS = 1000  # of an error's text that are kept: the dead letters of one fault may be many


class FrameOutcome(StrEnum):
    """What became of a frame: there is no other case."""

    ROWS = "rows"
    DEAD = "dead"
    CONTROL = "control"  # says nothing about the market
    DUPLICATE = "duplicate"  # the same frame again, or nothing but events that are rows already
    IGNORED = "ignored"  # a book update older than its book
    INVALID = "invalid"  # a book update while its book cannot be trusted


class DeadRecord(NamedTuple):
    """A record that did not become rows: it could not be decoded, or our code failed on it."""

    record: Record
    header: Header | None
    error: Exception

    @property
    def error_class(self) -> str:
        """The name of the error's class."""
        return type(self.error).__name__

    @property
    def is_ours(self) -> bool:
        """Whether nobody expected the error. Then our code is at fault, not the record."""
        return not isinstance(self.error, DecodeError)

    @property
    def reason(self) -> str:
        """The error's text, at most `REASON_CHARACTERS`. If the fault is ours, the error's class stands before it."""
        text = f"{self.error_class}: {self.error}" if self.is_ours else str(self.error)
        return text[:REASON_CHARACTERS].encode(errors="backslashreplace").decode()
