"""Reads what `tests.kit.history` compares: a simulator's log, raw topics and tables."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import polars as pl

from coin_platform.broker import Broker
from coin_platform.exchanges.base import Source
from coin_platform.model import Channel, Gap, Pair
from coin_platform.records import unpack
from coin_platform.simulator.sent_log import digest
from tests.kit.history import Row, Sent, Stored


def sent_from(folder: Path, exchange: str = "") -> list[Sent]:
    """Read a simulator's log of sent messages, all or those of one exchange. Skip a line that was cut short."""
    sent: list[Sent] = []
    with (folder / "sent.jsonl").open("rb") as lines:
        for text in lines:
            if text.endswith(b"\n") and (line := msgspec.json.decode(text))["exchange"].startswith(exchange):
                sent.append(Sent(*(line[name] for name in Sent._fields)))
    return sent


def stored_from(broker: Broker, sources: Iterable[Source]) -> list[Stored]:
    """Read all records that raw topics hold of some sources."""
    return [
        _stored(source.exchange.name, source.channel, record.header, record.value)
        for source in sources
        for record in broker.read(
            source.topic,
            source.partition,
            broker.begin_offset(source.topic, source.partition),
            broker.end_offset(source.topic, source.partition),
        )
    ]


def _stored(exchange: str, channel: Channel, text: str, value: bytes) -> Stored:
    header = unpack(text)
    frame_hash = digest(value) if header.kind.is_frame else None
    kind, epoch, connection, number, time = header[:5]
    return Stored(exchange, channel, epoch, connection, number, time, frame_hash, kind)


def rows_from(exchange: str, table: pl.DataFrame) -> Iterator[Row]:
    """Read the identities of a table's rows."""
    for epoch, connection, number, index in table.select("epoch", "connection", "number", "index").iter_rows():
        yield Row((exchange, epoch, connection, number), index)


def gaps_from(exchange: str, table: pl.DataFrame) -> Iterator[Gap]:
    """Read the gaps of an exchange from its table."""
    for row in table.iter_rows(named=True):
        start, stop = ((None if row[name] is None else int(row[name].timestamp() * 1e6)) for name in ("from", "to"))
        assert start is not None
        yield Gap(
            exchange=exchange,
            channel=Channel(row["channel"]),
            pair=Pair.read(row["pair"]) if row["pair"] else None,
            start=start,
            stop=stop,
            cause=row["cause"],
            reason=row["reason"] or "",
            filled_by=row["filled_by"],
        )
