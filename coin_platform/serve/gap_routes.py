"""`/api/gaps`: the times in which a feed lacks data, each with its cause."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from coin_platform.clock import wall
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.gap_reader import GapReader
from coin_platform.serve.parameters import (
    ExchangeName,
    PageSize,
    PageStart,
    Time,
    microseconds_of,
    not_available,
)
from coin_platform.serve.problems import Problem, answers

DAY: Microseconds = 24 * 3600 * SECOND
LONGEST = 31 * DAY
FIRST, LAST = (microseconds_of(datetime(year, 1, 1, tzinfo=UTC)) for year in (2009, 2200))  # no exchange is older
_DEFAULT = DAY
_READS_AT_ONCE = 2  # each may take seconds and a core
_READ_SECONDS = 30.0


class GapFacts(BaseModel):
    """A gap. `pair` is null where the whole feed was missing; `to` is null while it lasts."""

    model_config = ConfigDict(populate_by_name=True)

    exchange: str
    channel: str
    pair: str | None
    start: datetime = Field(alias="from")
    stop: datetime | None = Field(alias="to")
    cause: str
    reason: str | None
    filled_by: str | None


class GapPage(BaseModel):
    """A page of gaps, oldest first. `total` is the number of all. `unread` names what could not be read, and why."""

    total: int
    gaps: list[GapFacts]
    unread: dict[str, str]


def gap_routes(access: ApiAccess, reader: GapReader) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api/gaps", tags=["gaps"], dependencies=[Depends(access.public)])
    threads = ThreadPoolExecutor(_READS_AT_ONCE, "gaps")

    @router.get("", responses=answers(HTTPStatus.SERVICE_UNAVAILABLE))
    async def list_gaps(
        start: Annotated[Time | None, Query(alias="from", description="UTC; default: a day before `to`.")] = None,
        stop: Annotated[Time | None, Query(alias="to", description="UTC; default: now.")] = None,
        exchange: Annotated[list[ExchangeName] | None, Query(max_length=len(EXCHANGES))] = None,
        offset: PageStart = 0,
        limit: PageSize = 100,
    ) -> GapPage:
        """List the gaps that overlap `[from, to)`: those of the tables, and newer ones of the topic."""
        names = list(dict.fromkeys(exchange or EXCHANGES))
        window = _window(start, stop)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                exchanges = [EXCHANGES[name] for name in names]
                found = await asyncio.get_running_loop().run_in_executor(threads, reader.read, window, exchanges)
        except TimeoutError:
            raise not_available(f"the gaps could not be read within {_READ_SECONDS:g} s", "ask for less") from None
        page = found.rows[offset : offset + limit]
        return GapPage(total=len(found.rows), gaps=[GapFacts(**row) for row in page], unread=found.unread)

    return router


def _window(start: datetime | None, stop: datetime | None) -> Window:
    """Return the stretch that was asked for. Raises `Problem`."""
    end = wall() if stop is None else microseconds_of(stop)
    begin = end - _DEFAULT if start is None else microseconds_of(start)
    if not (FIRST <= begin < end <= begin + LONGEST and end <= LAST):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "wrong-range",
            "`from` must lie before `to`, by 31 days at most, and both between 2009 and 2200",
            "write times such as 2026-11-24T03:00:00Z",
        )
    return Window(begin, end)
