"""The records before a window: from the topic or, once they are trimmed, from the raw tables."""

from collections.abc import Iterator

import polars as pl

from coin_platform.broker import Broker
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake
from coin_platform.model import Microseconds, Window
from coin_platform.orchestration.raw_facts import RawFacts, previous_window, raw_facts, raw_table_name
from coin_platform.records import Record
from coin_platform.tables.dataframes import records


def has_earlier_records(broker: Broker, lake: Lake, source: Source, window: Window, start: int) -> bool:
    """Return whether the records before a window that begins at offset `start` can be read, if there were any."""
    if start == 0:
        return True
    own = raw_facts(lake, source, window)
    if (own is None or own.is_of(broker, source)) and broker.begin_offset(source.topic, source.partition) < start:
        return True
    return lake.provenance(raw_table_name(source), source.exchange.name, previous_window(window)) is not None


def earlier_records(
    broker: Broker, lake: Lake, source: Source, window: Window, start: int, length: Microseconds
) -> Iterator[Record]:
    """Yield the records of the `length` µs before a window that begins at offset `start`.

    All of them are of the log that the window was made of. Another log counts its offsets anew.
    """
    since, size = window.start - length, window.stop - window.start
    own = raw_facts(lake, source, window)
    if own is None or own.is_of(broker, source):
        first = broker.offset_for_time(source.topic, source.partition, since)
        if first > broker.begin_offset(source.topic, source.partition) or first == 0:
            yield from broker.read(source.topic, source.partition, first, start)
            return
    for earlier_start in range(window.start - -(-length // size) * size, window.start, size):
        earlier = Window(earlier_start, earlier_start + size)
        facts = raw_facts(lake, source, earlier)
        if facts is None or facts.span.stop > start or _are_of_two_logs(own, facts):
            continue
        rows = lake.read(raw_table_name(source), source.exchange.name, earlier)
        if rows is not None:
            yield from records(rows.filter(pl.col("log_time").to_physical() >= since))


def _are_of_two_logs(own: RawFacts | None, earlier: RawFacts) -> bool:
    return own is not None and None not in (own.log, earlier.log) and own.log != earlier.log
