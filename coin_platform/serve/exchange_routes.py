"""`/api/exchanges`: what the exchanges offer, and which markets they list now."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from coin_platform.errors import NoAnswer
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Proof, Region
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.markets import MarketLists
from coin_platform.serve.parameters import MOST_ROWS, ExchangePath, PageSize, PageStart, not_available, time_of
from coin_platform.serve.problems import answers


class ExchangeFacts(BaseModel):
    """What the platform can collect from an exchange."""

    name: str
    title: str
    region: Region
    quote: str
    streamed: list[Channel]
    polled: list[Channel]
    proof: Proof


class ListedMarket(BaseModel):
    """A pair that an exchange trades, and how the exchange spells it."""

    pair: str
    symbol: str


class Markets(BaseModel):
    """A page of the markets of an exchange, by pair. `total` is the number of all, `time` when they were listed."""

    exchange: str
    time: datetime
    total: int
    markets: list[ListedMarket]


def exchange_routes(access: ApiAccess, markets: MarketLists) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/exchanges", tags=["exchanges"], dependencies=[Depends(access.public)])

    @router.get("")
    async def list_exchanges() -> list[ExchangeFacts]:
        """List the exchanges and their channels."""
        return [
            ExchangeFacts(
                name=exchange.name,
                title=exchange.title,
                region=exchange.region,
                quote=exchange.quote,
                streamed=[channel for channel in Channel if channel in exchange.channels],
                polled=[channel for channel in Channel if channel in exchange.polled],
                proof=exchange.proof,
            )
            for exchange in EXCHANGES.values()
        ]

    @router.get("/{exchange}/markets", responses=answers(HTTPStatus.SERVICE_UNAVAILABLE))
    async def list_markets(
        exchange: ExchangePath,
        quote: Annotated[str | None, Query(max_length=64, description="Only pairs with this quote currency.")] = None,
        offset: PageStart = 0,
        limit: PageSize = MOST_ROWS,
    ) -> Markets:
        """List the markets in which an exchange trades now. The list is at most a minute old."""
        adapter = EXCHANGES[exchange]
        try:
            listed = await markets.of(adapter)
        except NoAnswer as error:
            raise not_available(f"{exchange}: {error}") from error
        pairs = [pair for pair in listed.pairs if quote is None or pair.quote.upper() == quote.upper()]
        page = pairs[offset : offset + limit]
        return Markets(
            exchange=exchange,
            time=time_of(listed.time),
            total=len(pairs),
            markets=[ListedMarket(pair=str(pair), symbol=adapter.symbol(pair)) for pair in page],
        )

    return router
