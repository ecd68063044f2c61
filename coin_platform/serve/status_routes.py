"""`/api/status`: what every component of the deployment says of itself."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel

from coin_platform.clock import wall
from coin_platform.cluster import Cluster
from coin_platform.cluster.status import Status, statuses
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.cluster_health import ClusterHealth, health_of
from coin_platform.serve.keys import Scope
from coin_platform.serve.pair_changes import asked
from coin_platform.serve.parameters import time_of
from coin_platform.serve.problems import Problem, answers


class PairNews(BaseModel):
    """What a feed knows of one pair: `confirmed`, `unconfirmed`, `refused`, `stale` or `invalid`."""

    state: str
    reason: str
    last_time: datetime | None


class ComponentStatus(BaseModel):
    """One component: a collector, a feed, a worker, a server. A component that reports no more is `lost`."""

    name: str
    kind: str
    state: str
    since: datetime
    time: datetime
    reason: str
    host: str
    process: int
    version: str
    numbers: dict[str, float | int]
    texts: dict[str, str]
    pairs: dict[str, PairNews]


class Statuses(BaseModel):
    """All components, by name and host, and the store through which they report."""

    cluster: ClusterHealth
    components: list[ComponentStatus]


def status_routes(access: ApiAccess, cluster: Cluster) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/status", tags=["status"], dependencies=[Depends(access.needs(Scope.READ))])
    away = answers(HTTPStatus.SERVICE_UNAVAILABLE)

    async def read() -> list[Status]:
        return await asked(statuses, cluster, wall())

    @router.get("", responses=away)
    async def list_statuses() -> Statuses:
        """List what all components say of themselves, at most a second ago."""
        components = [_component(status) for status in await read()]
        return Statuses(cluster=health_of(cluster), components=components)

    @router.get("/{component:path}", responses=away | answers(HTTPStatus.NOT_FOUND))
    async def show_status(
        component: Annotated[str, Path(max_length=300, description="A name, such as `feed/upbit/ticker/0`.")],
    ) -> list[ComponentStatus]:
        """Show a component, on each host that has it, and the components below it: `feed/upbit` shows all its feeds."""
        found = [_component(status) for status in await read() if status.is_within(component)]
        if not found:
            raise Problem(
                HTTPStatus.NOT_FOUND, "no-component", "no component has this name", "/api/status lists the components"
            )
        return found

    return router


def _component(status: Status) -> ComponentStatus:
    return ComponentStatus(
        **{name: getattr(status, name) for name in _SAME},
        since=time_of(status.since),
        time=time_of(status.time),
        pairs={pair: PairNews(**_news(news)) for pair, news in status.pairs.items()},
    )


_SAME = ("name", "kind", "state", "reason", "host", "process", "version", "numbers", "texts")


def _news(news: Any) -> dict[str, Any]:
    time = news.last_time
    return {"state": news.state, "reason": news.reason, "last_time": None if time is None else time_of(time)}
