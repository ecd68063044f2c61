"""Dead letters, the records of `<raw topic>-DLT`: a record that could not be decoded, its place and the reason."""

import traceback
from collections.abc import Iterable, Iterator
from typing import Annotated, TypeAlias

import msgspec

from coin_platform import __version__
from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Source
from coin_platform.model import Microseconds
from coin_platform.records import Record
from coin_platform.tables import processed
from coin_platform.tables.outcomes import DeadRecord
from coin_platform.tables.rows import Entry
from coin_platform.tables.transform import Transform

TRACEBACK_CHARACTERS = 2_000  # kept of a traceback, from its end: the innermost calls

Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One frame that could not be decoded. `header` has its identity; `payload` its bytes, base64 in the JSON."""

    topic: str
    partition: Natural
    offset: Natural
    log_time: Natural  # when the raw topic accepted it
    exchange: str
    channel: str
    header: str
    error: str  # class
    reason: str
    traceback: str
    code: str  # version that could not decode it
    time: Natural  # when that was
    attempts: Natural = 1
    payload: bytes

    def pack(self) -> bytes:
        """Return the record's value."""
        return msgspec.json.encode(self)

    @property
    def record(self) -> Record:
        """The raw record that could not be decoded."""
        return Record(self.offset, self.log_time, self.header, self.payload)


def unpack(value: bytes) -> DeadLetter:
    """Read a dead letter. Raises `DecodeError` if the value is none."""
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"not a dead letter: {error}") from error


class LetterReader:
    """Reads the dead letters among the records of a topic, in their order. Foreign records are skipped and counted."""

    def __init__(self, records: Iterable[Record], place: str) -> None:
        self._records, self._place = records, place
        self.foreign: list[int] = []  # offsets of records that are no dead letters, as far as was read

    def __iter__(self) -> Iterator[DeadLetter]:
        for record in self._records:
            try:
                letter = unpack(record.value)
            except DecodeError:
                self.foreign.append(record.offset)
            else:
                yield letter

    @property
    def remark(self) -> str:
        """One line about the skipped records; empty if none was skipped."""
        if not self.foreign:
            return ""
        first, count = self.foreign[0], len(self.foreign)
        return f"{self._place}: offset {first}: not a dead letter; records skipped: {count}"


def encoded(transform: Transform, record: Record, *, is_redriven: bool = False) -> tuple[list[Entry], list[bytes]]:
    """Return the rows of a record, and their processed records. A record that fails is in `transform.dead`.

    An error costs that record alone: its partition goes on. If only the encoding fails, the rows are returned all the
    same, because the tables have them.
    """
    source, entries = transform.source, list[Entry]()
    try:
        entries = transform.entries(record)
        values = [
            processed.encode(source.exchange, source.channel, entry, is_redriven=is_redriven) for entry in entries
        ]
    except Exception as error:  # whatever it is: a dead letter keeps it
        transform.dead.append(DeadRecord(record, None, error))
        return entries, []
    return entries, values


def letter(source: Source, dead: DeadRecord, time: Microseconds, attempts: int = 1) -> DeadLetter:
    """Return the dead letter of a record that could not be decoded at `time`."""
    trace = "".join(traceback.format_exception(dead.error)).encode(errors="backslashreplace").decode()
    return DeadLetter(
        topic=source.topic,
        partition=source.partition,
        offset=dead.record.offset,
        log_time=dead.record.time,
        exchange=source.exchange.name,
        channel=source.channel.value,
        header=dead.record.header,
        error=dead.error_class,
        reason=dead.reason,
        traceback=trace[-TRACEBACK_CHARACTERS:],
        code=__version__,
        time=time,
        attempts=attempts,
        payload=dead.record.value,
    )


_decode = msgspec.json.Decoder(DeadLetter).decode
