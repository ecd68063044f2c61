"""Makes the processed records of a time that has passed again, from the raw tables of a lake."""

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import attrgetter
from typing import NamedTuple

import polars as pl

from coin_platform.exchanges.base import Exchange, Source
from coin_platform.lake import Lake
from coin_platform.model import Channel, Gap, Microseconds, Pair, Window
from coin_platform.tables.dataframes import records
from coin_platform.tables.dead_letters import encoded
from coin_platform.tables.gap_record import pack_gap
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import GAPS, processed_topic


class HistoricRecord(NamedTuple):
    """A record as a worker or a collector appended it: when (log time, UTC, µs), to which partition, and what."""

    time: Microseconds
    topic: str
    partition: int
    header: str
    value: bytes


def history(lake: Lake, sources: Iterable[Source], asked: Window) -> Iterator[HistoricRecord]:
    """Yield the processed records and the gaps of a range of log time, in its order.

    The windows of `asked` are read one after the other. Order books begin with the checkpoint of the first window.
    A window that is not stored is left out. Raises `Damaged` for one that cannot be read.
    """
    sources = list(sources)
    transforms = {source: Transform(source, 0, lake.window) for source in sources}
    exchanges = {source.exchange.name: source.exchange for source in sources}
    for start in range(asked.start // lake.window * lake.window, asked.stop, lake.window):
        window = Window(start, start + lake.window)
        parts = [_processed(lake, source, window, transforms[source]) for source in sources]
        parts += [_gaps(lake, exchange, window) for exchange in exchanges.values()]
        for record in merge(*parts, key=attrgetter("time")):
            if asked.start <= record.time < asked.stop:
                yield record


def _processed(lake: Lake, source: Source, window: Window, transform: Transform) -> Iterator[HistoricRecord]:
    """Yield what a worker made of the raw records of a window."""
    rows = lake.read(f"raw_{source.channel}", source.exchange.name, window)
    if rows is None:
        return
    topic = processed_topic(source.exchange.region, source.channel)
    for record in records(rows):
        _, values = encoded(transform, record)
        for value in values:
            yield HistoricRecord(record.time, topic, source.partition, record.header, value)
        transform.dead.clear()
        transform.faults.clear()


def _gaps(lake: Lake, exchange: Exchange, window: Window) -> Iterator[HistoricRecord]:
    """Yield the gaps that became known in a window."""
    rows = lake.read("gap", exchange.name, window)
    if rows is None:
        return
    times = pl.col("from", "to", "log_time").to_physical()
    for row in rows.with_columns(times).sort("log_time", "offset").iter_rows(named=True):
        gap = Gap(
            exchange=exchange.name,
            channel=Channel(row["channel"]),
            pair=Pair.parse(row["pair"]) if row["pair"] else None,
            start=row["from"],
            stop=row["to"],
            cause=row["cause"],
            reason=row["reason"] or "",
            filled_by=row["filled_by"],
        )
        yield HistoricRecord(row["log_time"], GAPS, exchange.gap_partition, "", pack_gap(gap))
