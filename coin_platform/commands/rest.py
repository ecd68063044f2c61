"""What exchanges say over REST at this moment: the pairs that they list, and the ticker of one pair."""

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple

import httpx
import typer

from coin_platform.collect.outbound import Outbound
from coin_platform.collect.pacing import retry_after
from coin_platform.collect.rest import Rest
from coin_platform.commands.arguments import chosen, exchanges_named
from coin_platform.errors import CoinPlatformError, DecodeError, NoAnswer
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.exchanges.base import TICKER_WITHOUT_PRICE, Exchange
from coin_platform.model import SECOND, Channel, Event, Frame, Kind, Pair, Refused, Ticker
from coin_platform.settings import Mode, Settings, load

HEAD = ("exchange", "pair", "last", "change", "best bid", "best ask", "UTC")
PATIENCE = 15.0  # seconds for all that one exchange is asked
_NO_SUCH_PAIR = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
pairs = typer.Typer(no_args_is_help=True, help="The pairs that exchanges list.")


class Quote(NamedTuple):
    """What one exchange says of one pair: a ticker, or why there is none."""

    exchange: Exchange
    pair: Pair
    ticker: Ticker | None
    failure: str = ""


@pairs.command("list")
def list_pairs(
    exchange: Annotated[str, typer.Argument(help="for example upbit")],
    quote: Annotated[str | None, typer.Option(help="only pairs with this quote currency, for example KRW")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """List the pairs that can be traded on an exchange now, sorted."""
    [name] = chosen("EXCHANGE", [exchange.lower()], EXCHANGES)
    kind = EXCHANGES[name]
    try:
        found = asyncio.run(listed(kind, load()))
    except NoAnswer as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    for pair in sorted(pair for pair in found if quote is None or pair.quote.upper() == quote.upper()):
        body = {"exchange": name, "pair": str(pair), "symbol": kind.symbol(pair)}
        print(json.dumps(body, ensure_ascii=False) if as_json else pair)


def ticker(
    words: Annotated[list[str], typer.Argument(metavar="[EXCHANGE] PAIR", help="BTC-KRW, or BTC for the usual quote")],
    everywhere: Annotated[bool, typer.Option("--all", help="ask all exchanges")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Show the ticker that an exchange, or with --all each of them, gives of a pair now.

    Exit code 0 if at least one answered, 1 if none did; who did not is named in the table and on stderr.
    """
    settings = load()
    match words, everywhere:
        case [name, text], False:
            asked = [EXCHANGES[one] for one in chosen("EXCHANGE", [name.lower()], EXCHANGES)]
        case [text], True:
            asked = exchanges_named(None, settings)
        case _:
            raise typer.BadParameter("write EXCHANGE PAIR, or PAIR --all")
    found = asyncio.run(quotes([(kind, _pair(text, kind)) for kind in asked], settings))
    if as_json:
        for quote in found:
            print(json.dumps(_describe(quote), ensure_ascii=False))
    else:
        print("\n".join(_lines(found)))
    for quote in found:
        if quote.failure:
            print(f"{quote.exchange.name}: {quote.failure}", file=sys.stderr)
    if not any(quote.ticker for quote in found):
        raise typer.Exit(1)


def _pair(text: str, exchange: Exchange) -> Pair:
    return Pair.parse(text if "-" in text else f"{text}-{exchange.quote}")


async def quotes(
    asked: Iterable[tuple[Exchange, Pair]], settings: Settings, transport: httpx.AsyncBaseTransport | None = None
) -> list[Quote]:
    """Ask exchanges at the same time for the ticker of one pair each; what fails is in its own answer."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_quote(kind, pair, settings, transport)) for kind, pair in asked]
    return [task.result() for task in tasks]


async def listed(
    exchange: Exchange, settings: Settings, transport: httpx.AsyncBaseTransport | None = None
) -> list[Pair]:
    """Return the pairs that can be traded on an exchange now. Raises `NoAnswer`."""
    door = _Door(exchange, settings, transport)
    try:
        async with asyncio.timeout(PATIENCE):
            return await door.listed()
    except TimeoutError as error:
        raise _too_late() from error
    finally:
        await door.rest.close()


async def _quote(
    exchange: Exchange, pair: Pair, settings: Settings, transport: httpx.AsyncBaseTransport | None
) -> Quote:
    door = _Door(exchange, settings, transport)
    try:
        async with asyncio.timeout(PATIENCE):
            return Quote(exchange, pair, await door.ticker(pair))
    except NoAnswer as error:
        return Quote(exchange, pair, None, str(error))
    except TimeoutError:
        return Quote(exchange, pair, None, str(_too_late()))
    finally:
        await door.rest.close()


def _too_late() -> NoAnswer:
    return NoAnswer(f"no answer within {PATIENCE:g} s")


class _Door:
    """Where one exchange, or its simulated twin, answers over REST."""

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
            if self.rest.banned_seconds:  # the list of markets must not be asked for, either
                raise refusal from error
        # Every exchange words it in its own way that it has no such pair; its list of markets is plain.
        raise refusal if await self._lists(pair) else NoAnswer(f"{pair} is not listed")

    async def listed(self) -> list[Pair]:
        """Return all pairs that can be traded now. Raises `NoAnswer`."""
        try:
            return self._exchange.decode_markets(await self._get(self._exchange.markets_url()))
        except httpx.HTTPStatusError as error:
            raise NoAnswer(_status(error.response)) from error
        except DecodeError as error:
            raise NoAnswer(f"not a list of markets: {error}") from error

    async def _get(self, url: str | None) -> bytes:
        """Return an answer's body. Raises `NoAnswer`, or `httpx.HTTPStatusError`: that has an answer to look at."""
        if url is None:
            raise NoAnswer("it has no address for that")
        try:
            return await self.rest.get(simulated_url(url, self._exchange.name, self._host) if self._host else url)
        except httpx.HTTPStatusError:
            raise
        except httpx.HTTPError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}".removesuffix(": ")) from error

    async def _lists(self, pair: Pair) -> bool:
        try:
            found = await self.listed()
        except NoAnswer:
            found = []
        return pair in found or not found  # not known: then the refusal's own words are better than a guess

    def _ticker(self, pair: Pair, payload: bytes) -> Ticker:
        events = self._events(pair, payload)
        for event in events:
            if isinstance(event, Ticker) and event.pair == pair:
                return event
        self.rest.heed_events(events)
        refused = [event.reason for event in events if isinstance(event, Refused)]
        if TICKER_WITHOUT_PRICE in events:
            refused.append(TICKER_WITHOUT_PRICE.name)
        raise _Refusal(", ".join(refused) or "no ticker in the answer")

    def _events(self, pair: Pair, payload: bytes) -> list[Event]:
        frame = Frame(
            exchange=self._exchange.name,
            channel=Channel.TICKER,
            connection="",
            number=1,
            received_time=time.time_ns() // 1000,
            payload=payload,
            kind=Kind.REST,
            pair=pair,
        )
        try:
            return list(self._exchange.decode(frame))
        except DecodeError as error:
            raise NoAnswer(f"not as documented: {error}") from error

    def _reason(self, pair: Pair, answer: httpx.Response) -> str:
        """Return what an answer that is no success says: its status, and the exchange's own words if it has some."""
        try:
            words = [event.reason for event in self._events(pair, answer.content) if isinstance(event, Refused)]
        except NoAnswer:
            words = []  # a page of some proxy in between
        return ": ".join([_status(answer), *words])


class _Refusal(CoinPlatformError):
    """The exchange answered, but with a refusal."""


def _status(answer: httpx.Response) -> str:
    wait = retry_after(answer.headers.get("Retry-After"), answer.headers.get("Date"))
    told = "" if wait is None else f", ask again in {wait:g} s"
    return f"HTTP {answer.status_code}{told}"


def _describe(quote: Quote) -> dict[str, Any]:
    head = {"exchange": quote.exchange.name, "pair": str(quote.pair)}
    return head | ({"failure": quote.failure} if quote.ticker is None else _columns(quote.ticker))


def _lines(found: Iterable[Quote]) -> Iterator[str]:
    """Yield a table; a failure takes what room it needs."""
    rows = [(quote.exchange.title, str(quote.pair), *_cells(quote)) for quote in found]
    whole = [HEAD, *(row for row in rows if len(row) == len(HEAD))]
    widths = [max(len(row[at]) for row in ([HEAD, *rows] if at < 2 else whole)) for at in range(len(HEAD))]
    for row in [HEAD, *rows]:
        names = [text.ljust(width) for text, width in zip(row[:2], widths, strict=False)]
        rest = row[2:] if len(row) == 3 else [text.rjust(width) for text, width in zip(row, widths, strict=True)][2:]
        yield "  ".join([*names, *rest]).rstrip()


def _cells(quote: Quote) -> tuple[str, ...]:
    """Return what follows the pair: a value for each column, or one failure."""
    said = quote.ticker
    if said is None:
        return (quote.failure,)
    values = _columns(said)
    rate = values["change_rate_day"] if values["change_rate_24h"] is None else values["change_rate_24h"]
    change = "" if rate is None else f"{100 * rate:+.2f} %"
    at = said.exchange_time
    moment = "" if at is None else f"{datetime.fromtimestamp(at // SECOND, UTC):%H:%M:%S}"
    return _number(said.last), change, _number(said.best_bid), _number(said.best_ask), moment


def _columns(event: Ticker) -> dict[str, Any]:
    from coin_platform.tables.rows import columns_of

    return columns_of(event)


def _number(text: str | None) -> str:
    return "" if text is None else f"{Decimal(text).normalize():,f}"
