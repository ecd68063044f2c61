"""Choose the epoch of a collector: a number that rises with every start, also on a clock that was set back."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from coin_platform.broker import Broker, Place
from coin_platform.clock import wall
from coin_platform.errors import BrokerUnreachable, DecodeError, RetentionLoss
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Region
from coin_platform.records import unpack
from coin_platform.settings import Settings
from coin_platform.topic_names import raw_topic

logger = logging.getLogger(__name__)

HOUR_MILLISECONDS = 3_600_000


def next_epoch(broker: Broker, places: Iterable[Place], milliseconds: int) -> int:
    """Return the epoch of a collector that starts now and writes these partitions.

    1. The epoch is `milliseconds`, the time of day.
    2. If an earlier collector has this epoch or a later one, the epoch is the next number after it. Our clock was set
       back then, or its clock was ahead. Readers of the log ignore the gaps of a collector with a lower epoch.
    3. A broker that does not answer is not asked again.
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


def epoch_after(broker: Broker, region: Region, settings: Settings, exchanges: Iterable[Exchange]) -> int:
    """Return the epoch of a collector of these exchanges that starts now, see `next_epoch`."""
    topics = [raw_topic(settings.topic_prefix(region), channel) for channel in settings.channels]
    places = [(topic, exchange.partition) for exchange in exchanges for topic in topics]
    return next_epoch(broker, places, wall() // 1_000)


def _newest_epoch(broker: Broker, place: Place) -> int:
    """Return the epoch of the last record of a partition; -1 if it has none."""
    end = broker.end_offset(*place)
    if end > broker.begin_offset(*place):
        with suppress(DecodeError, RetentionLoss):  # another program wrote the record, or it was trimmed just now
            return max((unpack(record.header).epoch for record in broker.read(*place, end - 1, end)), default=-1)
    return -1
