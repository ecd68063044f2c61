"""Which records a window holds, and where they are: in the topic or in the lake."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import polars as pl

from coin_platform.broker import Broker
from coin_platform.errors import Damaged, WindowOpen
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake
from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.orchestration.raw_facts import (
    NewLog,
    RawFacts,
    Span,
    parse,
    previous_window,
    raw_facts,
    raw_table_name,
    readable_raw_facts,
)
from coin_platform.tables.dataframes import raw_table
from coin_platform.tables.frame_numbers import LastNumber

EARLIER_WINDOWS = 1_000  # in which the last stored window is looked for; S3 lists as many objects at once


class RawWindow(NamedTuple):
    """The records of a window, their offsets, and the log that they are from."""

    rows: pl.DataFrame
    span: Span
    log: str | None
    numbers_before: list[LastNumber]  # the last frame numbers that the window before knew
    stored_facts: Mapping[str, Any] | None = None  # the footer, if the records are those of the lake
    records_in_new_log: int | None = None  # of the same time, if the log began anew since the window was stored


def is_closed(
    broker: Broker, source: Source, window: Window, grace: Microseconds, now: Callable[[], Microseconds]
) -> bool:
    """Return whether the log has a record after the window, or the grace has passed since the window's end.

    `now` tells the time of the log's clock. It is asked only if there is no such record.
    """
    place = (source.topic, source.partition)
    if broker.offset_for_time(*place, window.stop) < broker.end_offset(*place):
        return True
    return now() >= window.stop + grace


def has_records(broker: Broker, source: Source, window: Window) -> bool:
    """Return whether anything was logged before the window's end, also if it was trimmed since."""
    first = broker.begin_offset(source.topic, source.partition)
    return first > 0 or broker.offset_for_time(source.topic, source.partition, window.stop) > 0


def raw_window(
    broker: Broker,
    lake: Lake,
    source: Source,
    window: Window,
    grace: Microseconds,
    now: Callable[[], Microseconds],
) -> RawWindow:
    """Return the records of a closed window as they are to be stored.

    1. They come from the topic.
    2. If the topic has trimmed them or began anew, they come from the lake, unless the lake `replaces_smaller`.
    3. If the stored records are damaged, they come from the topic, provided that the topic still has all of them.

    `now` tells the time of the log's clock, by which a window closes.
    Raises `WindowOpen` while the window is open, and `Damaged` if neither the lake nor the topic has them whole.
    """
    place = (source.topic, source.partition)
    held, damage = None, None
    try:
        held = lake.load(raw_table_name(source), source.exchange.name, window)
    except Damaged as error:
        damage = error
    own = parse(held.facts, lake, source, window) if held else readable_raw_facts(lake, source, window)
    is_own_log = own is not None and own.is_of(broker, source)
    if own is not None and (own.span.start < own.span.stop or is_own_log):
        is_gone = not is_own_log and not lake.replaces_smaller
        if is_gone or (is_own_log and own.span.start < broker.begin_offset(*place)):
            if damage is not None:
                raise damage
            assert held is not None  # otherwise there would be neither facts nor damage
            start, stop = (broker.offset_for_time(*place, time) for time in window)
            return RawWindow(held.rows, own.span, own.log, [], held.facts, stop - start if is_gone else None)
    log = broker.identity(*place)
    previous = raw_facts(lake, source, previous_window(window))
    if not is_closed(broker, source, window, grace, now):
        raise WindowOpen(
            f"{source.topic}[{source.partition}]: the window is still open; "
            f"it can be read {grace / SECOND:g} s after its end"
        )
    span = _span(broker, lake, source, window, own if is_own_log else None, previous)
    if damage and own is None and (span.trimmed is not None or span.new_log):
        raise damage
    rows = raw_table(broker.read(*place, span.start, span.stop))
    return RawWindow(rows, span, log, previous.numbers if previous else [])


def _span(
    broker: Broker,
    lake: Lake,
    source: Source,
    window: Window,
    own: RawFacts | None,
    previous: RawFacts | None,
) -> Span:
    """Return the offsets of a closed window. It begins where the window before it ended.

    1. Records that were trimmed before they were stored are lost, and the span says so. If the window before is not
       stored, nobody knows how many they were.
    2. If the log began anew since the last stored window, the window begins where the new log does, and says so.

    `own` is what was stored of the window, if that is of the same log. `previous` is the window before.
    """
    topic, partition = source.topic, source.partition
    last = previous or (None if own else _last_before(lake, source, window))
    first, start = broker.begin_offset(topic, partition), broker.offset_for_time(topic, partition, window.start)
    trimmed, new_log = (own.span.trimmed, own.span.new_log) if own else (None, None)
    if last is not None and last.span.stop != broker.offset_for_time(topic, partition, last.stop):
        # Late records, another log, or a damaged footer. To load the whole window tells the last case: it raises.
        length = window.stop - window.start
        lake.load(raw_table_name(source), source.exchange.name, Window(last.stop - length, last.stop))
    if last is not None and not last.is_of(broker, source):
        new_log = new_log or NewLog(last.span.stop, last.stop)
        if previous and previous.log is not None and previous.log != broker.identity(topic, partition):
            start = 0  # the clock of the new log may be behind that of the former one
        previous = None
    start = previous.span.stop if previous else own.span.start if own else start
    if start < first:
        trimmed = first - start
    elif start == first > 0 and not previous and not own:
        trimmed = 0
    start = max(start, first)
    return Span(start, max(start, broker.offset_for_time(topic, partition, window.stop)), trimmed, new_log)


def _last_before(lake: Lake, source: Source, window: Window) -> RawFacts | None:
    """Return the last of the `EARLIER_WINDOWS` before a window that is stored."""
    since = max(0, window.start - EARLIER_WINDOWS * (window.stop - window.start))
    stored = lake.windows(raw_table_name(source), source.exchange.name, since, window.start)
    return raw_facts(lake, source, stored[-1]) if stored else None
