"""What a collector and its feeds say of themselves, as the status of a deployment."""

from collections.abc import Iterable, Mapping

from coin_platform.cluster.status import ComponentKind, PairStatus, Status
from coin_platform.collect.status import FeedStatus
from coin_platform.model import SECOND, Channel, Microseconds, Pair, Region
from coin_platform.times import datetime_of

GOOD_STATES = ("live", "idle")


def feed_report(feed: FeedStatus, now: Microseconds, others: Mapping[str, float]) -> Status:
    """Return the status of a feed. `others` are numbers that it does not count itself."""
    pairs = {str(pair): _pair_status(feed, pair) for pair in feed.pairs}
    states = [pair.state for pair in pairs.values()]
    numbers: dict[str, float | int] = {
        "pairs": len(pairs),
        **{f"pairs_{state}": states.count(state) for state in ("confirmed", "unconfirmed", "refused", "stale")},
        "pairs_not_traded": len(feed.not_traded),
        "frames": feed.frames,
        "frame_bytes": feed.bytes,
        "undecodable_frames": feed.undecodable,
        "unasked_events": feed.unasked,
        "reconnects": feed.reconnects,
        **others,
    }
    texts = {"transport": feed.transport, "connection": feed.connection}
    if feed.channel is Channel.ORDERBOOK:
        texts["proof"] = feed.proof.value
        numbers |= {
            "books_proved": len(feed.proved),
            "books_unproved": len(set(feed.pairs) - feed.proved),
            "books_invalid": len(feed.invalid),
            "books_lost": feed.lost,
            "book_resyncs": feed.resyncs,
        }
    if feed.listed is not None:
        numbers["pairs_listed"] = feed.listed
    if feed.listing_news is not None:
        time, line = feed.listing_news
        texts["listing"] = f"{datetime_of(time):%Y-%m-%dT%H:%M:%SZ} {line}"
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
        texts=texts,
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
    halt = f"not traded: {feed.not_traded[pair]}" if pair in feed.not_traded else ""
    if (failed := feed.refused.get(pair)) is not None:
        return PairStatus(state="refused", reason=str(failed), last_time=last_time)
    if pair in feed.unconfirmed or feed.state in ("waiting", "connecting"):
        return PairStatus(state="unconfirmed", reason=halt, last_time=last_time)
    if pair in feed.invalid:
        return PairStatus(state="invalid", reason=halt or "its book waits for a snapshot", last_time=last_time)
    return PairStatus(state="stale" if pair in feed.stale else "confirmed", reason=halt, last_time=last_time)


def _reason(feed: FeedStatus) -> str:
    if feed.state not in GOOD_STATES:
        return feed.last_error
    told = {**{pair: f"not traded: {state}" for pair, state in feed.not_traded.items()}, **feed.refused}
    pairs = "; ".join(f"{pair} {text}" for pair, text in list(told.items())[:5])
    return pairs + (f"; {len(told) - 5} more" if len(told) > 5 else "") or (
        "our clock or the exchange's is wrong" if feed.clock_suspect else ""
    )
