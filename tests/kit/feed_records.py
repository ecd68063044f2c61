"""Records of the feed, without a log."""

import json

from coin_platform.serve.feed.records import FeedRecord


def feed_record(
    pair: str | None = "BTC-KRW",
    *,
    exchange: str = "upbit",
    kind: str = "ticker",
    offset: int = 0,
    epoch: int = 1,
    gap: str = "",
    is_over: bool = False,
) -> FeedRecord:
    """Return a record whose JSON names it."""
    text = json.dumps({"type": kind, "exchange": exchange, "pair": pair, "offset": offset}, separators=(",", ":"))
    return FeedRecord(kind, exchange, pair, epoch, offset, 0, 0, False, text.encode(), gap, is_over)
