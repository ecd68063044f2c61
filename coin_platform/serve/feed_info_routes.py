"""`/ws/info`, `/api/ws/infra-health` and `/api/clients`: where the live feed is, how it is, and who reads it."""

from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from coin_platform.clock import wall
from coin_platform.cluster import Cluster, HealthState
from coin_platform.cluster.status import ComponentKind, Status, statuses
from coin_platform.errors import ClusterError
from coin_platform.model import Microseconds
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.cluster_health import ClusterHealth, health_of
from coin_platform.serve.feed.ladder import Rung
from coin_platform.serve.feed.reports import listed_clients, moves_of
from coin_platform.serve.keys import Scope
from coin_platform.serve.pair_changes import asked
from coin_platform.serve.parameters import PageSize, PageStart, time_of
from coin_platform.serve.problems import answers

_FEED, _GOOD = "server/feed", "live"


class FeedServerFacts(BaseModel):
    """A server of the live feed: its address, what its records come from, and whether they come."""

    address: str
    rung: str
    state: str
    reason: str
    since: datetime
    clients: int


class FeedInfo(BaseModel):
    """The servers of the live feed, the best one first. `address` is that of the first one; null if none is live."""

    address: str | None
    servers: list[FeedServerFacts]


class FeedMove(BaseModel):
    """A move of a server of the feed from one rung to another, and why."""

    time: datetime
    before: str
    after: str
    reason: str


class FeedLadder(BaseModel):
    """What one server of the feed reads, since when, and its last 20 moves, the newest last."""

    name: str
    host: str
    rung: str
    since: datetime
    moves: list[FeedMove]


class ServiceHealth(BaseModel):
    """A service, or what a feed's records come from: its state, since when, and why it is not good."""

    name: str
    host: str
    state: str
    since: datetime
    reason: str


class InfraHealth(BaseModel):
    """The store of the deployment, and what each server of the feed reads."""

    cluster: ClusterHealth
    services: list[ServiceHealth]
    feeds: list[FeedLadder]


class ClientEntry(BaseModel):
    """A client of the live feed. `client` is the name of its key, or its address."""

    server: str
    client: str
    stream: str
    since: datetime
    unsent_bytes: int
    missed_bundles: int


class ClientPage(BaseModel):
    """A page of the clients of all servers, the longest first. `total` is the number of all."""

    total: int
    clients: list[ClientEntry]


def feed_info_routes(access: ApiAccess, cluster: Cluster, machine: Cluster | None) -> APIRouter:
    """Return the routes. While the `cluster` is away they tell of the servers of this `machine`, if it is given."""
    router, away = APIRouter(tags=["live feed"]), answers(HTTPStatus.SERVICE_UNAVAILABLE)

    @router.get("/ws/info", dependencies=[Depends(access.public)], responses=away)
    async def feed_info() -> FeedInfo:
        """Tell clients which address to use, and which others there are."""
        known, _ = await asked(_statuses, cluster, machine, wall())
        servers = [status for status in known if status.is_within(_FEED)]
        servers.sort(key=_place_in_list)
        facts = [_server(status) for status in servers]
        return FeedInfo(address=next((each.address for each in facts if each.state == _GOOD), None), servers=facts)

    @router.get("/api/ws/infra-health", dependencies=[Depends(access.needs(Scope.READ))], responses=away)
    async def infra_health() -> InfraHealth:
        """Tell the state of the store, and of what the records of each feed come from."""
        known, failure = await asked(_statuses, cluster, machine, wall())
        health = health_of(cluster)
        if failure:
            health = ClusterHealth(state=HealthState.DEGRADED, since=health.since, reason=failure)
        services = [_service(status) for status in known if status.kind is ComponentKind.SOURCE]
        feeds = [_ladder(status) for status in known if status.is_within(_FEED)]
        return InfraHealth(cluster=health, services=services, feeds=feeds)

    @router.get("/api/clients", dependencies=[Depends(access.needs(Scope.READ))], responses=away)
    async def list_clients(offset: PageStart = 0, limit: PageSize = 100) -> ClientPage:
        """List the clients of the live feed, with what they have not taken yet and what they missed."""
        clients = await asked(listed_clients, cluster)
        page = [
            ClientEntry(
                server=client.server,
                client=client.client,
                stream=client.stream,
                since=time_of(client.since),
                unsent_bytes=client.unsent_bytes,
                missed_bundles=client.missed_bundles,
            )
            for client in clients[offset : offset + limit]
        ]
        return ClientPage(total=len(clients), clients=page)

    return router


def _statuses(cluster: Cluster, machine: Cluster | None, now: Microseconds) -> tuple[list[Status], str]:
    """Return the statuses of the deployment, or those of this machine's servers and why the store cannot be read."""
    try:
        return statuses(cluster, now), ""
    except ClusterError as error:
        if machine is None:
            raise
        return statuses(machine, now), str(error)


def _place_in_list(status: Status) -> tuple[bool, int, float]:
    """Return what servers are sorted by: those that get records first, then those with a high rung and few clients."""
    rungs = [rung.value for rung in Rung]
    rung = status.texts.get("rung", "")
    height = rungs.index(rung) if rung in rungs else len(rungs)
    return status.state != _GOOD, height, status.numbers.get("clients", 0)


def _service(status: Status) -> ServiceHealth:
    return ServiceHealth(
        name=status.name, host=status.host, state=status.state, since=time_of(status.since), reason=status.reason
    )


def _ladder(status: Status) -> FeedLadder:
    moves = [
        FeedMove(time=time_of(move.time), before=move.before, after=move.after, reason=move.reason)
        for move in moves_of(status)
    ]
    since = moves[-1].time if moves else time_of(status.since)
    return FeedLadder(name=status.name, host=status.host, rung=status.texts.get("rung", ""), since=since, moves=moves)


def _server(status: Status) -> FeedServerFacts:
    return FeedServerFacts(
        address=status.texts.get("address", ""),
        rung=status.texts.get("rung", ""),
        state=status.state,
        reason=status.reason,
        since=time_of(status.since),
        clients=int(status.numbers.get("clients", 0)),
    )
