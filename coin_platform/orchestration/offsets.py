"""Which records a window holds, and what came before them."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import polars as pl

from coin_platform.broker import Broker
from coin_platform.errors import Damaged, LakeError, WindowOpen
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake
from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.records import Record
from coin_platform.tables.dataframes import raw_table, records

EARLIER_WINDOWS = 1_000  # that are looked through for the last stored one: a page of a listing in S3


class NewLog(NamedTuple):
    """That a log began anew: its former self was stored up to an offset, and up to a time."""

    stop_offset: int
    since: Microseconds


class Span(NamedTuple):
    """The offsets `[start, stop)` of one window of one partition."""

    start: int
    stop: int
    trimmed: int | None = None  # records that the topic gave up before anyone stored them; 0: unknown how many
    new_log: NewLog | None = None  # the first window of a log that began anew


class RawFacts(NamedTuple):
    """What a footer says of a stored raw window."""

    span: Span
    log: str | None  # see `Broker.identity`; `None`: a former version stored it
    stop: Microseconds  # of the window

    def is_of(self, broker: Broker, source: Source) -> bool:
        """Whether the topic still is the log that this window was made of.

        A log only grows, so what was logged before the window's end ends at the same offset, or later. A log that is
        shorter is another one, or an older copy, whatever its name.
        """
        name = broker.identity(source.topic, source.partition)
        if None not in (name, self.log) and name != self.log:
            return False  # by its name
        return broker.offset_for_time(source.topic, source.partition, self.stop) >= self.span.stop


class RawWindow(NamedTuple):
    """The records of a window, where they are in the log, and which log that is."""

    rows: pl.DataFrame
    span: Span
    log: str | None
    kept: Mapping[str, Any] | None = None  # what their footer says, where they are those of the lake
    kept_from: int | None = None  # the log began anew since they were stored; it holds so many of the same time


def raw_facts(lake: Lake, source: Source, window: Window) -> RawFacts | None:
    """Return what the lake says of a raw window; `None` if it has none. Raises `LakeError` if that is not ours."""
    facts = lake.provenance(f"raw_{source.channel}", source.exchange.name, window)
    return None if facts is None else _parsed(facts, lake, source, window)


def raw_window(broker: Broker, lake: Lake, source: Source, window: Window, grace: Microseconds) -> RawWindow:
    """Return the records of a closed window as they are to be stored.

    1. They come from the topic.
    2. Once the topic has trimmed them, or began anew, they are those of the lake, unless it `replaces_smaller`.
    3. Where those of the lake are damaged, they come from the topic, if it still has all of them.

    Raises `WindowOpen`, and `Damaged` where neither the lake nor the topic has them whole.
    """
    place = (source.topic, source.partition)
    held, damage = None, None
    try:
        held = lake.load(f"raw_{source.channel}", source.exchange.name, window)
    except Damaged as error:
        damage = error
    stored = _parsed(held.facts, lake, source, window) if held else _unverified(lake, source, window)
    is_ours = stored is not None and stored.is_of(broker, source)
    if stored is not None and (stored.span.start < stored.span.stop or is_ours):
        is_gone = not is_ours and not lake.replaces_smaller
        if is_gone or (is_ours and stored.span.start < broker.begin_offset(*place)):
            if damage is not None:
                raise damage
            assert held is not None  # or there were neither facts
            began, ended = (broker.offset_for_time(*place, time) for time in window)
            return RawWindow(held.rows, stored.span, stored.log, held.facts, ended - began if is_gone else None)
    log = broker.identity(*place)
    found = span(broker, lake, source, window, grace, stored if is_ours else None)
    if damage and stored is None and (found.trimmed is not None or found.new_log):
        raise damage
    return RawWindow(raw_table(broker.read(*place, found.start, found.stop)), found, log)


def _unverified(lake: Lake, source: Source, window: Window) -> RawFacts | None:
    """Return what the footer of a damaged raw window says, if it can be read."""
    facts = lake.readable_provenance(f"raw_{source.channel}", source.exchange.name, window)
    return None if facts is None else _parsed(facts, lake, source, window)


def _parsed(facts: Mapping[str, Any], lake: Lake, source: Source, window: Window) -> RawFacts:
    try:
        new_log = NewLog(*map(int, facts["new_log"])) if facts.get("new_log") else None
        trimmed = None if facts.get("trimmed") is None else int(facts["trimmed"])
        span = Span(int(facts["start_offset"]), int(facts["stop_offset"]), trimmed, new_log)
    except (KeyError, TypeError, ValueError) as error:
        uri = lake.uri(f"raw_{source.channel}", source.exchange.name, window)
        raise LakeError(f"{uri}: its footer does not say which records it holds ({error!r}): move it away") from error
    return RawFacts(span, facts.get("log"), window.stop)


def is_closed(
    broker: Broker, source: Source, window: Window, grace: Microseconds, now: Microseconds | None = None
) -> bool:
    """A window is closed when the log has a later record, or the grace has passed since its end.

    `now` is the time by the log's clock, where that is known; by default this machine's.
    """
    if broker.offset_for_time(source.topic, source.partition, window.stop) < broker.end_offset(
        source.topic, source.partition
    ):
        return True
    return (time.time_ns() // 1000 if now is None else now) >= window.stop + grace


def has_records(broker: Broker, source: Source, window: Window) -> bool:
    """Whether anything was logged before the window's end, also if it was trimmed since."""
    first = broker.begin_offset(source.topic, source.partition)
    return first > 0 or broker.offset_for_time(source.topic, source.partition, window.stop) > 0


def span(broker: Broker, lake: Lake, source: Source, window: Window, grace: Microseconds, own: RawFacts | None) -> Span:
    """Return a closed window's offsets; it begins where the window before it ended.

    What was trimmed before it was stored is lost, and said; without a window before, nobody knows how much that was.
    If the log began anew since the last stored window, this window begins where the new log does, and says so.
    `own` is what was stored of this window, if it is of this log.
    Raises `WindowOpen` while it is open.
    """
    topic, partition = source.topic, source.partition
    if not is_closed(broker, source, window, grace):
        raise WindowOpen(
            f"{topic}[{partition}]: the window is still open; it can be read {grace / SECOND:g} s after its end"
        )
    length = window.stop - window.start
    before = raw_facts(lake, source, Window(window.start - length, window.start))
    last = before or (None if own else _last_before(lake, source, window))
    first, start = broker.begin_offset(topic, partition), broker.offset_for_time(topic, partition, window.start)
    trimmed, new_log = (own.span.trimmed, own.span.new_log) if own else (None, None)
    if last is not None and last.span.stop != broker.offset_for_time(topic, partition, last.stop):
        begin = last.stop - length  # late records, another log, or a damaged footer: that is told by its content
        lake.load(f"raw_{source.channel}", source.exchange.name, Window(begin, last.stop))
    if last is not None and not last.is_of(broker, source):
        new_log = new_log or NewLog(last.span.stop, last.stop)
        if before and before.log is not None and before.log != broker.identity(topic, partition):
            start = 0  # its clock may be behind that of the log before
        before = None
    start = before.span.stop if before else own.span.start if own else start
    if start < first:
        trimmed = first - start
    elif start == first > 0 and not before and not own:
        trimmed = 0
    start = max(start, first)
    return Span(start, max(start, broker.offset_for_time(topic, partition, window.stop)), trimmed, new_log)


def _is_another(own: RawFacts | None, before: RawFacts) -> bool:
    """Whether two windows are known to be of different logs."""
    return own is not None and None not in (own.log, before.log) and own.log != before.log


def _last_before(lake: Lake, source: Source, window: Window) -> RawFacts | None:
    """Return the last window that was stored before this one, of the last so many."""
    since = max(0, window.start - EARLIER_WINDOWS * (window.stop - window.start))
    stored = lake.windows(f"raw_{source.channel}", source.exchange.name, since, window.start)
    return raw_facts(lake, source, stored[-1]) if stored else None


def has_lead(broker: Broker, lake: Lake, source: Source, window: Window, start: int) -> bool:
    """Whether the records before a window, that begins at offset `start`, can still be read, if there were any."""
    if start == 0:
        return True
    own = raw_facts(lake, source, window)
    if (own is None or own.is_of(broker, source)) and broker.begin_offset(source.topic, source.partition) < start:
        return True
    size = window.stop - window.start
    before = Window(window.start - size, window.start)
    return lake.provenance(f"raw_{source.channel}", source.exchange.name, before) is not None


def lead(
    broker: Broker, lake: Lake, source: Source, window: Window, start: int, length: Microseconds
) -> Iterator[Record]:
    """Yield the records of the `length` µs before a window: from the topic or, once trimmed, from the raw tables.

    They are records of the log that the window was made of: those of another one have other offsets.
    """
    since, size = window.start - length, window.stop - window.start
    own = raw_facts(lake, source, window)
    if own is None or own.is_of(broker, source):
        first = broker.offset_for_time(source.topic, source.partition, since)
        if first > broker.begin_offset(source.topic, source.partition) or first == 0:
            yield from broker.read(source.topic, source.partition, first, start)
            return
    for begin in range(window.start - -(-length // size) * size, window.start, size):
        stretch = Window(begin, begin + size)
        facts = raw_facts(lake, source, stretch)
        if facts is None or facts.span.stop > start or _is_another(own, facts):
            continue
        before = lake.read(f"raw_{source.channel}", source.exchange.name, stretch)
        if before is not None:
            yield from records(before.filter(pl.col("log_time").to_physical() >= since))
