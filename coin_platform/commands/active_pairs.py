"""`coin pairs add|drop|reload` and `coin pairs list`: the active pairs, which running collectors follow."""

import asyncio
import getpass
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Annotated, Any, TypeAlias

import typer

from coin_platform.clock import wall
from coin_platform.cluster import Cluster, HealthState, open_cluster
from coin_platform.cluster.change import change_pairs, read_pairs
from coin_platform.cluster.pairs import ALL_CHANNELS, PairSet, editable
from coin_platform.commands.arguments import chosen_names
from coin_platform.commands.output import Column, JsonOption, print_json, print_rows
from coin_platform.commands.quotes import listed_markets
from coin_platform.errors import NoAnswer, UnknownName
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Pair
from coin_platform.selection import exchanges_of
from coin_platform.serve.markets import MarketList, refusal_text
from coin_platform.settings import Settings, load
from coin_platform.times import datetime_of

_COLUMNS = (
    Column("exchange"),
    Column("channel"),
    Column("pairs", write=lambda pairs: " ".join(pairs) or "none"),
    Column("version", is_number=True),
    Column("changed"),
    Column("by"),
)

ExchangeArgument: TypeAlias = Annotated[str, typer.Argument(help="for example upbit")]
PairsArgument: TypeAlias = Annotated[list[str], typer.Argument(metavar="PAIR...", help="BTC-KRW, or BTC for the quote")]
ChannelOption: TypeAlias = Annotated[
    str, typer.Option(help="only this channel, which gets pairs of its own; default: all that have none of their own")
]


def add(
    exchange: ExchangeArgument,
    pairs: PairsArgument,
    channel: ChannelOption = ALL_CHANNELS,
    unchecked: Annotated[bool, typer.Option(help="also pairs that the exchange does not list or trade yet")] = False,
    as_json: JsonOption = False,
) -> None:
    """Collect more pairs of an exchange. Running collectors follow within 2 s, without reconnecting."""
    adapter, settings = _exchange(exchange), load()
    wanted = _pairs(pairs, adapter)
    if not unchecked:
        _refuse_unlisted(adapter, wanted, settings)
    _change(adapter, settings, lambda pair_set: pair_set.added(channel, wanted), as_json)


def drop(
    exchange: ExchangeArgument,
    pairs: PairsArgument,
    channel: ChannelOption = ALL_CHANNELS,
    empty: Annotated[bool, typer.Option("--empty", help="also if no pair at all is left")] = False,
    as_json: JsonOption = False,
) -> None:
    """Collect these pairs no longer. Running collectors follow within 2 s, and all other pairs go on."""
    adapter, settings = _exchange(exchange), load()
    unwanted = _pairs(pairs, adapter)

    def dropped(pair_set: PairSet) -> PairSet:
        active = {pair for entry in pair_set.pairs.values() for pair in entry}
        for pair in unwanted:
            if pair not in active:
                names = ", ".join(map(str, sorted(active))) or "none"
                raise UnknownName(f"{adapter.name}: {pair} is not active; active are {names}")
        return pair_set.dropped(channel, unwanted, is_explicit=empty)

    _change(adapter, settings, dropped, as_json)


def reload(as_json: JsonOption = False) -> None:
    """Have all collectors read the active pairs again now, and put back what the store has lost."""
    settings = load()
    with closing(open_cluster(settings)) as cluster:
        stored = [exchange for exchange in EXCHANGES.values() if read_pairs(cluster, exchange.name) is not None]
        for exchange in stored:
            change_pairs(cluster, exchange, settings, lambda pair_set: pair_set, _who(), wall())
        _print(cluster, stored, settings, as_json)


def list_active(names: Sequence[str] | None, as_json: bool) -> None:
    """Print the active pairs of these exchanges; by default of all that are enabled."""
    settings = load()
    chosen = [_exchange(name) for name in names] if names else exchanges_of(None, settings)
    with closing(open_cluster(settings)) as cluster:
        _print(cluster, chosen, settings, as_json)


def _change(exchange: Exchange, settings: Settings, edit: Callable[[PairSet], PairSet], as_json: bool) -> None:
    with closing(open_cluster(settings)) as cluster:
        change_pairs(cluster, exchange, settings, edit, _who(), wall())
        _print(cluster, [exchange], settings, as_json)


def _print(cluster: Cluster, exchanges: Iterable[Exchange], settings: Settings, as_json: bool) -> None:
    rows = [row for exchange in exchanges for row in _rows(cluster, exchange, settings)]
    if as_json:
        print_json(rows)
    else:
        print_rows(_COLUMNS, rows, as_json=False, nothing="no active pairs are stored: the settings decide")
    health = cluster.health
    if health.state is HealthState.DEGRADED:
        typer.echo(f"degraded since {datetime_of(health.since):%Y-%m-%d %H:%M:%S} UTC: {health.reason}", err=True)


def _rows(cluster: Cluster, exchange: Exchange, settings: Settings) -> Iterator[dict[str, Any]]:
    stored = read_pairs(cluster, exchange.name)
    pair_set = editable(exchange, stored, settings)
    for channel, pairs in pair_set.pairs.items():
        yield {
            "exchange": exchange.name,
            "channel": channel,
            "pairs": [str(pair) for pair in pairs],
            "version": pair_set.version,
            "changed": f"{datetime_of(pair_set.time):%Y-%m-%d %H:%M:%S}" if stored else None,
            "by": pair_set.by if stored else "the settings",
        }


def _refuse_unlisted(exchange: Exchange, pairs: Sequence[Pair], settings: Settings) -> None:
    """Raise `UnknownName` for pairs that the exchange does not list or trade, and `NoAnswer` if it does not say."""
    try:
        listed = asyncio.run(listed_markets(exchange, settings))
    except NoAnswer as error:
        raise NoAnswer(f"{exchange.name} does not say which pairs it lists, {error}; or write --unchecked") from error
    not_traded = MarketList.of(listed, wall()).not_traded(pairs)
    if not_traded:
        raise UnknownName(f"{refusal_text(exchange.name, not_traded)}; see `coin pairs list {exchange.name}`")


def _exchange(name: str) -> Exchange:
    [known_name] = chosen_names("EXCHANGE", [name.lower()], EXCHANGES)
    return EXCHANGES[known_name]


def _pairs(texts: Sequence[str], exchange: Exchange) -> list[Pair]:
    return [Pair.parse(text if "-" in text else f"{text}-{exchange.quote}") for text in texts]


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
