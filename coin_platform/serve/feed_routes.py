"""`/api/feeds`: commands to single feeds."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel

from coin_platform.clock import wall
from coin_platform.cluster import Cluster
from coin_platform.cluster.commands import give, reconnect_key
from coin_platform.cluster.status import LOST, statuses
from coin_platform.model import Channel
from coin_platform.serve.access import ApiAccess, Caller
from coin_platform.serve.keys import Scope
from coin_platform.serve.pair_changes import asked
from coin_platform.serve.parameters import ExchangePath
from coin_platform.serve.problems import Problem, answers


class Commanded(BaseModel):
    """The command was given to a feed. The collector obeys it within a second or two; `/api/status` shows it."""

    feed: str
    command: int


def feed_routes(access: ApiAccess, cluster: Cluster) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api/feeds", tags=["feeds"])

    @router.post(
        "/{exchange}/{channel}/{shard}/reconnect",
        status_code=HTTPStatus.ACCEPTED,
        responses=answers(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    async def reconnect(
        exchange: ExchangePath,
        channel: Channel,
        shard: Annotated[int, Path(ge=0, le=9_999)],
        caller: Annotated[Caller, Depends(access.needs(Scope.ADMIN))],
    ) -> Commanded:
        """Replace the connection of a feed. The new one has data before the old one ends, so nothing is lost."""
        name = f"feed/{exchange}/{channel}/{shard}"
        known = await asked(statuses, cluster, wall())
        if not any(status.name == name and status.state != LOST for status in known):
            raise Problem(
                HTTPStatus.NOT_FOUND, "no-feed", f"{name} does not report", "/api/status/feed lists the feeds"
            )
        key = reconnect_key(exchange, channel, shard)
        return Commanded(feed=name, command=await asked(give, cluster, key, f"api {caller.name}", wall()))

    return router
