"""The gaps of a stretch of time: those of table `gap`, and those that the topic tells since its last window."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
import polars as pl

from coin_platform.broker import Broker
from coin_platform.errors import BrokerUnreachable, CoinPlatformError, LakeError, RetentionLoss
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Lake
from coin_platform.model import Microseconds, Window
from coin_platform.serve.parameters import microseconds_of, time_of
from coin_platform.topic_names import GAPS

logger = logging.getLogger(__name__)

TAIL_RECORDS = 2_000  # of each exchange: the newest that are read of the topic
GapRow: TypeAlias = dict[str, Any]  # the columns of table `gap`, and `exchange`; times are datetimes in UTC
_COLUMNS = ("exchange", "channel", "pair", "from", "to", "cause", "reason", "filled_by")


class FoundGaps(NamedTuple):
    """Gaps, oldest first, and what could not be read, with the reason. If that is empty, the gaps are complete."""

    rows: list[GapRow]
    unread: dict[str, str]


class GapReader:
    """Reads gaps from the lake and from the topic. Both may block for seconds: call it in a thread."""

    def __init__(self, lake: Lake, broker: Broker) -> None:
        self._lake, self._broker = lake, broker

    def read(self, window: Window, exchanges: Sequence[Exchange]) -> FoundGaps:
        """Return the gaps that overlap a stretch of time.

        A gap is taken from the topic if it began after the last window of the table, or if the table tells that it
        lasts. All others are taken from the table: its gaps are the exact ones.
        """
        unread: dict[str, str] = {}
        rows: dict[tuple[object, ...], GapRow] = {}
        stops: dict[str, Microseconds] = {}
        try:
            for exchange in exchanges:
                stored = self._lake.windows("gap", exchange.name, window.start)
                stops[exchange.name] = stored[-1].stop if stored else 0
            rows = {_key(row): row for row in self._stored(window, [exchange.name for exchange in exchanges])}
        except (CoinPlatformError, OSError) as error:
            unread["lake"] = str(error)
        for exchange in exchanges:
            try:
                for row in self._told(exchange):
                    is_new = microseconds_of(row["from"]) >= stops.get(exchange.name, 0)
                    known = rows.get(_key(row))
                    if is_new or (known is not None and known["to"] is None):  # the table told it as lasting
                        rows[_key(row)] = row
            except RetentionLoss as error:
                unread[f"topic {GAPS}, {exchange.name}"] = str(error)
            except BrokerUnreachable as error:
                unread[f"topic {GAPS}"] = str(error)
                break  # each further question would wait in vain, too
        overlapping = [row for row in rows.values() if _overlaps(row, window)]
        return FoundGaps(sorted(overlapping, key=lambda row: (row["from"], *map(str, _key(row)))), unread)

    def _stored(self, window: Window, exchanges: list[str]) -> Iterator[GapRow]:
        try:
            rows = self._lake.scan(
                "gap", exchanges=exchanges, start=time_of(window.start), end=time_of(window.stop)
            ).collect()
        except LakeError as error:
            logger.debug("no window of table gap: %s", error)
            return
        yield from rows.select(pl.col(_COLUMNS)).iter_rows(named=True)

    def _told(self, exchange: Exchange) -> Iterator[GapRow]:
        """Yield the newest gaps of an exchange that the topic tells, as told last."""
        partition = exchange.gap_partition
        end = self._broker.end_offset(GAPS, partition)
        start = max(self._broker.begin_offset(GAPS, partition), end - TAIL_RECORDS)
        for record in self._broker.read(GAPS, partition, start, end):
            row = _row(record.value)
            if row is not None and row["exchange"] == exchange.name:
                yield row


class _Told(msgspec.Struct):
    """A record of topic `MarketGaps`."""

    exchange: str
    channel: str
    pair: str | None
    start: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(name="from")
    stop: Annotated[datetime, msgspec.Meta(tz=True)] | None = msgspec.field(name="to")
    cause: str
    reason: str
    filled_by: str | None


_decode = msgspec.json.Decoder(_Told).decode


def _row(value: bytes) -> GapRow | None:
    """Return the gap of a record, or `None` for a record that is not one of ours."""
    try:
        gap = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    times = gap.start.astimezone(UTC), None if gap.stop is None else gap.stop.astimezone(UTC)
    values = (gap.exchange, gap.channel, gap.pair, *times, gap.cause, gap.reason, gap.filled_by)
    return dict(zip(_COLUMNS, values, strict=True))


def _key(row: GapRow) -> tuple[object, ...]:
    return row["exchange"], row["channel"], row["pair"], row["from"]


def _overlaps(row: GapRow, window: Window) -> bool:
    start = microseconds_of(row["from"])
    stop = None if row["to"] is None else microseconds_of(row["to"])
    return start < window.stop and (stop is None or stop >= window.start)
