"""How often the parts of a collector look at what is due, and how long they wait."""

from typing import NamedTuple

from coin_platform.model import SECOND
from coin_platform.tables.pending_gaps import FIRST_DATA_PATIENCE


class Timing(NamedTuple):
    """The waits of a collector, in seconds; tests shorten them."""

    look_seconds: float = 0.25  # between two looks of a connection, a feed or a poller at what is due
    reminder_seconds: float = (
        FIRST_DATA_PATIENCE / SECOND + 1
    )  # a feed logs its pairs again once the time for a start is over
    progress_seconds: float = 10.0  # between two log lines of progress
    live_seconds: float = 45.0  # a collector that takes over waits so long for its own feeds to be live
    end_seconds: float = 30.0  # and then so long for the other collector to end
    take_over_look_seconds: float = 0.1  # between two looks at either
