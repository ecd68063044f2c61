"""Makes the tables of many windows in one process: the same assets as in the UI, one after the other, in one run."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, cast

import dagster as dg

from coin_platform.broker import Broker
from coin_platform.errors import CoinPlatformError
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Lake
from coin_platform.model import Microseconds, Window
from coin_platform.orchestration import assets
from coin_platform.orchestration.log_clock import LogClock, settled_time
from coin_platform.orchestration.offsets import has_records, is_closed
from coin_platform.orchestration.partitions import grace_length, has_come, key_of
from coin_platform.orchestration.raw_facts import raw_table_name
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.run_process import note_process
from coin_platform.selection import sources
from coin_platform.settings import Settings

logger = logging.getLogger(__name__)

# Dagster prints a line for each event, which would hide the report.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class TableOutcome(StrEnum):
    """What became of a table of a window, or of the whole window. The worst outcome comes first."""

    FAILED = "failed"
    OPEN = "still open"
    NOTHING = "nothing logged"
    REPLACED = "new generation"
    WRITTEN = "written"
    UNCHANGED = "unchanged"


class TableReport(NamedTuple):
    """What became of one table of one window of one exchange, or of the whole window (`table` is empty)."""

    exchange: str
    table: str
    window: Window
    outcome: TableOutcome
    rows_before: int = 0
    rows: int = 0
    remark: str = ""  # why it failed
    failed_checks: tuple[str, ...] = ()
    is_broken: bool = False  # no other table may be made of it; a failed check that only warns leaves it usable


class BackfillPlan(NamedTuple):
    """What to materialise: exchanges, windows (oldest first), and tables.

    Without `tables` all tables are made. With `tables` also the tables that these are made of.
    """

    exchanges: Sequence[Exchange]
    windows: Sequence[Window]
    tables: Sequence[str] = ()


def table_names(exchanges: Sequence[Exchange], settings: Settings) -> list[str]:
    """Return the names of the tables that these exchanges have."""
    return list(dict.fromkeys(name for exchange in exchanges for name in assets.table_names(exchange, settings)))


def run_backfill(
    plan: BackfillPlan,
    settings: Settings,
    topics: Topics,
    lake: Lake,
    instance: dg.DagsterInstance,
    report: Callable[[list[TableReport]], None],
) -> None:
    """Materialise one window after the other. Call `report` after each window of an exchange.

    A failure does not stop the rest. All is one run of `instance`. Its events are those of a run for each window:
    materialisations and checks by partition.
    Raises `dg.DagsterExecutionInterruptedError` at a signal.
    """
    failures: list[TableReport] = []
    tags = {"coin/from": key_of(plan.windows[0]), "coin/to": key_of(plan.windows[-1])}

    @dg.op(name="backfill")
    def op(context: dg.OpExecutionContext) -> None:
        note_process(context.instance, context.run)
        for window in plan.windows:
            for exchange in plan.exchanges:
                tables = list(backfill.window(context, exchange, window))
                failures.extend(table for table in tables if table.outcome is TableOutcome.FAILED)
                report(tables)
        if failures:
            raise dg.Failure(f"{len(failures)} tables failed, the first: {failures[0].remark}")

    @dg.job(name="lake_backfill", executor_def=dg.in_process_executor, tags=tags)
    def job() -> None:
        op()

    with topics.open() as broker:
        backfill = _Backfill(plan, settings, topics, lake, broker)
        try:
            job.execute_in_process(instance=instance, run_config=QUIET)
        except dg.Failure:
            if not failures:  # `report` was called with all failures of tables
                raise


class _Backfill:
    """Materialises one window of one exchange at a time."""

    def __init__(self, plan: BackfillPlan, settings: Settings, topics: Topics, lake: Lake, broker: Broker) -> None:
        self._grace = grace_length(settings)
        self._lake, self._broker = lake, broker
        self._resources = {"topics": topics, "lake": _opened(lake)}
        self._sources = {exchange.name: list(sources(exchange, settings)) for exchange in plan.exchanges}
        self._clocks = {name: LogClock() for name in self._sources}
        for name in self._sources:
            with contextlib.suppress(CoinPlatformError):  # the window that needs this log is reported as failed
                self._log_time(name)  # the next look knows which records came since
        self._assets = {
            exchange.name: _with_upstream(list(assets.tables(exchange, settings)), plan.tables)
            for exchange in plan.exchanges
        }

    def window(self, context: dg.OpExecutionContext, exchange: Exchange, window: Window) -> Iterator[TableReport]:
        """Yield what became of the window's tables."""
        name = exchange.name
        try:
            obstacle = self._obstacle(name, window)
        except CoinPlatformError as error:
            yield TableReport(name, "", window, TableOutcome.FAILED, remark=str(error))
            return
        if obstacle is not None:
            yield TableReport(name, "", window, obstacle)
            return
        broken: set[dg.AssetKey] = set()
        for asset in self._assets[name]:
            if broken.isdisjoint(asset.dependency_keys):
                table = self._table(context, asset, name, window)
            else:
                remark = "a table that it is made of failed"
                table = TableReport(
                    name, asset.key.path[-1], window, TableOutcome.FAILED, remark=remark, is_broken=True
                )
            if table.is_broken:
                broken.add(asset.key)
            yield table

    def _obstacle(self, name: str, window: Window) -> TableOutcome | None:
        """Return why the window cannot be made, `None` if it can be."""
        feeds = self._sources[name]
        is_logged = any(has_records(self._broker, feed, window) for feed in feeds)
        if not is_logged and all(self._lake.provenance(raw_table_name(feed), name, window) is None for feed in feeds):
            return TableOutcome.NOTHING
        if not all(is_closed(self._broker, feed, window, self._grace, lambda: self._log_time(name)) for feed in feeds):
            return TableOutcome.OPEN
        return None

    def _log_time(self, name: str) -> Microseconds:
        """Return the time by the clock that stamps the records of an exchange: ours may be ahead."""
        places = [(source.topic, source.partition) for source in self._sources[name]]
        time = settled_time(self._broker, places, self._clocks[name])
        has_come(time)
        return time

    def _table(
        self, context: dg.OpExecutionContext, asset: dg.AssetsDefinition, name: str, window: Window
    ) -> TableReport:
        table = asset.key.path[-1]
        try:
            before = self._lake.readable_provenance(table, name, window)
            with dg.build_asset_context(
                partition_key=key_of(window), resources=self._resources, instance=context.instance
            ) as asset_context:
                result = cast("dg.MaterializeResult[Any]", asset(asset_context))
            after = self._lake.provenance(table, name, window) or {}
        except Exception as error:  # as Dagster's executor does: any error fails one table and no other one
            if not isinstance(error, CoinPlatformError | dg.Failure):
                logger.exception("%s %s %s", name, key_of(window), table)
            return TableReport(name, table, window, TableOutcome.FAILED, remark=_error_text(error), is_broken=True)
        failed = _log_events(context, asset, result, key_of(window))
        check_names = tuple(check.check_name or "" for check in failed)
        rows, rows_before = int(after["rows"]), int(before["rows"]) if before else 0
        if blocking := [check for check in failed if check.check_name in _blocking_checks(asset)]:
            remark = f"check {blocking[0].check_name} failed: {blocking[0].description}"
            is_broken = any(check.severity is dg.AssetCheckSeverity.ERROR for check in blocking)
            return TableReport(
                name, table, window, TableOutcome.FAILED, rows_before, rows, remark, check_names, is_broken
            )
        if before is None:
            outcome = TableOutcome.WRITTEN
        elif before["generation"] == after["generation"]:
            outcome = TableOutcome.UNCHANGED
        else:
            outcome = TableOutcome.REPLACED
        return TableReport(name, table, window, outcome, rows_before, rows, failed_checks=check_names)


def _log_events(
    context: dg.OpExecutionContext,
    asset: dg.AssetsDefinition,
    result: "dg.MaterializeResult[Any]",
    partition: str,
) -> list[dg.AssetCheckResult]:
    """Log the events that a run of the asset would have logged; return the failed checks."""
    tags = {"dagster/data_version": result.data_version.value} if result.data_version else {}
    context.log_event(dg.AssetMaterialization(asset.key, partition=partition, metadata=result.metadata, tags=tags))
    for check in result.check_results or ():
        context.log_event(
            dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # it is accepted, though the type does not say so
                asset_key=asset.key,
                check_name=check.check_name or "",
                passed=check.passed,
                metadata=check.metadata,
                severity=check.severity,
                description=check.description,
                partition=partition,
            )
        )
    return [check for check in result.check_results or () if not check.passed]


def _blocking_checks(asset: dg.AssetsDefinition) -> set[str]:
    return {spec.name for spec in asset.check_specs if spec.blocking}


def _with_upstream(tables: list[dg.AssetsDefinition], names: Sequence[str]) -> list[dg.AssetsDefinition]:
    """Return the tables of these names and the tables that they are made of, in the order in which they are made."""
    keys = {table.key for table in tables if not names or table.key.path[-1] in names}
    for table in reversed(tables):
        if table.key in keys:
            keys.update(table.dependency_keys)
    return [table for table in tables if table.key in keys]


def _opened(lake: Lake) -> LakeFolder:
    """Return a resource that gives an open lake, so that not every table opens it."""

    class OpenedLake(LakeFolder):
        def open(self) -> Lake:
            return lake

    return OpenedLake()


def _error_text(error: Exception) -> str:
    text = error.description or "" if isinstance(error, dg.Failure) else str(error)
    if isinstance(error, CoinPlatformError | dg.Failure):
        return text
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
