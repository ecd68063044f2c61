"""The active pairs: read and changed in the cluster, and what the collectors say of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import msgspec

from coin_platform.clock import wall
from coin_platform.cluster import Cluster, pairs
from coin_platform.cluster.change import read_pairs
from coin_platform.cluster.pairs import ALL_CHANNELS, PairSet
from coin_platform.cluster.status import LOST, ComponentKind, PairStatus, Status
from coin_platform.errors import VersionConflict
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Microseconds, Pair
from coin_platform.selection import exchanges_of
from coin_platform.settings import Settings

_TRIES = 50  # of a change that does not name a version: each try that fails is a change by another writer
_CONFIRMED = ("confirmed", "stale", "invalid")  # the subscription is confirmed, whatever has come since


class PairSets:
    """Reads and changes the active pairs of exchanges. Its methods may block for seconds: call them in a thread."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        """Raises `SettingsError` if the settings leave nothing to collect."""
        self._cluster, self._settings = cluster, settings
        self._collected = exchanges_of(None, settings)

    def of(self, exchange: Exchange) -> PairSet:
        """Return the set of an exchange: the stored one or, with version 0, that of the settings."""
        return pairs.editable(exchange, read_pairs(self._cluster, exchange.name), self._settings)

    def change(
        self, exchange: Exchange, make: Callable[[PairSet], PairSet], by: str, version: int | None
    ) -> tuple[PairSet, PairSet]:
        """Replace the set of an exchange by what `make` makes of it. Return the set before and the new one.

        Raises `VersionConflict` if the stored set has another version than `version`. If that is None, every version
        is right: `make` is then called again when another writer was first. Raises `ClusterError` if the store cannot
        be written, and whatever `make` raises.
        """
        for tries_left in reversed(range(_TRIES)):
            before = self.of(exchange)
            if version is not None and version != before.version:
                raise VersionConflict(pairs.key_of(exchange.name), before.version)
            new = make(before)
            try:
                stored = self._cluster.put(pairs.key_of(exchange.name), new.encode(by, wall()), before.version)
            except VersionConflict:
                if version is not None or not tries_left:
                    raise
                continue
            return before, msgspec.structs.replace(new, version=stored)
        raise AssertionError  # the loop returns or raises

    def store_again(self, by: str) -> list[str]:
        """Store every stored set anew, and return the names of its exchanges. So a store gets back what it has lost.

        Raises `ClusterError` if the store cannot be written.
        """
        names = [name for name in EXCHANGES if read_pairs(self._cluster, name) is not None]
        for name in names:
            self.change(EXCHANGES[name], lambda pair_set: pair_set, by, None)
        return names

    def collects(self, exchange: Exchange) -> bool:
        """Return whether the settings enable an exchange."""
        return exchange in self._collected

    def channels(self, exchange: Exchange, pair_set: PairSet, channel: str) -> list[Channel]:
        """Return the collected channels that follow one entry of a set."""
        offered = [name for name in self._settings.channels if name in exchange.channels | exchange.polled]
        if channel == ALL_CHANNELS:
            return [name for name in offered if name not in pair_set.own_channels]
        return [name for name in offered if name == channel]


class PairState(StrEnum):
    """How far a wanted change of a pair has come."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    PENDING = "pending"
    DROPPED = "dropped"


class PairResult(NamedTuple):
    """How far a pair has come, and why it is not further."""

    state: PairState
    reason: str = ""


Reports: TypeAlias = dict[Channel, list[Mapping[str, PairStatus]]]


def reports_since(statuses: Iterable[Status], exchange: Exchange, time: Microseconds) -> Reports:
    """Return by channel what the feeds of an exchange have said of their pairs since `time`."""
    reports: Reports = {}
    for status in statuses:
        kind, _, rest = status.name.partition("/")
        name, _, place = rest.partition("/")
        channel = place.partition("/")[0]
        is_feed = status.kind is ComponentKind.FEED and kind == "feed" and name == exchange.name
        if is_feed and channel in list(Channel) and status.state != LOST and status.time >= time:
            reports.setdefault(Channel(channel), []).append(status.pairs)
    return reports


def results(
    reports: Reports, channels: Iterable[Channel], wanted: Iterable[Pair], unwanted: Iterable[Pair]
) -> dict[str, PairResult]:
    """Return how far each pair has come on all these channels."""
    names = list(channels)
    found = {str(pair): _of_wanted(reports, names, str(pair)) for pair in wanted}
    return found | {str(pair): _of_unwanted(reports, names, str(pair)) for pair in unwanted}


def _of_wanted(reports: Reports, channels: Iterable[Channel], pair: str) -> PairResult:
    pending = ""
    for channel in channels:
        told = list(_told(reports, channel, pair))
        refused = next((status for status in told if status.state == "refused"), None)
        if refused is not None:
            return PairResult(PairState.REFUSED, f"{channel}: {refused.reason}")
        if not any(status.state in _CONFIRMED for status in told):
            where = "asked for" if told else "no feed has it yet" if reports.get(channel) else "no collector reports"
            pending = pending or f"{channel}: {where}"
    return PairResult(PairState.PENDING, pending) if pending else PairResult(PairState.CONFIRMED)


def _of_unwanted(reports: Reports, channels: Iterable[Channel], pair: str) -> PairResult:
    for channel in channels:
        if channel not in reports:
            return PairResult(PairState.PENDING, f"{channel}: no collector reports")
        if any(_told(reports, channel, pair)):
            return PairResult(PairState.PENDING, f"{channel}: a feed still has it")
    return PairResult(PairState.DROPPED)


def _told(reports: Reports, channel: Channel, pair: str) -> Iterator[PairStatus]:
    return (report[pair] for report in reports.get(channel, ()) if pair in report)
