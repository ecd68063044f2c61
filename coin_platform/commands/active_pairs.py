"""`coin pairs add|drop|reload` and `coin pairs list`: the active pairs, which running collectors follow."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, TypeAlias

import typer

from coin_platform.cluster import HealthState
from coin_platform.cluster.pairs import ALL_CHANNELS, PairSet
from coin_platform.commands.arguments import chosen_names
from coin_platform.commands.deployment import open_deployment
from coin_platform.commands.deployment_contract import DeploymentAccess
from coin_platform.commands.output import Column, JsonOption, print_json, print_rows
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.foreign import one_line
from coin_platform.model import Pair
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
    adapter = _exchange(exchange)
    wanted = _pairs(pairs, adapter)
    with open_deployment() as deployment:
        notes = deployment.add(adapter, channel, wanted, is_unchecked=unchecked)
        _print(deployment, [adapter], as_json, notes)


def drop(
    exchange: ExchangeArgument,
    pairs: PairsArgument,
    channel: ChannelOption = ALL_CHANNELS,
    empty: Annotated[bool, typer.Option("--empty", help="also if no pair at all is left")] = False,
    as_json: JsonOption = False,
) -> None:
    """Collect these pairs no longer. Running collectors follow within 2 s, and all other pairs go on."""
    adapter = _exchange(exchange)
    unwanted = _pairs(pairs, adapter)
    with open_deployment() as deployment:
        notes = deployment.drop(adapter, channel, unwanted, is_explicit=empty)
        _print(deployment, [adapter], as_json, notes)


def reload(as_json: JsonOption = False) -> None:
    """Have all collectors read the active pairs again now, and put back what the store has lost."""
    with open_deployment() as deployment:
        _print(deployment, deployment.reload(), as_json)


def list_active(names: Sequence[str] | None, as_json: bool) -> None:
    """Print the active pairs of these exchanges; by default of all that are enabled."""
    chosen = [_exchange(name) for name in names or ()]
    with open_deployment() as deployment:
        _print(deployment, chosen or deployment.exchanges(), as_json)


def _print(
    deployment: DeploymentAccess, exchanges: Iterable[Exchange], as_json: bool, notes: Iterable[str] = ()
) -> None:
    """Print the pairs of exchanges, and on stderr the notes, and the store's state if that is not good."""
    rows = [row for exchange in exchanges for row in _rows(exchange, deployment.pairs(exchange))]
    if as_json:
        print_json(rows)
    else:
        print_rows(_COLUMNS, rows, as_json=False, nothing="no active pairs are stored: the settings decide")
    for note in notes:
        typer.echo(one_line(note), err=True)
    health = deployment.health
    if health.state is HealthState.DEGRADED:
        since = datetime_of(health.since)
        typer.echo(one_line(f"degraded since {since:%Y-%m-%d %H:%M:%S} UTC: {health.reason}"), err=True)


def _rows(exchange: Exchange, pair_set: PairSet) -> Iterator[dict[str, Any]]:
    is_stored = pair_set.version > 0
    for channel, pairs in pair_set.pairs.items():
        yield {
            "exchange": exchange.name,
            "channel": channel,
            "pairs": [str(pair) for pair in pairs],
            "version": pair_set.version,
            "changed": f"{datetime_of(pair_set.time):%Y-%m-%d %H:%M:%S}" if is_stored else None,
            "by": pair_set.by if is_stored else "the settings",
        }


def _exchange(name: str) -> Exchange:
    [known_name] = chosen_names("EXCHANGE", [name.lower()], EXCHANGES)
    return EXCHANGES[known_name]


def _pairs(texts: Sequence[str], exchange: Exchange) -> list[Pair]:
    return [Pair.parse(text if "-" in text else f"{text}-{exchange.quote}") for text in texts]
