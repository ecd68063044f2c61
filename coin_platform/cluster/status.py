"""What each component of a deployment says of itself once a second: one schema for all."""

import os
import socket
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from coin_platform import __version__
from coin_platform.cluster.contract import ANNOUNCED, Cluster
from coin_platform.model import SECOND, Microseconds

ANNOUNCE_SECONDS = 1.0  # from one report to the next
LOST_AFTER: Microseconds = 5 * SECOND  # a report this old proves nothing any more
KEEP_SECONDS = 24 * 3600.0  # a component that has died is shown as lost for so long
LOST = "lost"


class ComponentKind(StrEnum):
    """What kind of component it is."""

    COLLECTOR = "collector"
    FEED = "feed"
    WORKER = "worker"
    PARTITION = "partition"  # of a worker
    SERVER = "server"
    SOURCE = "source"  # of a server
    LEADER = "leader"


class PairStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a feed knows of one pair: `confirmed`, `unconfirmed`, `refused` with the reason, `stale`, or `invalid`."""

    state: str
    reason: str = ""
    last_time: Microseconds | None = None  # of its last data


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One component now. Its name is unique within a host: `feed/upbit/ticker/0`."""

    name: str
    kind: ComponentKind
    state: str
    since: Microseconds = 0  # in this state; the reporter knows it
    time: Microseconds = 0  # of this report
    reason: str = ""  # why it is in this state, if that is not good
    numbers: dict[str, float | int] = {}
    pairs: dict[str, PairStatus] = {}
    texts: dict[str, str] = {}  # facts that are no numbers, such as the transport
    host: str = ""
    process: int = 0
    version: str = __version__

    def is_within(self, name: str) -> bool:
        """Whether it is this component or below it: `feed/upbit` has all feeds of Upbit. An empty name has all."""
        return not name or f"{self.name}/".startswith(f"{name.rstrip('/')}/")


class Reporter:
    """Announces the components of this process. Used by one thread.

    It keeps since when each component has been in its state.
    """

    def __init__(self, cluster: Cluster, process: str) -> None:
        """`process` names what this process is, for example `collector-korea`."""
        self._cluster = cluster
        self._host, self._pid = socket.gethostname(), os.getpid()
        self.key = f"{ANNOUNCED}{process}.{self._host}.{self._pid}"
        self._states: dict[str, tuple[str, Microseconds]] = {}

    def announce(self, components: Iterable[Status], time: Microseconds) -> None:
        """Announce these components as they are now. Raises `ClusterError` if the store cannot be written."""
        stamped = [self._stamped(component, time) for component in components]
        self._cluster.announce(self.key, msgspec.json.encode(stamped), KEEP_SECONDS)

    def end(self) -> None:
        """Take this process out of the status: it has ended as it should. Raises `ClusterError`."""
        self._cluster.announce(self.key, b"[]", 0)

    def _stamped(self, component: Status, time: Microseconds) -> Status:
        state, since = self._states.get(component.name, ("", time))
        if state != component.state:
            since = component.since or time
            self._states[component.name] = (component.state, since)
        return msgspec.structs.replace(component, since=since, time=time, host=self._host, process=self._pid)


def statuses(cluster: Cluster, now: Microseconds) -> list[Status]:
    """Return the newest report of every component, by name and host. An old report has state `lost`.

    Reports that cannot be read, perhaps of another version, are left out. Raises `ClusterError` if the store cannot be
    read.
    """
    newest: dict[tuple[str, str], Status] = {}
    for entry in cluster.entries(ANNOUNCED).values():
        for status in _read(entry.value):
            known = newest.get((status.name, status.host))
            if known is None or known.time < status.time:
                newest[status.name, status.host] = status
    return [_aged(newest[key], now) for key in sorted(newest)]


def _read(value: bytes) -> list[Status]:
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []


def _aged(status: Status, now: Microseconds) -> Status:
    if now - status.time <= LOST_AFTER:
        return status
    reason = f"no report for {(now - status.time) / SECOND:.0f} s; it was {status.state}"
    return msgspec.structs.replace(status, state=LOST, since=status.time, reason=reason)


_decode = msgspec.json.Decoder(list[Status]).decode
