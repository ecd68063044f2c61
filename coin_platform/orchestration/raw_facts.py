"""What the footer of a stored raw window says: its offsets, its log and the last frame numbers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from coin_platform.broker import Broker
from coin_platform.errors import LakeError
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake
from coin_platform.model import Microseconds, Window
from coin_platform.tables.frame_numbers import LastNumber


class NewLog(NamedTuple):
    """The end of the former log, in a window with which the log began anew."""

    stop_offset: int  # up to which the former log was stored
    since: Microseconds  # the end of the last window that was made of the former log


class Span(NamedTuple):
    """The offsets `[start, stop)` of one window of one partition."""

    start: int
    stop: int
    trimmed: int | None = None  # records that the topic trimmed before they were stored; 0: nobody knows how many
    new_log: NewLog | None = None  # set in the first window of a log that began anew


class RawFacts(NamedTuple):
    """What the footer of a stored raw window says."""

    span: Span
    log: str | None  # see `Broker.identity`; former versions stored none
    stop: Microseconds  # of the window
    numbers: list[LastNumber]  # the last frame numbers of the connections

    def is_of(self, broker: Broker, source: Source) -> bool:
        """Return whether the topic still is the log that this window was made of.

        A log only grows. So the records before the window's end still end at the same offset, or at a later one. If
        they end earlier, the topic is another log or an older copy, whatever its name.
        """
        name = broker.identity(source.topic, source.partition)
        if None not in (name, self.log) and name != self.log:
            return False  # by its name
        return broker.offset_for_time(source.topic, source.partition, self.stop) >= self.span.stop


def raw_facts(lake: Lake, source: Source, window: Window) -> RawFacts | None:
    """Return what the lake says of a raw window, `None` if there is none.

    Raises `LakeError` if the window was not stored by this platform, and `Damaged` if its footer cannot be read.
    """
    facts = lake.provenance(raw_table_name(source), source.exchange.name, window)
    return None if facts is None else parse(facts, lake, source, window)


def readable_raw_facts(lake: Lake, source: Source, window: Window) -> RawFacts | None:
    """Return what `raw_facts` does, and `None` also if the footer cannot be read."""
    facts = lake.readable_provenance(raw_table_name(source), source.exchange.name, window)
    return None if facts is None else parse(facts, lake, source, window)


def parse(facts: Mapping[str, Any], lake: Lake, source: Source, window: Window) -> RawFacts:
    """Return the facts of a footer. Raises `LakeError` if it is not that of a raw window."""
    try:
        new_log = NewLog(*map(int, facts["new_log"])) if facts.get("new_log") else None
        trimmed = None if facts.get("trimmed") is None else int(facts["trimmed"])
        span = Span(int(facts["start_offset"]), int(facts["stop_offset"]), trimmed, new_log)
        numbers = [(int(epoch), name, int(number), int(time)) for epoch, name, number, time in facts.get("numbers", ())]
    except (KeyError, TypeError, ValueError) as error:
        uri = lake.uri(raw_table_name(source), source.exchange.name, window)
        raise LakeError(f"{uri}: its footer does not say which records it holds ({error!r}): move it away") from error
    return RawFacts(span, facts.get("log"), window.stop, numbers)


def raw_table_name(source: Source) -> str:
    """Return the name of the raw table of a source."""
    return f"raw_{source.channel}"


def previous_window(window: Window) -> Window:
    """Return the window before a window."""
    return Window(window.start - (window.stop - window.start), window.start)
