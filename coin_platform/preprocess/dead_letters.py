"""Dead letters: what could not be decoded, why, and where it came from, as records of `<raw topic>-DLT`."""

import logging
import traceback

import msgspec

from coin_platform import __version__
from coin_platform.errors import DecodeError
from coin_platform.model import Microseconds
from coin_platform.preprocess.transform import Dead, Entry, Source, Transform
from coin_platform.wire import Record

logger = logging.getLogger(__name__)

TRACEBACK = 2_000  # characters kept, the innermost


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One frame that could not be decoded. Its identity is in `header`; `payload` is its bytes, base64 in the JSON."""

    topic: str
    partition: int
    offset: int
    log_time: Microseconds  # when the raw topic accepted it
    exchange: str
    channel: str
    header: str
    error: str  # class
    reason: str
    traceback: str
    code: str  # version that could not decode it
    time: Microseconds  # when that was
    attempts: int = 1
    payload: bytes

    def pack(self) -> bytes:
        """Return the record's value."""
        return msgspec.json.encode(self)

    @property
    def record(self) -> Record:
        """The raw record that it was."""
        return Record(self.offset, self.log_time, self.header, self.payload)


def unpack(value: bytes) -> DeadLetter:
    """Read a dead letter. Raises `DecodeError` when it is none."""
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"not a dead letter: {error}") from error


def entries(transform: Transform, record: Record) -> list[Entry]:
    """Return the rows of a record; a fault of ours kills that frame alone, which must not stop its partition."""
    try:
        return transform.entries(record)
    except Exception as error:
        logger.exception("%s[%d]: offset %d", transform.source.topic, transform.source.partition, record.offset)
        fault = DecodeError(f"{type(error).__name__}: {error}")
        fault.__cause__ = error
        transform.dead.append(Dead(record, None, fault))
        return []


def letter(source: Source, dead: Dead, time: Microseconds, attempts: int = 1) -> DeadLetter:
    """Return the dead letter of a record that could not be decoded at `time`."""
    trace = "".join(traceback.format_exception(dead.error))
    return DeadLetter(
        topic=source.topic,
        partition=source.partition,
        offset=dead.record.offset,
        log_time=dead.record.time,
        exchange=source.exchange.name,
        channel=source.channel.value,
        header=dead.record.header,
        error=type(dead.error).__name__,
        reason=str(dead.error)[:1000],
        traceback=trace[-TRACEBACK:],
        code=__version__,
        time=time,
        attempts=attempts,
        payload=dead.record.value,
    )


_decode = msgspec.json.Decoder(DeadLetter).decode
