"""Measures how long something has not changed, over the ticks of a sensor: no jump of the wall clock matters to it."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import dagster as dg

logger = logging.getLogger(__name__)

LONGEST_STEP_SECONDS = 15.0  # that one look adds: a machine that stood still has seen nothing meanwhile

_PROCESS = uuid4().hex  # the monotonic clock of another process, or after a restart of the machine, is another one


class Stopwatch:
    """Seconds for which a mark has been the same, kept in Dagster's own key-value table.

    1. Time passes only between two looks of one process, by its monotonic clock, and at most `LONGEST_STEP_SECONDS`.
    2. A restart of that process loses the time from its last look to the first one after it, and no more.
    """

    def __init__(self, instance: dg.DagsterInstance, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = instance.daemon_cursor_storage
        self._key = f"coin/stopwatch/{name}"
        self._clock = clock

    def seconds(self, mark: str) -> float:
        """Look: return for how long the mark has been this one."""
        moment, seconds = self._clock(), 0.0
        before = row_of(self._storage.get_cursor_values({self._key}), self._key)
        if before.get("mark") == mark:
            seconds = float(before["seconds"])
            if before["process"] == _PROCESS:
                seconds += min(max(0.0, moment - before["moment"]), LONGEST_STEP_SECONDS)
        after = {"mark": mark, "seconds": seconds, "process": _PROCESS, "moment": moment}
        self._storage.set_cursor_values({self._key: json.dumps(after)})
        return seconds


def row_of(values: Mapping[str, str], key: str) -> dict[str, Any]:
    """Return what is kept under a key of Dagster's key-value table; empty, with a warning, where it is no row of ours.

    To raise would fail every look of the sensor that asks, for ever.
    """
    try:
        row = json.loads(values.get(key, "{}"))
    except ValueError:
        row = None
    if isinstance(row, dict):
        return row
    logger.warning("%s in Dagster's database is no JSON object and is begun anew: %.100r", key, values[key])
    return {}
