"""What a window hands on to the next one, and whether a window was made of what the one before it hands on.

Windows are made in any order: one that failed waits for its next try and holds up no other. A window that was made
before the one that precedes it has neither the gaps nor the repeated frames that only its predecessor tells of.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake
from coin_platform.lake.store import digest
from coin_platform.model import Window
from coin_platform.orchestration.raw_facts import previous_window, raw_table_name
from coin_platform.tables.frame_numbers import LastNumber
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gap_table import state_of

NUMBERS_BEFORE = "numbers_before"  # in the footer of a raw table: `numbers_hash` of what it was made of
STATES_BEFORE = "states_before"  # in the footer of a gap table: `state_hash` by channel


def numbers_hash(numbers: Iterable[LastNumber]) -> str:
    """Return a hash of the last frame numbers that a raw window hands on."""
    return _hash([list(number) for number in numbers])


def state_hash(state: LedgerState | None) -> str:
    """Return a hash of the state of a feed's gaps that a window hands on; `None` if it hands on nothing."""
    return _hash(None if state is None else state.pack())


def is_outdated(lake: Lake, sources: Sequence[Source], window: Window) -> bool:
    """Return whether a window is made, but of something else than the window before it hands on now.

    Windows of former versions do not say of what they were made, and count as right.
    """
    before = previous_window(window)

    @cache  # the feeds of an exchange share one gap table, so its footers are read once
    def facts(table: str, exchange: str) -> tuple[dict[str, Any], dict[str, Any]]:
        handed_on, own = (lake.readable_provenance(table, exchange, each) for each in (before, window))
        return (handed_on, own) if handed_on is not None and own is not None else ({}, {})

    for source in sources:
        handed_on, own = facts(raw_table_name(source), source.exchange.name)
        if own.get(NUMBERS_BEFORE) not in (None, numbers_hash(handed_on.get("numbers", ()))):
            return True
        handed_on, own = facts("gap", source.exchange.name)
        made_of = own.get(STATES_BEFORE, {}).get(source.channel.value)
        if made_of not in (None, state_hash(state_of(handed_on or None, source.channel))):
            return True
    return False


def _hash(value: object) -> str:
    return digest(msgspec.json.encode(value, order="sorted"))[:16]
