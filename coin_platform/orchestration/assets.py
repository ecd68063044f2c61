"""The tables of each exchange as assets: raw records first, then what is made of them."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import dagster as dg

from coin_platform.exchanges.base import Exchange, Source
from coin_platform.model import Channel, Window
from coin_platform.orchestration.materialise import RULES, keep_dead, keep_gaps, keep_raw, keep_rows
from coin_platform.orchestration.partitions import window_of, windows
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables.gap_table import is_book

warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)  # 500 of them

Decorator: TypeAlias = Callable[[Callable[..., Any]], dg.AssetsDefinition]


def external(exchange: Exchange, settings: Settings) -> Iterator[dg.AssetSpec]:
    """Yield what lies before the tables: the exchange, and its part of each raw topic."""
    group = exchange.region.value
    yield dg.AssetSpec(["exchange", exchange.name], group_name=group, kinds={"websocket"}, description=exchange.ws_url)
    for source in sources(exchange, settings):
        description = f"Partition {source.partition} of {source.topic}: every frame, exactly as it came."
        yield dg.AssetSpec(
            ["topic", source.topic, exchange.name],
            deps=[["exchange", exchange.name]],
            group_name=group,
            kinds={"kafka"},
            description=description,
        )


def tables(exchange: Exchange, settings: Settings) -> Iterator[dg.AssetsDefinition]:
    """Yield the tables of one exchange: `raw_<channel>` and `<channel>` for each channel, `dead` and `gap`."""
    found = list(sources(exchange, settings))
    for source in found:
        yield _raw(source, settings)
        yield _curated(source, settings)
    yield _dead(exchange, found, settings)
    yield _gap(exchange, found, settings)


def key(exchange: Exchange, table: str) -> list[str]:
    """Return the asset key of a table."""
    return [exchange.region.value, exchange.name, table]


def _options(exchange: Exchange, table: str, rules: tuple[str, ...], settings: Settings) -> dict[str, Any]:
    parts, path = windows(settings), key(exchange, table)
    specs = [
        dg.AssetCheckSpec(rule, asset=path, partitions_def=parts, blocking=rule == "conservation") for rule in rules
    ]
    return {
        "key": path,
        "partitions_def": parts,
        "group_name": exchange.region.value,
        "kinds": {"polars", "parquet"},
        "check_specs": specs,
        "metadata": {"dagster/table_name": table},
    }


def _raw(source: Source, settings: Settings) -> dg.AssetsDefinition:
    table = f"raw_{source.channel}"
    options = _options(source.exchange, table, ("conservation",), settings)

    decorate: Decorator = dg.asset(deps=[["topic", source.topic, source.exchange.name]], **options)

    @decorate
    def raw(context: dg.AssetExecutionContext, topics: Topics, lake: LakeFolder) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The records of one window, exactly as they came."""
        window, store, broker = _window(context, settings), lake.open(), topics.open()
        try:
            return keep_raw(source, window, broker, store, settings)
        finally:
            broker.close()

    return raw


def _curated(source: Source, settings: Settings) -> dg.AssetsDefinition:
    exchange, channel = source.exchange, source.channel
    rules = ("conservation", "schema", *RULES.get(channel, ()), *["checkpoint"] * (channel is Channel.ORDERBOOK))
    options = _options(exchange, channel.value, rules, settings)

    decorate: Decorator = dg.asset(deps=[key(exchange, f"raw_{channel}")], **options)

    @decorate
    def curated(context: dg.AssetExecutionContext, topics: Topics, lake: LakeFolder) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The rows that the frames of one window give."""
        window, store, broker = _window(context, settings), lake.open(), topics.open()
        try:
            return keep_rows(source, window, broker, store)
        finally:
            broker.close()

    return curated


def _dead(exchange: Exchange, found: list[Source], settings: Settings) -> dg.AssetsDefinition:
    options = _options(exchange, "dead", (), settings)
    made_of = [table for source in found for table in (f"raw_{source.channel}", source.channel.value)]
    options["deps"] = [key(exchange, table) for table in made_of]

    decorate: Decorator = dg.asset(**options)

    @decorate
    def dead(context: dg.AssetExecutionContext, lake: LakeFolder) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The frames of one window that could not be decoded, with the reason."""
        return keep_dead(exchange, found, _window(context, settings), lake.open())

    return dead


def _gap(exchange: Exchange, found: list[Source], settings: Settings) -> dg.AssetsDefinition:
    # Planned for none, but a gap that nobody is told of is silent: the check makes it an alert.
    options = _options(exchange, "gap", ("no_gap",), settings)
    made_of = [f"raw_{source.channel}" for source in found]
    made_of += [source.channel.value for source in found if is_book(source)]
    options["deps"] = [key(exchange, table) for table in made_of]

    decorate: Decorator = dg.asset(**options)

    @decorate
    def gap(context: dg.AssetExecutionContext, lake: LakeFolder) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """What the feeds of one window lack, and why."""
        return keep_gaps(exchange, found, _window(context, settings), lake.open())

    return gap


def _window(context: dg.AssetExecutionContext, settings: Settings) -> Window:
    return window_of(context.partition_key, settings.window_length)
