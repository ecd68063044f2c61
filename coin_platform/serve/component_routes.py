"""`/api/components`: how each component is, in short: without hosts, processes and pairs."""

from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from coin_platform.clock import wall
from coin_platform.cluster import Cluster
from coin_platform.cluster.status import Status, statuses
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.cluster_health import ClusterHealth, health_of
from coin_platform.serve.pair_changes import asked
from coin_platform.serve.parameters import time_of
from coin_platform.serve.problems import answers

_NUMBERS = (
    *("age_seconds", "frames_per_second", "rows_per_second", "records_per_second", "lag_records", "spool_records"),
    *("pairs", "pairs_confirmed", "pairs_refused", "pairs_stale", "books_invalid", "clients", "clock_lag_seconds"),
)


class ComponentHealth(BaseModel):
    """One component: its state, since when and why, and some of its numbers at `time`. `lost`: it reports no more."""

    name: str
    kind: str
    state: str
    since: datetime
    time: datetime
    reason: str
    numbers: dict[str, float | int]


class Components(BaseModel):
    """All components by name, and the store through which they report. `time` is that of the server."""

    time: datetime
    cluster: ClusterHealth
    components: list[ComponentHealth]


def component_routes(access: ApiAccess, cluster: Cluster) -> APIRouter:
    """Return the route. It needs a key only if other machines reach the server, as market data does."""
    router = APIRouter(prefix="/api/components", tags=["status"], dependencies=[Depends(access.public)])

    @router.get("", responses=answers(HTTPStatus.SERVICE_UNAVAILABLE))
    async def list_components() -> Components:
        """List how all components are, without what only operators need: hosts, processes, pairs."""
        now = wall()
        found = [_component(status) for status in await asked(statuses, cluster, now)]
        return Components(time=time_of(now), cluster=health_of(cluster), components=found)

    return router


def _component(status: Status) -> ComponentHealth:
    return ComponentHealth(
        name=status.name,
        kind=status.kind,
        state=status.state,
        since=time_of(status.since),
        time=time_of(status.time),
        reason=status.reason,
        numbers={name: status.numbers[name] for name in _NUMBERS if name in status.numbers},
    )
