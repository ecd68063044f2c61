"""Frames <-> log records, and the names of the topics."""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from coin_platform.errors import DecodeError, UnknownPair
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Channel,
    Frame,
    Kind,
    Level,
    Microseconds,
    Pair,
    TextLevel,
)

"""The regions as processed records and topics write them."""
"""The topic of the holes that the collectors know of."""
INT64 = 1 << 63  # the first integer that is too large for a column
YEAR_10000: Microseconds = 253_402_300_800 * SECOND  # the first time that Python's datetime cannot hold


class Record(NamedTuple):
    """One record of a topic-partition. `time` is when the log accepted it (UTC, µs) and never goes back."""

    offset: int
    time: Microseconds
    header: str
    value: bytes


class Header(NamedTuple):
    """What we know about a record: one packed header, because seven make reading 2.6 times slower.

    Only frames take a number; checkpoints and pair lists carry the number of the last frame before them.
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
    """Read a packed header. Raises `DecodeError` when it is not one of ours, or when a column cannot hold it."""
    try:
        kind, epoch, connection, number, received_time, *pair = header.split(",")
        unpacked = Header(
            Kind(kind), int(epoch), connection, int(number), int(received_time), Pair.read(pair[0]) if pair else None
        )
    except (ValueError, UnknownPair) as error:
        raise DecodeError(f"header {header!r:.200} is not kind,epoch,connection,number,received_time[,pair]") from error
    if not (0 <= unpacked.epoch < INT64 and 0 <= unpacked.number < INT64 and 0 <= unpacked.received_time < INT64):
        raise DecodeError(f"header {header!r:.200} has an epoch, number or received_time that is out of range")
    if not connection.isascii():  # a lone surrogate could not be stored
        raise DecodeError(f"header {header!r:.200} has a connection that no collector names so")
    return unpacked


def unpack_dated(header: str) -> Header:
    """Read a packed header whose time can be written as text, too. Raises `DecodeError`."""
    unpacked = unpack(header)
    if unpacked.received_time >= YEAR_10000:
        raise DecodeError(f"header {header!r:.200} has a received_time after the year 9999")
    return unpacked


def frame(exchange: str, channel: Channel, header: Header, payload: bytes) -> Frame:
    """Return the frame that a record of kind `w` or `r` holds."""
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
    """Our own book of a pair, logged so that a window can start from it and stored books can be proved again."""

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
        """Return the whole book as an update that a book can start from."""
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


class End(StrEnum):
    """Why we ended a connection, as `Facts.reason` has it; beside `unheard`, other reasons are others' own words."""

    STOPPED = "stopped"  # the collector was told to
    REPLACED = "replaced"  # its successor had data before, maybe that of another collector
    NO_PAIRS = "no pairs"  # are wanted of it any more
    STREAMED = "a connection is live"  # so it is not polled any more
    BROKEN_OFF = "broken off"  # by an error of ours


def silent(seconds: float) -> str:
    """Return the reason of a connection that was given up because no byte had come for this long."""
    return f"silent for {seconds:g} s"


def without_data(seconds: float) -> str:
    """Return the reason of one that was heard, but had brought no market data for this long."""
    return f"no data for {seconds:g} s"


def over_budget(size: int, waiting: int) -> str:
    """Return the reason of a connection that was ended because its next message (bytes) found no room on its way."""
    return f"{_OVER_BUDGET}: {size:,} bytes came while {waiting:,} waited for the disk"


def is_over_budget(reason: str) -> bool:
    """Whether a connection was ended because it had brought more than the disk took."""
    return reason.startswith(_OVER_BUDGET)


_OVER_BUDGET = "over its budget"


def refused(reason: str) -> str:
    """Return the reason of a connection that we left because the exchange refused it as a whole, in its words."""
    return f"{_REFUSED}{reason}"


def is_refused(reason: str) -> bool:
    """Whether the exchange refused a connection as a whole."""
    return reason.startswith(_REFUSED)


_REFUSED = "connection refused: "


def unheard(reason: str) -> float | None:
    """Return for how many seconds before its end a connection had brought nothing; None if it ended promptly."""
    found = _UNHEARD.fullmatch(reason)
    return float(found[1]) if found else None


_UNHEARD = re.compile(r"(?:silent|no data) for (\d+(?:\.\d+)?(?:e\+\d+)?) s")


class Transport(StrEnum):
    """How a connection's records came, as `Facts.transport` has it."""

    SOCKET = "ws"
    REST = "rest"
    NONE = "none"  # nothing comes: what a feed wants, from before its first connection on


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of our own records (`o`, `c`, `k`, `p`): what a connection is, so that every window knows it."""

    transport: str = "ws"  # see `Transport`
    url: str = ""
    pairs: list[str] = []
    code: str = ""
    reason: str = ""  # of `c`: see `End`; of what a feed wants: why it has no connection
    refused: dict[str, str] = {}  # of the pairs: those that the exchange refuses now, and why
    beside: bool = False  # the collector before this one still collects, too, until this one takes over
    clock_suspect: bool = False  # from here on: by this exchange's times, our wall clock is more than 5 s wrong
    book: Checkpoint | None = None  # of `k`, for exchanges whose books come as changes

    def pack(self) -> bytes:
        """Return the record's value."""
        return msgspec.json.encode(self)


def unpack_facts(value: bytes) -> Facts:
    """Read the value of one of our own records. Raises `DecodeError`, also when it names what is no pair."""
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
