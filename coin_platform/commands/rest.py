"""`coin pairs list` and `coin ticker`: print what exchanges answer over REST now."""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from coin_platform.commands.active_pairs import add, drop, list_active, reload
from coin_platform.commands.arguments import chosen_exchanges, chosen_names
from coin_platform.commands.deployment import open_deployment
from coin_platform.commands.output import JsonOption, print_json
from coin_platform.commands.quotes import TickerQuote, quotes
from coin_platform.errors import NoAnswer
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Instrument, InstrumentState, Pair, Ticker
from coin_platform.settings import load
from coin_platform.times import datetime_of

_NAMED_PAIRS = 20  # on one line
HEAD = ("exchange", "pair", "last", "change", "best bid", "best ask", "UTC")

pairs = typer.Typer(no_args_is_help=True, help="List, add and drop the pairs that are collected.")


@pairs.command("list", epilog="Example: coin pairs list upbit --quote KRW")
def list_pairs(
    exchange: Annotated[str | None, typer.Argument(help="for example upbit")] = None,
    quote: Annotated[str | None, typer.Option(help="only pairs with this quote currency, for example KRW")] = None,
    active: Annotated[bool, typer.Option("--active", help="only the pairs that are collected")] = False,
    everything: Annotated[bool, typer.Option("--all", help="also pairs that are listed and not traded now")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the pairs that can be traded on an exchange now, sorted. Without EXCHANGE: the pairs that are collected.

    A state other than `trading` stands behind its pair. Pairs that are listed and not traded are named on stderr.
    """
    if active or exchange is None:
        list_active([exchange] if exchange else None, as_json)
        return
    adapter = _exchange(exchange)
    try:
        with open_deployment() as deployment:
            listed = deployment.markets(adapter)
    except NoAnswer as error:
        print(f"{adapter.name}: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    markets = [market for market in listed if quote is None or market.pair.quote.upper() == quote.upper()]
    markets.sort(key=lambda market: market.pair)
    shown = [market for market in markets if everything or market.state.is_traded]
    if as_json:
        print_json(_listing(adapter, market) for market in shown)
        return
    for market in shown:
        print(market.pair if market.state is InstrumentState.TRADING else f"{market.pair}  {market.state}")
    others = [f"{market.pair} {market.state}" for market in markets if not (everything or market.state.is_traded)]
    if others:
        more = f" and {len(others) - _NAMED_PAIRS:,} more" if len(others) > _NAMED_PAIRS else ""
        print(f"not traded now: {', '.join(others[:_NAMED_PAIRS])}{more}; --all lists them", file=sys.stderr)


pairs.command(epilog="Example: coin pairs add upbit DOGE-KRW")(add)
pairs.command(epilog="Example: coin pairs drop upbit DOGE-KRW")(drop)
pairs.command(epilog="Example: coin pairs reload")(reload)


def ticker(
    words: Annotated[list[str], typer.Argument(metavar="[EXCHANGE] PAIR", help="BTC-KRW, or BTC for the usual quote")],
    everywhere: Annotated[bool, typer.Option("--all", help="ask all exchanges")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the ticker of a pair on one exchange, or with --all on every exchange.

    Exchanges that give no ticker are named in the table and on stderr.
    Exit code 0: at least one exchange gave a ticker. Exit code 1: none did.
    """
    settings = load()
    match words, everywhere:
        case [name, pair_text], False:
            adapters = [_exchange(name)]
        case [pair_text], True:
            adapters = chosen_exchanges(None, settings)
        case _:
            raise typer.BadParameter("write EXCHANGE PAIR, or PAIR --all")
    answers = asyncio.run(quotes([(adapter, _pair(pair_text, adapter)) for adapter in adapters], settings))
    if as_json:
        print_json(map(_describe, answers))
    else:
        print("\n".join(_lines(answers)))
    for quote in answers:
        if quote.failure:
            print(f"{quote.exchange.name}: {quote.failure}", file=sys.stderr)
    if not any(quote.ticker for quote in answers):
        raise typer.Exit(1)


def _listing(exchange: Exchange, market: Instrument) -> dict[str, Any]:
    """Return what an exchange lists of a pair, in the exchange's own text."""
    listed_time = None if market.listed_time is None else f"{datetime_of(market.listed_time):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "exchange": exchange.name,
        "pair": str(market.pair),
        "symbol": exchange.symbol(market.pair),
        "state": market.state,
        "exchange_state": market.exchange_state,
        "tick_size": market.tick_size,
        "size_step": market.size_step,
        "min_size": market.min_size,
        "min_value": market.min_value,
        "listed_time": listed_time,
    }


def _exchange(name: str) -> Exchange:
    [known_name] = chosen_names("EXCHANGE", [name.lower()], EXCHANGES)
    return EXCHANGES[known_name]


def _pair(text: str, exchange: Exchange) -> Pair:
    return Pair.parse(text if "-" in text else f"{text}-{exchange.quote}")


def _describe(quote: TickerQuote) -> dict[str, Any]:
    head = {"exchange": quote.exchange.name, "pair": str(quote.pair)}
    return head | ({"failure": quote.failure} if quote.ticker is None else _columns(quote.ticker))


def _lines(answers: Iterable[TickerQuote]) -> Iterator[str]:
    """Yield the lines of a table. A failure is as wide as its text, beyond the columns."""
    rows = [(quote.exchange.title, str(quote.pair), *_cells(quote)) for quote in answers]
    whole = [HEAD, *(row for row in rows if len(row) == len(HEAD))]
    widths = [max(len(row[at]) for row in ([HEAD, *rows] if at < 2 else whole)) for at in range(len(HEAD))]
    for row in [HEAD, *rows]:
        names = [text.ljust(width) for text, width in zip(row[:2], widths, strict=False)]
        rest = row[2:] if len(row) == 3 else [text.rjust(width) for text, width in zip(row, widths, strict=True)][2:]
        yield "  ".join([*names, *rest]).rstrip()


def _cells(quote: TickerQuote) -> tuple[str, ...]:
    """Return the cells after the pair: one for each column, or a single failure."""
    answer = quote.ticker
    if answer is None:
        return (quote.failure,)
    values = _columns(answer)
    rate = values["change_rate_day"] if values["change_rate_24h"] is None else values["change_rate_24h"]
    change = "" if rate is None else f"{100 * rate:+.2f} %"
    time = answer.exchange_time
    clock_text = "" if time is None else f"{datetime.fromtimestamp(time // SECOND, UTC):%H:%M:%S}"
    return _number(answer.last), change, _number(answer.best_bid), _number(answer.best_ask), clock_text


def _columns(event: Ticker) -> dict[str, Any]:
    from coin_platform.tables.rows import columns_of

    return columns_of(event)


def _number(text: str | None) -> str:
    return "" if text is None else f"{Decimal(text).normalize():,f}"
