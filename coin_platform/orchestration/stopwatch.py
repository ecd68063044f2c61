"""Measures over the ticks of a sensor for how long something has not changed. No jump of the wall clock matters."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import dagster as dg

logger = logging.getLogger(__name__)

LONGEST_STEP_SECONDS = 15.0  # that one look adds: while the machine stood still, nothing was watched

_PROCESS = uuid4().hex  # names this process: the monotonic clocks of two processes cannot be compared


class Stopwatch:
    """The seconds for which a mark has been the same, stored in Dagster's key-value table.

    1. Time counts only between two looks of one process, by its monotonic clock, and at most `LONGEST_STEP_SECONDS`.
    2. A restart of that process loses the time between its last look and the first look after it, and no more.
    """

    def __init__(self, instance: dg.DagsterInstance, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = instance.daemon_cursor_storage
        self._key = f"coin/stopwatch/{name}"
        self._clock = clock

    def seconds(self, mark: str) -> float:
        """Look at the mark; return for how many seconds it has been the same."""
        moment, seconds = self._clock(), 0.0
        row = row_of(self._storage.get_cursor_values({self._key}), self._key)
        if row.get("mark") == mark:
            seconds = float(row["seconds"])
            if row["process"] == _PROCESS:
                seconds += min(max(0.0, moment - row["moment"]), LONGEST_STEP_SECONDS)
        new_row = {"mark": mark, "seconds": seconds, "process": _PROCESS, "moment": moment}
        self._storage.set_cursor_values({self._key: json.dumps(new_row)})
        return seconds


def row_of(values: Mapping[str, str], key: str) -> dict[str, Any]:
    """Return the row that Dagster's key-value table has under a key, or an empty one.

    A value that is not a JSON object is logged and counts as empty. An error would fail the sensor at every tick.
    """
    try:
        row = json.loads(values.get(key, "{}"))
    except ValueError:
        row = None
    if isinstance(row, dict):
        return row
    logger.warning("%s in Dagster's database is not a JSON object; it begins anew: %.100r", key, values[key])
    return {}
