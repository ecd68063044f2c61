"""The epoch of a collector: a number that rises with every start, also on a clock that was set back."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from coin_platform.broker import Broker, Place
from coin_platform.errors import BrokerUnreachable, DecodeError, RetentionLoss
from coin_platform.records import unpack

logger = logging.getLogger(__name__)

HOUR_MILLISECONDS = 3_600_000


def next_epoch(broker: Broker, places: Iterable[Place], milliseconds: int) -> int:
    """Return the epoch of a collector that starts now and writes these partitions.

    It is `milliseconds`, the time of day. Where a collector before had that epoch or a later one, because our clock
    was set back or its clock was ahead, it is the next number: who reads the log takes a lower one for an older
    collector and counts none of its gaps. A broker that does not answer is not asked further.
    """
    newest = -1
    try:
        for place in places:
            newest = max(newest, _newest_epoch(broker, place))
    except BrokerUnreachable as error:
        logger.warning("the epochs of earlier collectors are not known, %s", error)
    if newest < milliseconds:
        return milliseconds
    hours = (newest - milliseconds) / HOUR_MILLISECONDS
    logger.warning("an earlier collector began %.2f h after now: its clock was wrong, or ours is; set it right", hours)
    return newest + 1


def _newest_epoch(broker: Broker, place: Place) -> int:
    """Return the epoch of the last record of a partition; -1 where there is none of ours."""
    end = broker.end_offset(*place)
    if end > broker.begin_offset(*place):
        with suppress(DecodeError, RetentionLoss):  # it is none of ours, or it was trimmed while we looked
            return max((unpack(record.header).epoch for record in broker.read(*place, end - 1, end)), default=-1)
    return -1
