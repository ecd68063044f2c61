"""The tables of each exchange as assets, and the job that makes all tables of one window of a region."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from coin_platform.exchanges.base import Exchange, Source
from coin_platform.model import Channel, Region, Window
from coin_platform.orchestration.materialise import RULES, materialise_dead, materialise_raw, materialise_rows
from coin_platform.orchestration.materialise_gaps import materialise_gaps
from coin_platform.orchestration.partitions import has_come, window_of, windows
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.selection import exchanges_of, sources
from coin_platform.settings import Settings
from coin_platform.tables.gap_table import is_book

# Dagster would print one warning for each of about 500 checks.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)

Decorator: TypeAlias = Callable[[Callable[..., Any]], dg.AssetsDefinition]

CHECK_DESCRIPTIONS = {
    "conservation": "Each record of the window is accounted for. If the check fails, later tables are not made.",
    "schema": "The columns have the documented names and types, and each row names its record.",
    "crossed_book": "The best bid is below the best ask in each row.",
    "checkpoint": "Each book equals the copy that the collector stored at the same moment.",
    "one_row_a_trade": "No trade has two rows.",
    "ohlc": "Open and close are between low and high, no volume is negative, and each minute of a pair has one row.",
    "listed": "Each wanted pair is listed and traded. A pair that is not listed is an error, a halted one a warning.",
    "no_gap": "No feed lacks data, except for stretches that were filled later or stopped on purpose.",
}
_OWN_RULES = {Channel.ORDERBOOK: ("checkpoint",), Channel.INSTRUMENT: ("listed",)}  # of what the rows do not tell
TIME_LIMIT_SECONDS = 6 * 3600  # of one window's run: a frozen run would hold up all later windows of its region


def external(exchange: Exchange, settings: Settings) -> Iterator[dg.AssetSpec]:
    """Yield the assets before the tables: the exchange, and its partition of each raw topic."""
    group = exchange.region.value
    yield dg.AssetSpec(exchange_key(exchange), group_name=group, kinds={"websocket"}, description=exchange.ws_url)
    for source in sources(exchange, settings):
        description = f"Partition {source.partition} of {source.topic}: every frame, exactly as it arrived."
        yield dg.AssetSpec(
            topic_key(source),
            deps=[exchange_key(exchange)],
            group_name=group,
            kinds={"kafka"},
            description=description,
        )


def tables(exchange: Exchange, settings: Settings) -> Iterator[dg.AssetsDefinition]:
    """Yield the tables of one exchange: `raw_<channel>` and `<channel>` for each channel, `dead` and `gap`."""
    feeds = list(sources(exchange, settings))
    for feed in feeds:
        yield _raw(feed, settings)
        yield _curated(feed, settings)
    yield _dead(exchange, feeds, settings)
    yield _gap(exchange, feeds, settings)


def table_names(exchange: Exchange, settings: Settings) -> list[str]:
    """Return the names of the tables of one exchange, in the order of `tables`."""
    channels = [source.channel for source in sources(exchange, settings)]
    return [*(name for channel in channels for name in (f"raw_{channel}", channel.value)), "dead", "gap"]


def key(exchange: Exchange, table: str) -> list[str]:
    """Return the asset key of a table."""
    return [exchange.region.value, exchange.name, table]


def exchange_key(exchange: Exchange) -> list[str]:
    """Return the key of the asset that stands for an exchange."""
    return ["exchange", exchange.name]


def topic_key(source: Source) -> list[str]:
    """Return the key of the asset that stands for one exchange's partition of a raw topic."""
    return ["topic", source.topic, source.exchange.name]


def external_keys(exchanges: Iterable[Exchange], settings: Settings) -> list[list[str]]:
    """Return the keys of all assets before the tables."""
    return [
        key for exchange in exchanges for key in (exchange_key(exchange), *map(topic_key, sources(exchange, settings)))
    ]


def tables_job(region: Region, settings: Settings) -> UnresolvedAssetJobDefinition:
    """Return the job that makes all tables of one window of a region."""
    exchanges = exchanges_of(region, settings)
    keys = [key(exchange, table) for exchange in exchanges for table in table_names(exchange, settings)]
    tags = {"dagster/max_runtime": str(TIME_LIMIT_SECONDS)}
    return dg.define_asset_job(f"tables_{region}", selection=dg.AssetSelection.assets(*keys), tags=tags)


def _raw(source: Source, settings: Settings) -> dg.AssetsDefinition:
    options = _options(source.exchange, f"raw_{source.channel}", ("conservation",), settings)

    decorate: Decorator = dg.asset(deps=[topic_key(source)], **options)

    @decorate
    def raw(context: dg.AssetExecutionContext, topics: Topics, lake: LakeFolder) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The records of one window, exactly as they arrived."""
        with topics.open() as broker:
            return materialise_raw(source, _window(context, settings), broker, lake.open(), settings)

    return raw


def _curated(source: Source, settings: Settings) -> dg.AssetsDefinition:
    exchange, channel = source.exchange, source.channel
    rules = ("conservation", "schema", *RULES.get(channel, ()), *_OWN_RULES.get(channel, ()))
    options = _options(exchange, channel.value, rules, settings)

    decorate: Decorator = dg.asset(deps=[key(exchange, f"raw_{channel}")], **options)

    @decorate
    def curated(context: dg.AssetExecutionContext, topics: Topics, lake: LakeFolder) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The rows that are decoded from the frames of one window."""
        with topics.open() as broker:
            return materialise_rows(source, _window(context, settings), broker, lake.open())

    return curated


def _dead(exchange: Exchange, feeds: Sequence[Source], settings: Settings) -> dg.AssetsDefinition:
    options = _options(exchange, "dead", (), settings)
    upstream = [table for feed in feeds for table in (f"raw_{feed.channel}", feed.channel.value)]

    decorate: Decorator = dg.asset(deps=[key(exchange, table) for table in upstream], **options)

    @decorate
    def dead(context: dg.AssetExecutionContext, lake: LakeFolder) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The frames of one window that could not be decoded, each with the error."""
        return materialise_dead(exchange, feeds, _window(context, settings), lake.open())

    return dead


def _gap(exchange: Exchange, feeds: Sequence[Source], settings: Settings) -> dg.AssetsDefinition:
    # The check no_gap makes each gap an alert: nobody would see a gap that only stands in a table.
    options = _options(exchange, "gap", ("no_gap",), settings)
    upstream = [f"raw_{feed.channel}" for feed in feeds]
    upstream += [feed.channel.value for feed in feeds if is_book(feed)]

    decorate: Decorator = dg.asset(deps=[key(exchange, table) for table in upstream], **options)

    @decorate
    def gap(context: dg.AssetExecutionContext, lake: LakeFolder) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The stretches of one window for which the feeds lack data, each with its cause."""
        return materialise_gaps(exchange, feeds, _window(context, settings), lake.open())

    return gap


def _options(exchange: Exchange, table: str, rules: tuple[str, ...], settings: Settings) -> dict[str, Any]:
    """Return what the assets of all tables have in common."""
    partitions, path = windows(settings), key(exchange, table)
    checks = [
        dg.AssetCheckSpec(
            rule,
            asset=path,
            partitions_def=partitions,
            blocking=rule == "conservation",
            description=CHECK_DESCRIPTIONS[rule],
        )
        for rule in rules
    ]
    return {
        "key": path,
        "partitions_def": partitions,
        "group_name": exchange.region.value,
        "kinds": {"polars", "parquet"},
        "check_specs": checks,
        "metadata": {"dagster/table_name": table},
    }


def _window(context: dg.AssetExecutionContext, settings: Settings) -> Window:
    window = window_of(context.partition_key, settings.window_length)
    has_come(window.stop)
    return window
