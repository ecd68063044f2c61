"""What a record of a raw topic holds: its header, a frame, or facts of a connection with a checkpoint."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from coin_platform.errors import DecodeError, UnknownPair
from coin_platform.model import SECOND, BookUpdate, Channel, Frame, Kind, Level, Microseconds, Pair, TextLevel

INT64 = 1 << 63  # the smallest integer that is too large for a column
YEAR_10000: Microseconds = 253_402_300_800 * SECOND  # the earliest time that Python's datetime cannot hold


class Record(NamedTuple):
    """One record of a partition of a topic. `time` is when the log accepted it (UTC, µs); it never goes back."""

    offset: int
    time: Microseconds
    header: str
    value: bytes


class Header(NamedTuple):
    """What we know about a record. It is stored as one text, because seven headers make reading 2.6 times slower.

    Only frames take a number. Checkpoints and lists of pairs carry the number of the last frame before them.
    """

    kind: Kind
    epoch: int
    connection: str
    number: int
    received_time: Microseconds
    pair: Pair | None = None

    def pack(self) -> str:
        """Return `kind,epoch,connection,number,received_time[,pair]`."""
        text = f"{self.kind.value},{self.epoch},{self.connection},{self.number},{self.received_time}"
        return f"{text},{self.pair}" if self.pair else text


def unpack(header: str) -> Header:
    """Return the header of its text. Raises `DecodeError` for any other text, and for numbers that no column holds."""
    try:
        kind, epoch, connection, number, received_time, *pair = header.split(",")
        unpacked = Header(
            Kind(kind), int(epoch), connection, int(number), int(received_time), Pair.read(pair[0]) if pair else None
        )
    except (ValueError, UnknownPair) as error:
        raise DecodeError(f"header {header!r:.200} is not kind,epoch,connection,number,received_time[,pair]") from error
    if not (0 <= unpacked.epoch < INT64 and 0 <= unpacked.number < INT64 and 0 <= unpacked.received_time < INT64):
        raise DecodeError(f"header {header!r:.200} has an epoch, number or received_time that is out of range")
    if not connection.isascii():  # a surrogate without its pair could not be stored
        raise DecodeError(f"header {header!r:.200} has a connection that no collector names so")
    return unpacked


def unpack_dated(header: str) -> Header:
    """Return the header of its text, like `unpack`. Raises `DecodeError` also for a time after the year 9999."""
    unpacked = unpack(header)
    if unpacked.received_time >= YEAR_10000:
        raise DecodeError(f"header {header!r:.200} has a received_time after the year 9999")
    return unpacked


def frame(exchange: str, channel: Channel, header: Header, payload: bytes) -> Frame:
    """Return the frame of a record of kind `w` or `r`."""
    return Frame(
        exchange=exchange,
        channel=channel,
        connection=header.connection,
        number=header.number,
        received_time=header.received_time,
        payload=payload,
        epoch=header.epoch,
        kind=header.kind,
        pair=header.pair,
    )


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Our own book of a pair. A window starts from it, and stored books are compared with it."""

    pair: str
    bids: list[TextLevel]
    asks: list[TextLevel]
    sequence: int | None = None
    exchange_time: Microseconds | None = None
    depth: int | None = None

    @classmethod
    def of(cls, update: BookUpdate) -> "Checkpoint":
        """Return the checkpoint of a whole book."""
        return cls(
            pair=str(update.pair),
            bids=_text_levels(update.bids),
            asks=_text_levels(update.asks),
            sequence=update.last_sequence,
            exchange_time=update.exchange_time,
            depth=update.depth,
        )

    def update(self) -> BookUpdate:
        """Return the book as an update that a book can start from."""
        return BookUpdate(
            pair=Pair.read(self.pair),
            is_snapshot=True,
            bids=list(self.bids),
            asks=list(self.asks),
            exchange_time=self.exchange_time,
            first_sequence=self.sequence,
            last_sequence=self.sequence,
            depth=self.depth,
        )


class Transport(StrEnum):
    """How a connection's records came, in `Facts.transport`."""

    SOCKET = "ws"
    REST = "rest"
    NONE = "none"  # not at all: a record of the pairs of a feed that has no connection


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of our own records (`o`, `c`, `k`, `p`): what a connection is, so that each window can know it."""

    transport: str = "ws"  # see `Transport`
    url: str = ""
    pairs: list[str] = []
    code: str = ""
    reason: str = ""  # of `c`: see `end_reasons`; of a feed without a connection: why it has none
    refused: dict[str, str] = {}  # the pairs that the exchange refuses now, and why
    beside: bool = False  # the collector before this one still collects as well, until this one takes over
    clock_suspect: bool = False  # from here on, by the exchange's times, our wall clock is more than 5 s wrong
    book: Checkpoint | None = None  # of `k`, for exchanges whose books come as changes

    def pack(self) -> bytes:
        """Return the record's value."""
        return msgspec.json.encode(self)


def unpack_facts(value: bytes) -> Facts:
    """Return the facts of one of our own records. Raises `DecodeError`, also for a name that is not a pair."""
    try:
        facts = _decode_facts(value)
        for name in (*facts.pairs, *((facts.book.pair,) if facts.book else ())):
            Pair.read(name)
    except (msgspec.MsgspecError, ValueError, UnknownPair) as error:
        raise DecodeError(f"not one of our records: {error}") from error
    return facts


_decode_facts = msgspec.json.Decoder(Facts).decode


def _text_levels(levels: Iterable[Level]) -> list[TextLevel]:
    return [level if isinstance(level, TextLevel) else TextLevel(level.price, level.size) for level in levels]
