"""`/api/latest` and `/api/premium`: the newest records, and what Korean exchanges ask more than others."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel

from coin_platform.clock import wall
from coin_platform.model import SECOND
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.feed.latest import Latest
from coin_platform.serve.feed.premium import Priced, premiums, quotes
from coin_platform.serve.feed.records import FeedRecord
from coin_platform.serve.parameters import MOST_ROWS, ExchangePath, PageSize, PageStart, PairText, time_of
from coin_platform.serve.premium_history import PremiumHistory
from coin_platform.serve.problems import Problem, answers


class LatestPair(BaseModel):
    """The newest record of each type of a pair, as in its processed topic, and how old it is in seconds."""

    pair: str
    records: dict[str, dict[str, Any]]
    age_seconds: dict[str, float]


class LatestPage(BaseModel):
    """A page of the pairs of an exchange. `total` is the number of all; `age_seconds` counts up to `time`."""

    exchange: str
    time: datetime
    total: int
    pairs: list[LatestPair]


class Price(BaseModel):
    """A price of a base. `mid` and `last` are in the quote currency; `premium` is a fraction: 0.02 is two per cent.

    A price older than 30 seconds is null.
    """

    exchange: str
    pair: str
    mid: float | None
    last: float | None
    usd: float | None
    premium: float | None
    age_seconds: float


class BasePremium(BaseModel):
    """The prices of a base, and the median in dollars of the exchanges that do not trade in won."""

    base: str
    elsewhere_usd: float | None
    prices: list[Price]


class PremiumNow(BaseModel):
    """The premium of each base. `krw_per_usd` is the median of the Korean prices of USDT, which stands for a dollar."""

    time: datetime
    krw_per_usd: float | None
    bases: list[BasePremium]


class PastPremium(BaseModel):
    """The premiums of a base over the last two hours, a point every 10 s. Times are seconds since 1970.

    Each list of `premiums` has a value for each time; null: not known then. Where times are missing nothing was known.
    """

    base: str
    times: list[float]
    premiums: dict[str, list[float | None]]


def latest_routes(access: ApiAccess, latest: Latest, history: PremiumHistory) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api", tags=["latest"], dependencies=[Depends(access.public)])

    @router.get("/latest/{exchange}")
    async def list_latest(exchange: ExchangePath, offset: PageStart = 0, limit: PageSize = MOST_ROWS) -> LatestPage:
        """List the newest ticker, order book, trade, candle and instrument of each pair of an exchange."""
        now, pairs = wall(), latest.of(exchange)
        page = list(pairs.items())[offset : offset + limit]
        shown = [_pair(pair, records, now) for pair, records in page]
        return LatestPage(exchange=exchange, time=time_of(now), total=len(pairs), pairs=shown)

    @router.get("/latest/{exchange}/{pair}", responses=answers(HTTPStatus.NOT_FOUND))
    async def show_latest(exchange: ExchangePath, pair: PairText) -> LatestPair:
        """Show the newest records of a pair."""
        records = latest.of(exchange).get(pair)
        if records is None:
            raise Problem(
                HTTPStatus.NOT_FOUND,
                "not-found",
                f"nothing has come from {exchange} for {pair} since this server follows the feed",
                "GET /api/pairs shows whether the pair is collected",
            )
        return _pair(pair, records, wall())

    @router.get("/premium")
    async def show_premium() -> PremiumNow:
        """Show the newest price of each base on every exchange, in dollars, and the premium of the Korean ones."""
        now = wall()
        found = premiums(quotes(latest.all(), now))
        bases = [
            BasePremium(base=base, elsewhere_usd=found.elsewhere[base], prices=[_price(price) for price in prices])
            for base, prices in found.prices.items()
        ]
        return PremiumNow(time=time_of(now), krw_per_usd=found.won_per_dollar, bases=bases)

    @router.get("/premium/{base}")
    async def show_past_premium(
        base: Annotated[str, Path(max_length=64, description="A base, such as `BTC`.")],
    ) -> PastPremium:
        """Show the premiums of a base since the server started, of the last two hours at most."""
        points = history.of(base)
        exchanges = sorted({name for point in points for name in point.premiums})
        lines = {name: [point.premiums.get(name) for point in points] for name in exchanges}
        return PastPremium(base=base, times=[point.time / SECOND for point in points], premiums=lines)

    return router


def _pair(pair: str, records: dict[str, FeedRecord], now: int) -> LatestPair:
    return LatestPair(
        pair=pair,
        records={kind: msgspec.json.decode(record.text) for kind, record in records.items()},
        age_seconds={kind: _seconds(now - record.received_time) for kind, record in records.items()},
    )


def _price(price: Priced) -> Price:
    quote = price.quote
    return Price(
        exchange=quote.exchange,
        pair=quote.pair,
        mid=quote.mid,
        last=quote.last,
        usd=price.usd,
        premium=price.premium,
        age_seconds=_seconds(quote.age),
    )


def _seconds(age: int) -> float:
    return round(max(0, age) / SECOND, 3)
