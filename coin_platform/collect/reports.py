"""What a collector and its feeds say of themselves, as the status of a deployment."""

from collections.abc import Iterable, Mapping

from coin_platform.cluster.status import ComponentKind, PairStatus, Status
from coin_platform.collect.status import FeedStatus
from coin_platform.model import SECOND, Microseconds, Pair, Region

GOOD_STATES = ("live", "idle")


def feed_report(feed: FeedStatus, now: Microseconds, budgets: Mapping[str, float]) -> Status:
    """Return the status of a feed. `budgets` are numbers that it shares with the feeds of its exchange."""
    pairs = {str(pair): _pair_status(feed, pair) for pair in feed.pairs}
    states = [pair.state for pair in pairs.values()]
    numbers: dict[str, float | int] = {
        "pairs": len(pairs),
        **{f"pairs_{state}": states.count(state) for state in ("confirmed", "unconfirmed", "refused", "stale")},
        "books_invalid": len(feed.invalid),
        "frames": feed.frames,
        "frame_bytes": feed.bytes,
        "undecodable_frames": feed.undecodable,
        "unasked_events": feed.unasked,
        "books_lost": feed.lost,
        "reconnects": feed.reconnects,
        **budgets,
    }
    if feed.last_frame_time is not None:
        numbers["age_seconds"] = max(0.0, (now - feed.last_frame_time) / SECOND)
    if feed.clock_lag is not None:
        numbers["clock_lag_seconds"] = feed.clock_lag / SECOND
    return Status(
        name=f"feed/{feed.exchange}/{feed.channel}/{feed.shard}",
        kind=ComponentKind.FEED,
        state=feed.state,
        reason=_reason(feed),
        numbers=numbers,
        pairs=pairs,
        texts={"transport": feed.transport, "connection": feed.connection},
    )


def collector_report(region: Region, feeds: Iterable[FeedStatus], numbers: Mapping[str, float]) -> Status:
    """Return the status of a collector from those of its feeds."""
    known = list(feeds)
    bad = [f"{feed.exchange} {feed.channel} is {feed.state}" for feed in known if feed.state not in GOOD_STATES]
    return Status(
        name=f"collector/{region}",
        kind=ComponentKind.COLLECTOR,
        state="live" if not bad else "degraded",
        reason="; ".join(bad[:5]) + (f"; {len(bad) - 5} more" if len(bad) > 5 else ""),
        numbers={"feeds": len(known), "feeds_live": len(known) - len(bad), **numbers},
    )


def _pair_status(feed: FeedStatus, pair: Pair) -> PairStatus:
    last_time = feed.last_times.get(pair)
    if (failed := feed.refused.get(pair)) is not None:
        return PairStatus(state="refused", reason=str(failed), last_time=last_time)
    if pair in feed.unconfirmed or feed.state in ("waiting", "connecting"):
        return PairStatus(state="unconfirmed", last_time=last_time)
    if pair in feed.invalid:
        return PairStatus(state="invalid", reason="its book waits for a snapshot", last_time=last_time)
    return PairStatus(state="stale" if pair in feed.stale else "confirmed", last_time=last_time)


def _reason(feed: FeedStatus) -> str:
    if feed.state not in GOOD_STATES:
        return feed.last_error
    refused = ", ".join(f"{pair} {failed}" for pair, failed in list(feed.refused.items())[:5])
    return refused or ("our clock or the exchange's is wrong" if feed.clock_suspect else "")
