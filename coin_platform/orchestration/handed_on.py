"""What a window hands on to the next one, and whether the next one was made of that.

Windows are made in any order: one that failed waits for its next try and holds up no other. A window that was made
before the one that precedes it has neither the gaps nor the repeated frames that only its predecessor tells of.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake
from coin_platform.lake.store import digest
from coin_platform.model import Window
from coin_platform.orchestration.raw_facts import raw_table_name
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


def is_next_outdated(lake: Lake, sources: Sequence[Source], window: Window) -> bool:
    """Return whether the window after `window` is made, but of something else than `window` hands on now.

    Windows of former versions do not say of what they were made, and count as right.
    """
    after = Window(window.stop, 2 * window.stop - window.start)

    def facts(table: str, source: Source) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        own, later = (lake.readable_provenance(table, source.exchange.name, each) for each in (window, after))
        return (own, later) if own is not None and later is not None else ({}, {})

    for source in sources:
        own, later = facts(raw_table_name(source), source)
        if later.get(NUMBERS_BEFORE) not in (None, numbers_hash(own.get("numbers", ()))):
            return True
        own, later = facts("gap", source)
        made_of = later.get(STATES_BEFORE, {}).get(source.channel.value)
        if made_of not in (None, state_hash(state_of(dict(own), source.channel) if own else None)):
            return True
    return False


def _hash(value: object) -> str:
    return digest(msgspec.json.encode(value, order="sorted"))[:16]
