"""What Dagster shows of exchanges and topics: observations of the assets before the tables, made of the status."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from coin_platform.cluster.status import LOST, ComponentKind, Status
from coin_platform.exchanges.base import Exchange, Source

Facts: TypeAlias = dict[str, str | int | float]
GOOD_STATES = ("live", "idle")
_COUNTS = ("frames", "pairs_confirmed", "pairs_refused", "gap_records", "reconnects")  # summed over the feeds


def newest(statuses: Iterable[Status]) -> dict[str, Status]:
    """Return the newest report of each component by its name: after a failover, the former host's is lost."""
    by_name: dict[str, Status] = {}
    for status in statuses:
        known = by_name.get(status.name)
        if known is None or known.time < status.time:
            by_name[status.name] = status
    return by_name


def exchange_facts(exchange: Exchange, by_name: Mapping[str, Status]) -> Facts:
    """Return what is known of an exchange now. The numbers of a feed that is lost prove nothing, and are left out."""
    feeds = [
        status
        for status in by_name.values()
        if status.kind is ComponentKind.FEED and status.is_within(f"feed/{exchange.name}")
    ]
    heard = [feed for feed in feeds if feed.state != LOST]
    if not heard:
        return {"state": LOST, "reason": feeds[0].reason} if feeds else {"state": "no feed reports"}
    bad = [feed for feed in feeds if feed.state not in GOOD_STATES]
    facts: Facts = {"state": f"{len(bad)} of {len(feeds)} feeds are not live" if bad else "live"}
    if reason := next((f"{feed.name} is {feed.state}: {feed.reason}" for feed in bad), ""):
        facts["reason"] = reason
    ages = [feed.numbers["age_seconds"] for feed in heard if "age_seconds" in feed.numbers]
    if ages:
        facts["age_seconds"] = round(float(min(ages)), 1)
    return facts | {name: int(sum(feed.numbers.get(name, 0) for feed in heard)) for name in _COUNTS}


def topic_facts(source: Source, by_name: Mapping[str, Status], end_offset: int | None, failure: str = "") -> Facts:
    """Return what is known of a partition of a raw topic. `failure`: why the broker does not tell its end offset."""
    worker = _worker_of(source, by_name)
    facts: Facts = {"worker": "none reports" if worker is None else worker.state}
    if worker is not None and worker.state != LOST:
        facts["lag_records"] = int(worker.numbers.get("lag_records", 0))
    if end_offset is not None:
        facts["end_offset"] = end_offset
    if reason := failure or (worker.reason if worker is not None else ""):
        facts["reason"] = reason
    return facts


def topic_state(source: Source, by_name: Mapping[str, Status], failure: str = "") -> str:
    """Return what of a topic is told as soon as it changes: its worker's state, and whether the broker answers."""
    worker = _worker_of(source, by_name)
    return f"{worker.state if worker is not None else ''}{' unknown' if failure else ''}"


def _worker_of(source: Source, by_name: Mapping[str, Status]) -> Status | None:
    return by_name.get(f"partition/{source.exchange.name}/{source.channel}")
