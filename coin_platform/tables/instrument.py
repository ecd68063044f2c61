"""What exchanges list, over time: the values of a row, and which rows a window has.

A row is a change against what was known of the pair before. Each window also has one row of each pair, whether it
changed or not: the first time that the window's records name the pair. So the same records give the same rows.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from coin_platform.exchanges.base import WHOLE_LIST
from coin_platform.model import SECOND, Event, Instrument, InstrumentState, Microseconds, Pair
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.schema import Values

LIST_PERIOD: Microseconds = 600 * SECOND  # between two requests for a list that is polled
RETRY_PERIOD: Microseconds = 60 * SECOND  # after a request without an answer


class Change(StrEnum):
    """What a row tells besides the state of its pair."""

    LISTED = "listed"  # the whole list before did not name the pair
    CHANGED = "changed"
    DELISTED = "delisted"


class _Known(NamedTuple):
    """What was told last of a pair."""

    event: Instrument
    values: Values
    time: Microseconds  # when it was told last, changed or not


def list_period(window: Microseconds, *, is_streamed: bool) -> Microseconds:
    """Return how often the whole list is asked for: at least once in each window, so that no window lacks the set.

    A socket tells changes at once, so its list is asked for only once in a window.
    """
    return window if is_streamed else min(LIST_PERIOD, window)


def memory(window: Microseconds) -> Microseconds:
    """Return how long before a window (µs) its records tell what was listed: the window before had a whole list."""
    return window + LEAD


def values(event: Instrument) -> Values:
    """Return the values of a row, in the order of the columns, with no `change` yet."""
    numbers = (event.tick_size, event.size_step, event.min_size, event.min_value)
    floats = (None if text is None else float(text) for text in numbers)
    return (event.state.value, event.exchange_state, *floats, event.listed_time, None)


class KnownInstruments:
    """What one exchange lists, as its records have told so far."""

    def __init__(self) -> None:
        self.list_time: Microseconds | None = None  # log time of the last whole list
        self.wanted: frozenset[str] = frozenset()  # the pairs that the collector wants
        self.wanted_since: Microseconds | None = None  # log time since when it wants any
        self._known: dict[Pair, _Known] = {}
        self._told: set[Pair] = set()  # pairs that have a row in this window

    def states(self) -> dict[str, Instrument]:
        """Return what was told last of each pair."""
        return {str(pair): known.event for pair, known in self._known.items()}

    def want(self, pairs: Iterable[str], time: Microseconds) -> None:
        """Take the pairs that the collector wants from now on."""
        self.wanted = frozenset(pairs)
        self.wanted_since = (time if self.wanted_since is None else self.wanted_since) if self.wanted else None

    def begin_window(self, oldest: Microseconds) -> None:
        """Begin the next window, and forget what was told last before log time `oldest`.

        A window's own job knows no more than that, so the live worker must not, either.
        """
        self._told.clear()
        self._known = {pair: known for pair, known in self._known.items() if known.time >= oldest}
        if self.list_time is not None and self.list_time < oldest:
            self.list_time = None

    def with_delisted(self, events: Sequence[Event]) -> list[Event]:
        """Return the events of a frame, and behind those of a whole list an event for each pair that it left out."""
        if WHOLE_LIST not in events:
            return [*events]
        named = {event.pair for event in events if isinstance(event, Instrument)}
        gone = [
            pair
            for pair, known in sorted(self._known.items())
            if pair not in named and known.event.state is not InstrumentState.DELISTED
        ]
        return [*events, *(Instrument(pair=pair, state=InstrumentState.DELISTED) for pair in gone)]

    def take(self, event: Instrument, row_values: Values, time: Microseconds) -> Values | None:
        """Take an event that the log accepted at `time`. Return the values of its row, or None if it has none."""
        before = self._known.get(event.pair)
        change = self._change(event, row_values, before)
        is_told = event.pair in self._told
        self._known[event.pair] = _Known(event, row_values, time)
        self._told.add(event.pair)
        return None if is_told and change is None else (*row_values[:-1], change)

    def end_frame(self, events: Iterable[Event], time: Microseconds) -> None:
        """Note that a frame is over: from the whole list on, a pair that was not known is new."""
        if WHOLE_LIST in events:
            self.list_time = time

    def _change(self, event: Instrument, row_values: Values, before: _Known | None) -> Change | None:
        is_delisted = event.state is InstrumentState.DELISTED
        if before is None:
            return None if self.list_time is None or is_delisted else Change.LISTED
        if before.values == row_values:
            return None
        if is_delisted:
            return Change.DELISTED
        return Change.LISTED if before.event.state is InstrumentState.DELISTED else Change.CHANGED
