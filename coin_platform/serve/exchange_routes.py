"""`/api/exchanges`: what the exchanges offer, and which markets they list now."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from coin_platform.errors import NoAnswer
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Instrument, InstrumentState, Proof, Region
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.markets import MarketLists
from coin_platform.serve.parameters import MOST_ROWS, ExchangePath, PageSize, PageStart, not_available, time_of
from coin_platform.serve.problems import answers

_TRADED = [state for state in InstrumentState if state.is_traded]


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
    """What an exchange lists of a pair. Sizes and values are the exchange's own text; null: it does not tell.

    `exchange_state` is the exchange's own word for the state. `listed_time`: when trading began, or will begin.
    """

    pair: str
    symbol: str
    state: InstrumentState
    exchange_state: str | None
    tick_size: str | None = Field(description="The smallest step of a price, in quote currency.")
    size_step: str | None = Field(description="The smallest step of an order's size, in base currency.")
    min_size: str | None = Field(description="The smallest size of an order, in base currency.")
    min_value: str | None = Field(description="The smallest value of an order, in quote currency.")
    listed_time: datetime | None


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
        state: Annotated[
            list[InstrumentState] | None,
            Query(max_length=len(InstrumentState), description="Only these states; default: trading and limited."),
        ] = None,
        offset: PageStart = 0,
        limit: PageSize = MOST_ROWS,
    ) -> Markets:
        """List the markets in which an exchange trades now, or those in other states. The list is at most a minute old.

        What an exchange does not list is not here: no market has state `delisted` unless the exchange says so.
        """
        adapter = EXCHANGES[exchange]
        try:
            listed = await markets.of(adapter)
        except NoAnswer as error:
            raise not_available(f"{exchange}: {error}") from error
        states = state or _TRADED
        found = [
            market
            for pair, market in listed.markets.items()
            if market.state in states and (quote is None or pair.quote.upper() == quote.upper())
        ]
        return Markets(
            exchange=exchange,
            time=time_of(listed.time),
            total=len(found),
            markets=[_market(adapter, market) for market in found[offset : offset + limit]],
        )

    return router


def _market(exchange: Exchange, market: Instrument) -> ListedMarket:
    return ListedMarket(
        pair=str(market.pair),
        symbol=exchange.symbol(market.pair),
        state=market.state,
        exchange_state=market.exchange_state,
        tick_size=market.tick_size,
        size_step=market.size_step,
        min_size=market.min_size,
        min_value=market.min_value,
        listed_time=None if market.listed_time is None else time_of(market.listed_time),
    )
