"""A record of the log as the feed sends it: the JSON of its topic, with its type and its origin put before."""

from typing import Annotated, NamedTuple

import msgspec

from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Microseconds
from coin_platform.records import Record
from coin_platform.records import unpack as unpack_header

GAP = "gap"  # the type of a record of the topic of gaps; all other types are channels
HOLE = "hole"  # the type of what the feed tells of records that it could not read
TYPES = (*(str(channel) for channel in Channel), GAP)


class FeedRecord(NamedTuple):
    """One record of the feed. `text` is its JSON, in UTF-8.

    `(epoch, offset, number)` is its origin: the collector's epoch, the offset of the frame in the raw partition, and
    the index within the frame. A gap has none.
    """

    type: str
    exchange: str
    pair: str | None  # null on the gap of a whole feed
    epoch: int
    offset: int | None
    number: int | None
    received_time: Microseconds  # 0 where it is not known
    is_redriven: bool  # it was a dead letter; newer records came before it
    text: bytes
    gap: str = ""  # channel, pair and begin of a gap, which comes again when more of it is known
    is_over: bool = False  # a gap that has ended
    missing: str = ""  # of a hole: the type of the records that are missing
    connection: str = ""  # by which the frame came; empty: of a gap or a hole
    frame: int = 0  # its number within the connection

    @property
    def key(self) -> tuple[str, str, str]:
        """What the record tells the state of."""
        return self.exchange, self.type, self.gap or self.pair or ""


class _Processed(msgspec.Struct):
    """What the feed reads of a processed record."""

    base: str = msgspec.field(name="coin_symbol")
    quote: str
    offset: Annotated[int, msgspec.Meta(ge=0)]
    index: Annotated[int, msgspec.Meta(ge=0)]
    redriven: bool = False


class _Gap(msgspec.Struct):
    """What the feed reads of a gap."""

    pair: str | None
    channel: str
    start: str = msgspec.field(name="from")
    stop: str | None = msgspec.field(name="to")


_processed = msgspec.json.Decoder(_Processed).decode
_gap = msgspec.json.Decoder(_Gap).decode
_quoted = msgspec.json.Encoder().encode


def feed_record(exchange: Exchange, kind: str, record: Record) -> FeedRecord | None:
    """Return a record of a processed topic (`kind` is its channel) or of the topic of gaps (`kind` is `GAP`).

    Return `None` for a record that the platform did not write: it has no header of ours, or is no such JSON.
    """
    try:
        record.value.decode()  # the decoder does not look at texts that it skips, and a client refuses such a frame
        if kind == GAP:
            return _of_gap(exchange, record)
        header, body = unpack_header(record.header), _processed(record.value)
    except (DecodeError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    pair = f"{body.base}-{body.quote}"
    text = _with_keys(record.value, kind, exchange.name, pair, header.epoch)
    return FeedRecord(
        *(kind, exchange.name, pair, header.epoch, body.offset, body.index, header.received_time, body.redriven, text),
        connection=header.connection,
        frame=header.number,
    )


def hole(exchange: Exchange, kind: str, count: int | None, reason: str) -> FeedRecord:
    """Return what the feed tells in the place of `count` records of one partition; `None`: nobody knows how many."""
    text = _quoted(
        {
            "type": HOLE,
            "exchange": exchange.name,
            "pair": None,
            "channel": kind,
            "missed_records": count,
            "reason": reason,
        }
    )
    return FeedRecord(HOLE, exchange.name, None, 0, None, None, 0, False, text, missing=kind)


def _of_gap(exchange: Exchange, record: Record) -> FeedRecord:
    """Return a gap. Its JSON names the exchange and the pair already."""
    gap = _gap(record.value)
    header = unpack_header(record.header) if record.header else None
    epoch, time = (header.epoch, header.received_time) if header else (0, 0)
    text = b'{"type":"gap",' + record.value.lstrip()[1:]
    name = f"{gap.channel} {gap.pair or '*'} {gap.start}"
    is_over = gap.stop is not None
    return FeedRecord(GAP, exchange.name, gap.pair, epoch, None, None, time, False, text, name, is_over)


def _with_keys(value: bytes, kind: str, exchange: str, pair: str, epoch: int) -> bytes:
    """Return a JSON object with our keys before its own."""
    return b'{"type":"%b","exchange":"%b","pair":%b,"epoch":%d,%b' % (
        kind.encode(),
        exchange.encode(),
        _quoted(pair),
        epoch,
        value.lstrip()[1:],
    )
