"""Table `gap` of one window: the stretches of time for which its feeds lack data."""

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import dagster as dg
import polars as pl

from coin_platform.errors import Damaged
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.lake import Lake
from coin_platform.model import Window
from coin_platform.orchestration.derivation import Derivation
from coin_platform.orchestration.handed_on import STATES_BEFORE, state_hash
from coin_platform.orchestration.raw_facts import RawFacts, parse, previous_window, raw_facts, raw_table_name
from coin_platform.orchestration.results import result_of
from coin_platform.records import Record
from coin_platform.tables import quality
from coin_platform.tables.dataframes import records
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gap_table import Gaps, faults_of, is_book, listing, seconds, state_of

logger = logging.getLogger(__name__)


def materialise_gaps(exchange: Exchange, feeds: Sequence[Source], window: Window, lake: Lake) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Find the gaps of one window in its records. Go on from the state that the window before ended with."""
    derivation = Derivation(lake, "gap", exchange, window)
    parts, states, states_before, unserved = [], {}, dict[str, str](), dict[str, str]()

    @cache  # the feeds of an exchange share one gap table, so it is read once
    def facts_of_gaps(earlier: Window) -> dict[str, Any] | None:
        try:
            held = lake.load("gap", exchange.name, earlier)
        except Damaged as error:
            logger.warning("%s; its state is computed from the raw table", error)
            return None
        return held.facts if held else None

    for feed in feeds:
        raw = _RawRecords(feed, window, lake, derivation)
        before = _window_before(window, raw.facts)
        state = state_of(facts_of_gaps(before), feed.channel) or _computed_state(feed, before, lake)
        if before == previous_window(window):
            states_before[feed.channel.value] = state_hash(state)
        gaps = Gaps(feed, state)
        is_wanted = bool(gaps.ledger.wanted)
        raw.read_into(gaps)
        gaps.carry_on(window.start, raw.facts.span.start)
        cause = gaps.unserved(window.start) if raw.rows.height else "no record" if is_wanted else ""
        unserved |= {feed.channel.value: cause} if cause else {}
        parts.append(gaps.table())
        states[feed.channel.value] = gaps.ledger.state.pack()
    rows = pl.concat(parts)
    # Without a code version: gaps also depend on the window before.
    facts = {"states": states, STATES_BEFORE: states_before, "raw_content_hash": derivation.raw_content_hashes}
    commit = derivation.commit(rows, facts)
    missing = seconds(rows, window.stop)
    metadata = {
        "gap_seconds": sum(missing.values()),
        **{f"seconds_{cause}": cause_seconds for cause, cause_seconds in missing.items()},
        "gaps": dg.MetadataValue.md(listing(rows)),
    }
    return result_of(commit, rows, [quality.no_gap(rows, unserved)], metadata)


class _RawRecords:
    """The raw records of one feed in one window, and for books that come as changes also their rows."""

    def __init__(self, feed: Source, window: Window, lake: Lake, derivation: Derivation) -> None:
        self.rows, facts = derivation.load(raw_table_name(feed))
        self.facts = parse(facts, lake, feed, window)
        self._feed, self._window, self._derivation = feed, window, derivation

    def read_into(self, gaps: Gaps) -> None:
        """Let the ledger read the records, their rows and faults, and what was lost before them."""
        window_end = Record(self.facts.span.start, self._window.stop, "", b"")
        first = next(records(self.rows.head(1)), window_end)
        if self.facts.span.new_log is not None:
            gaps.began_anew(*self.facts.span.new_log, first)
        elif self.facts.span.trimmed is not None:
            gaps.trimmed(self.facts.span.trimmed, self._window.start, first)
        if is_book(self._feed):
            book_rows, book_facts = self._derivation.load(self._feed.channel.value)
            gaps.read(records(self.rows), book_rows, faults_of(book_facts))
        else:
            gaps.read(records(self.rows))


def _window_before(window: Window, facts: RawFacts) -> Window:
    """Return the window from whose state a window goes on: the one before, or the last one of the former log."""
    stop = facts.span.new_log.since if facts.span.new_log else window.start
    return Window(stop - (window.stop - window.start), stop)


def _computed_state(feed: Source, window: Window, lake: Lake) -> LedgerState | None:
    """Return the state that a window ended with, from its own records alone; `None` if its records are not stored."""
    if raw_facts(lake, feed, window) is None:
        return None
    gaps = Gaps(feed, None)
    _RawRecords(feed, window, lake, Derivation(lake, "gap", feed.exchange, window)).read_into(gaps)
    return gaps.ledger.state
