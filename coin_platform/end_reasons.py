"""Why a connection ended: the texts of `Facts.reason`, and what they say. All other reasons are words of others."""

import re
from enum import StrEnum


class End(StrEnum):
    """Why we ended a connection, where no function below says more."""

    STOPPED = "stopped"  # the collector was told to stop
    REPLACED = "replaced"  # its successor had data; that may be a connection of another collector
    NO_PAIRS = "no pairs"  # no pair of it is active any more
    STREAMED = "a connection is live"  # so polling over REST ended
    BROKEN_OFF = "broken off"  # by an error of our own
    NOT_LEADING = "no longer the leader"  # another machine may collect by now


_OVER_BUDGET = "over its budget"
_REFUSED = "connection refused: "
_UNHEARD = re.compile(r"(?:silent|no data) for (\d+(?:\.\d+)?(?:e\+\d+)?) s")


def silent(seconds: float) -> str:
    """Return the reason of a connection that was ended because no byte had come for so long."""
    return f"silent for {seconds:g} s"


def without_data(seconds: float) -> str:
    """Return the reason of a connection that was ended because no market data had come for so long."""
    return f"no data for {seconds:g} s"


def over_budget(size: int, waiting: int) -> str:
    """Return the reason of a connection that was ended because its next message (bytes) found no room to wait."""
    return f"{_OVER_BUDGET}: {size:,} bytes came while {waiting:,} waited for the disk"


def is_over_budget(reason: str) -> bool:
    """Return whether a connection was ended because it had brought more than the disk took."""
    return reason.startswith(_OVER_BUDGET)


def refused(reason: str) -> str:
    """Return the reason of a connection that we ended because the exchange refused it, in the exchange's words."""
    return f"{_REFUSED}{reason}"


def is_refused(reason: str) -> bool:
    """Return whether the exchange refused a connection as a whole."""
    return reason.startswith(_REFUSED)


def unheard(reason: str) -> float | None:
    """Return for how many seconds before its end a connection had brought nothing; None for other reasons."""
    match = _UNHEARD.fullmatch(reason)
    return float(match[1]) if match else None
