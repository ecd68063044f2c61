"""Ask exchanges over REST for the markets they list and for tickers."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

import httpx

from coin_platform.clock import wall
from coin_platform.collect.outbound import Outbound
from coin_platform.collect.pacing import retry_after
from coin_platform.collect.rest import Rest
from coin_platform.errors import CoinPlatformError, DecodeError, NoAnswer
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.exchanges.base import TICKER_WITHOUT_PRICE, Exchange
from coin_platform.model import Channel, Event, Frame, Instrument, InstrumentState, Kind, Pair, Refused, Ticker
from coin_platform.settings import Mode, Settings

ANSWER_SECONDS = 15.0  # for everything one exchange is asked: a person waits for it
_NO_SUCH_PAIR = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)


class TickerQuote(NamedTuple):
    """What one exchange says of one pair: a ticker, or why there is none."""

    exchange: Exchange
    pair: Pair
    ticker: Ticker | None
    failure: str = ""


async def quotes(
    requests: Iterable[tuple[Exchange, Pair]], settings: Settings, transport: httpx.AsyncBaseTransport | None = None
) -> list[TickerQuote]:
    """Ask exchanges at the same time for the ticker of one pair each. A failure is part of that exchange's quote."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_quote(exchange, pair, settings, transport)) for exchange, pair in requests]
    return [task.result() for task in tasks]


async def listed_markets(
    exchange: Exchange, settings: Settings, transport: httpx.AsyncBaseTransport | None = None
) -> list[Instrument]:
    """Return what an exchange lists now, each pair once, also pairs that are not traded. Raises `NoAnswer`."""
    inquiry = _Inquiry(exchange, settings, transport)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await inquiry.listed_markets()
    except TimeoutError as error:
        raise _too_late() from error
    finally:
        await inquiry.rest.close()


async def _quote(
    exchange: Exchange, pair: Pair, settings: Settings, transport: httpx.AsyncBaseTransport | None
) -> TickerQuote:
    inquiry = _Inquiry(exchange, settings, transport)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return TickerQuote(exchange, pair, await inquiry.ticker(pair))
    except NoAnswer as error:
        return TickerQuote(exchange, pair, None, str(error))
    except TimeoutError:
        return TickerQuote(exchange, pair, None, str(_too_late()))
    finally:
        await inquiry.rest.close()


def _too_late() -> NoAnswer:
    return NoAnswer(f"no answer within {ANSWER_SECONDS:g} s")


class _Inquiry:
    """Asks one exchange, or its simulated twin, over REST."""

    def __init__(self, exchange: Exchange, settings: Settings, transport: httpx.AsyncBaseTransport | None) -> None:
        self.rest = Rest(exchange, transport, Outbound.of(settings))
        self._exchange = exchange
        self._host = f"127.0.0.1:{settings.simulator_port}" if settings.exchanges_mode is Mode.SIMULATED else None

    async def ticker(self, pair: Pair) -> Ticker:
        """Return the ticker of a pair. Raises `NoAnswer`."""
        try:
            return self._ticker(pair, await self._get(self._exchange.request_url(Channel.TICKER, pair)))
        except httpx.HTTPStatusError as error:
            refusal = NoAnswer(self._reason(pair, error.response))
            if error.response.status_code not in _NO_SUCH_PAIR:
                raise refusal from error
        except _Refusal as error:
            refusal = NoAnswer(str(error))
            if self.rest.banned_seconds:  # a ban holds for the list of markets, too
                raise refusal from error
        # Each exchange has its own words for a pair that it does not list. Its list of markets is the same everywhere.
        raise refusal if await self._may_list(pair) else NoAnswer(f"{pair} is not listed")

    async def listed_markets(self) -> list[Instrument]:
        """Return what the exchange lists, each pair once. Raises `NoAnswer`."""
        try:
            payload = await self._get(self._exchange.markets_url())
            return self._exchange.decode_list(self._frame(Channel.INSTRUMENT, payload))
        except httpx.HTTPStatusError as error:
            raise NoAnswer(_status(error.response)) from error
        except DecodeError as error:
            raise NoAnswer(f"not a list of markets: {error}") from error

    async def _get(self, url: str | None) -> bytes:
        """Return the body of an answer. Raises `NoAnswer`, or `httpx.HTTPStatusError` for an answer with an error."""
        if url is None:
            raise NoAnswer("this exchange has no REST address for it")
        try:
            return await self.rest.get(simulated_url(url, self._exchange.name, self._host) if self._host else url)
        except httpx.HTTPStatusError:
            raise
        except httpx.HTTPError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}".removesuffix(": ")) from error

    async def _may_list(self, pair: Pair) -> bool:
        """Return whether the exchange lists a pair. If its list is not known, assume so: then the refusal is shown."""
        try:
            markets = await self.listed_markets()
        except NoAnswer:
            return True
        return any(market.pair == pair and market.state is not InstrumentState.DELISTED for market in markets)

    def _ticker(self, pair: Pair, payload: bytes) -> Ticker:
        events = self._events(pair, payload)
        for event in events:
            if isinstance(event, Ticker) and event.pair == pair:
                return event
        self.rest.heed_events(events)
        reasons = [event.reason for event in events if isinstance(event, Refused)]
        if TICKER_WITHOUT_PRICE in events:
            reasons.append(TICKER_WITHOUT_PRICE.name)
        raise _Refusal(", ".join(reasons) or "no ticker in the answer")

    def _events(self, pair: Pair, payload: bytes) -> list[Event]:
        try:
            return self._exchange.decode(self._frame(Channel.TICKER, payload, pair))
        except DecodeError as error:
            raise NoAnswer(f"not as documented: {error}") from error

    def _frame(self, channel: Channel, payload: bytes, pair: Pair | None = None) -> Frame:
        """Return an answer as a frame. A list of markets is about no pair."""
        return Frame(
            exchange=self._exchange.name,
            channel=channel,
            connection="",
            number=1,
            received_time=wall(),
            payload=payload,
            kind=Kind.REST,
            pair=pair,
        )

    def _reason(self, pair: Pair, answer: httpx.Response) -> str:
        """Return the status of an answer with an error, and the exchange's own words if there are some."""
        try:
            reasons = [event.reason for event in self._events(pair, answer.content) if isinstance(event, Refused)]
        except NoAnswer:
            reasons = []  # for example a page of a proxy in between
        return ": ".join([_status(answer), *reasons])


class _Refusal(CoinPlatformError):
    """The exchange answered, but with a refusal."""


def _status(answer: httpx.Response) -> str:
    wait = retry_after(answer.headers.get("Retry-After"), answer.headers.get("Date"))
    hint = "" if wait is None else f", ask again in {wait:g} s"
    return f"HTTP {answer.status_code}{hint}"
