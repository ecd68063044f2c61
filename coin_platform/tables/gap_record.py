"""One gap -> a record of the topic `MarketGaps`."""

import msgspec

from coin_platform.model import Gap
from coin_platform.tables.json_times import time_text


def pack_gap(gap: Gap) -> bytes:
    """Return the JSON of a gap: the columns of table `gap`, with times like `2026-11-24 03:00:00.500000+00:00`.

    A gap comes again, under the same exchange, channel, pair and `from`, when more of it is known.
    """
    return msgspec.json.encode(
        {
            "exchange": gap.exchange,
            "channel": gap.channel.value,
            "pair": str(gap.pair) if gap.pair else None,
            "from": time_text(gap.start),
            "to": time_text(gap.stop),
            "cause": gap.cause,
            "reason": gap.reason,
            "filled_by": gap.filled_by,
        }
    )
