"""What a distributor says of itself: its status, where its records come from, and its clients."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, islice

import msgspec

from coin_platform.cluster import Cluster
from coin_platform.cluster.contract import CLIENTS
from coin_platform.cluster.rates import Rates
from coin_platform.cluster.status import ComponentKind, Status
from coin_platform.errors import ClusterError
from coin_platform.model import Microseconds
from coin_platform.serve.feed.clients import ClientFacts
from coin_platform.serve.feed.distributor import Distributor
from coin_platform.serve.feed.ladder import Ladder, Move, ServiceView

MOST_LISTED = 1_000  # clients of one server
MOVES = "moves"  # the text of a status that tells them
LIST_SECONDS = 5.0  # for which a list of clients is kept: a server that has ended lists none


class ListedClient(msgspec.Struct, frozen=True):
    """A client of a distributor, as the API lists it."""

    server: str
    client: str
    stream: str
    since: Microseconds
    unsent_bytes: int
    missed_bundles: int


class ListedMove(msgspec.Struct, frozen=True):
    """A move of a server from one rung to another, as its status tells it."""

    time: Microseconds
    before: str
    after: str
    reason: str


class FeedReports:
    """The status of one distributor."""

    def __init__(self, distributor: Distributor, ladder: Ladder, address: str, port: int) -> None:
        """Report a distributor whose records come from where the `ladder` says, and which is reached at `address`."""
        self._distributor, self._ladder, self._address = distributor, ladder, address
        self._name, self._sources = f"server/feed/{port}", f"source/feed/{port}"
        self._rates = Rates()

    def report(self, moment: float) -> list[Status]:
        """Return the status of the server and of its sources. `moment`: monotonic seconds."""
        distributor, failure, rung = self._distributor, self._distributor.failure, self._ladder.rung
        clients = distributor.all_clients
        numbers: dict[str, float | int] = {
            "clients": sum(map(len, clients)),
            "streams": distributor.streams,
            "records": distributor.records,
            "records_per_second": self._rates.per_second("records", distributor.records, moment),
            "sends": (sends := sum(each.sends for each in clients)),
            "sends_per_second": self._rates.per_second("sends", sends, moment),
            "missed_bundles": sum(each.missed for each in clients),
            "cut_clients": sum(each.cut for each in clients),
            "refused_clients": distributor.refused,
            "bundle_seconds": distributor.period,
        }
        state = "degraded" if failure else "live"
        views = self._ladder.views()
        server = Status(
            name=self._name,
            kind=ComponentKind.SERVER,
            state=state,
            reason=failure,
            numbers=numbers,
            texts={"address": self._address, "rung": rung, MOVES: _packed(self._ladder.moves)},
        )
        return [server, *(self._source(view, failure if view.service is rung.source else "") for view in views)]

    def _source(self, view: ServiceView, failure: str) -> Status:
        """Return the status of a service. `failure`: why it cannot be read now, whatever its last probes say."""
        is_up = view.is_up and not failure
        return Status(
            name=f"{self._sources}/{view.service}",
            kind=ComponentKind.SOURCE,
            state="up" if is_up else "down",
            since=0 if failure else view.since,
            reason="" if is_up else failure or view.reason or "not asked yet",
        )

    def announce_clients(self, cluster: Cluster, moment: float, now: Microseconds) -> None:
        """Announce the list of clients. A store that cannot be written is told by the cluster's health."""
        facts = chain.from_iterable(clients.listed(moment) for clients in self._distributor.all_clients)
        listed = [self._listed(each, now) for each in islice(facts, MOST_LISTED)]
        key = f"{CLIENTS}{self._name.replace('/', '-')}.{socket.gethostname()}.{os.getpid()}"
        with suppress(ClusterError):
            cluster.announce(key, msgspec.json.encode(listed), LIST_SECONDS)

    def _listed(self, facts: ClientFacts, now: Microseconds) -> ListedClient:
        since = now - int(facts.seconds * 1_000_000)
        return ListedClient(self._name, facts.client, facts.stream, since, facts.unsent_bytes, facts.missed_bundles)


def _packed(moves: Sequence[Move]) -> str:
    """Return the moves of a ladder as the text of a status."""
    return msgspec.json.encode([ListedMove(*move) for move in moves]).decode()


def moves_of(status: Status) -> list[ListedMove]:
    """Return the moves that a server of the feed tells, the oldest first."""
    try:
        return msgspec.json.decode(status.texts.get(MOVES, "[]"), type=list[ListedMove])
    except msgspec.MsgspecError:  # of another version
        return []


def listed_clients(cluster: Cluster) -> list[ListedClient]:
    """Return the clients of all distributors, the longest first. Raises `ClusterError` if the store cannot be read."""
    clients: list[ListedClient] = []
    for entry in cluster.entries(CLIENTS).values():
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # of another version
            clients += msgspec.json.decode(entry.value, type=list[ListedClient])
    return sorted(clients, key=lambda client: client.since)
