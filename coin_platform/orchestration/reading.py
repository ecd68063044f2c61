"""Which records a window holds, and what came before them."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from coin_platform.broker import Broker
from coin_platform.errors import WindowOpen
from coin_platform.lake import Lake
from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.preprocess.tables import records
from coin_platform.preprocess.transform import Source
from coin_platform.wire import Record


class Span(NamedTuple):
    """The offsets `[start, stop)` of one window of one partition."""

    start: int
    stop: int
    trimmed: int | None = None  # records that the topic gave up before anyone stored them; 0: unknown how many


def is_closed(broker: Broker, source: Source, window: Window, grace: Microseconds) -> bool:
    """A window is closed when the log has a later record, or the grace has passed since its end."""
    if broker.offset_for_time(source.topic, source.partition, window.stop) < broker.end_offset(
        source.topic, source.partition
    ):
        return True
    return time.time_ns() // 1000 >= window.stop + grace


def has_records(broker: Broker, source: Source, window: Window) -> bool:
    """Whether anything was logged before the window's end, also if it was trimmed since."""
    first = broker.begin_offset(source.topic, source.partition)
    return first > 0 or broker.offset_for_time(source.topic, source.partition, window.stop) > 0


def span(broker: Broker, lake: Lake, source: Source, window: Window, grace: Microseconds) -> Span:
    """Return a closed window's offsets; it begins where the window before it ended.

    What was trimmed before it was stored is lost, and said; without a window before, nobody knows how much that was.
    Raises `WindowOpen` while it is open.
    """
    name, topic, partition = source.exchange.name, source.topic, source.partition
    if not is_closed(broker, source, window, grace):
        raise WindowOpen(
            f"{topic}[{partition}]: the window is still open; it can be read {grace / SECOND:g} s after its end"
        )
    length = window.stop - window.start
    before = lake.provenance(f"raw_{source.channel}", name, Window(window.start - length, window.start))
    own = lake.provenance(f"raw_{source.channel}", name, window)
    first = broker.begin_offset(topic, partition)
    if before:
        start = int(before["stop_offset"])
    else:
        start = int(own["start_offset"]) if own else broker.offset_for_time(topic, partition, window.start)
    trimmed = own.get("trimmed") if own else None
    if start < first:
        trimmed = first - start
    elif start == first > 0 and not before and not own:
        trimmed = 0
    start = max(start, first)
    return Span(start, max(start, broker.offset_for_time(topic, partition, window.stop)), trimmed)


def has_lead(broker: Broker, lake: Lake, source: Source, window: Window, start: int) -> bool:
    """Whether the records before a window, that begins at offset `start`, can still be read, if there were any."""
    if start == 0 or broker.begin_offset(source.topic, source.partition) < start:
        return True
    size = window.stop - window.start
    before = Window(window.start - size, window.start)
    return lake.provenance(f"raw_{source.channel}", source.exchange.name, before) is not None


def lead(
    broker: Broker, lake: Lake, source: Source, window: Window, start: int, length: Microseconds
) -> Iterator[Record]:
    """Yield the records of the `length` µs before a window: from the topic or, once trimmed, from the raw tables."""
    since = window.start - length
    first = broker.offset_for_time(source.topic, source.partition, since)
    if first > broker.begin_offset(source.topic, source.partition) or first == 0:
        yield from broker.read(source.topic, source.partition, first, start)
        return
    size = window.stop - window.start
    for begin in range(window.start - -(-length // size) * size, window.start, size):
        before = lake.read(f"raw_{source.channel}", source.exchange.name, Window(begin, begin + size))
        if before is not None:
            yield from records(before.filter(pl.col("log_time").to_physical() >= since))
