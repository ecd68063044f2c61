"""The tables of many windows in one process: the same assets as in the UI, one after the other, in one run."""

import logging
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, cast

import dagster as dg

from coin_platform.broker import Broker
from coin_platform.errors import CoinPlatformError, SettingsError
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.lake import Lake
from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.orchestration.assets import tables
from coin_platform.orchestration.offsets import has_records, is_closed
from coin_platform.orchestration.partitions import key_of
from coin_platform.orchestration.resources import LakeFolder, Topics
from coin_platform.orchestration.run_process import note_process
from coin_platform.selection import sources
from coin_platform.settings import Settings

logger = logging.getLogger(__name__)

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # a line an event would hide all else


class Outcome(StrEnum):
    """What became of a table of a window, or of the whole window; the worst comes first."""

    FAILED = "failed"
    OPEN = "still open"
    NOTHING = "nothing logged"
    REPLACED = "new generation"
    WRITTEN = "written"
    UNCHANGED = "unchanged"


class Made(NamedTuple):
    """One table of one window of one exchange, or the whole window (`table` is empty)."""

    exchange: str
    table: str
    window: Window
    outcome: Outcome
    rows_before: int = 0
    rows: int = 0
    remark: str = ""  # why it failed
    failed_checks: tuple[str, ...] = ()
    is_broken: bool = False  # nothing may be made of it; a failed check that only warns leaves it usable


class Work(NamedTuple):
    """What to materialise: windows, oldest first, of these exchanges; all tables, or these and what they need."""

    exchanges: Sequence[Exchange]
    windows: Sequence[Window]
    tables: Sequence[str] = ()


def table_names(exchanges: Sequence[Exchange], settings: Settings) -> list[str]:
    """Return the tables that these exchanges have."""
    return list(dict.fromkeys(asset.key.path[-1] for kind in exchanges for asset in tables(kind, settings)))


def run(
    work: Work,
    settings: Settings,
    topics: Topics,
    lake: Lake,
    instance: dg.DagsterInstance,
    tell: Callable[[list[Made]], None],
) -> None:
    """Materialise window after window, and `tell` what became of each; what fails does not stop the rest.

    All is one run of `instance`, whose events are those of a run per window: materialisations and checks by partition.
    Raises `dg.DagsterExecutionInterruptedError` at a signal, between two tables or in the middle of one.
    """
    backfill = _Backfill(work, settings, topics, lake)
    failures: list[Made] = []
    tags = {"coin/from": key_of(work.windows[0]), "coin/to": key_of(work.windows[-1])}

    @dg.op(name="backfill")
    def op(context: dg.OpExecutionContext) -> None:
        note_process(context.instance, context.run)
        for window in work.windows:
            for kind in work.exchanges:
                made = list(backfill.window(context, kind, window))
                failures.extend(one for one in made if one.outcome is Outcome.FAILED)
                tell(made)
        if failures:
            raise dg.Failure(f"{len(failures)} tables failed, the first: {failures[0].remark}")

    @dg.job(name="lake_backfill", executor_def=dg.in_process_executor, tags=tags)
    def job() -> None:
        op()

    try:
        job.execute_in_process(instance=instance, run_config=QUIET)
    except dg.Failure:
        if not failures:  # those were told, one by one
            raise
    finally:
        backfill.close()


class _Backfill:
    """Materialises one window of one exchange at a time."""

    def __init__(self, work: Work, settings: Settings, topics: Topics, lake: Lake) -> None:
        self._grace: Microseconds = int(settings.grace.total_seconds() * SECOND)
        self._lake = lake
        self._broker: Broker = topics.open()
        self._resources = {"topics": topics, "lake": _opened(lake)}
        self._sources = {kind.name: list(sources(kind, settings)) for kind in work.exchanges}
        self._assets = {kind.name: _wanted(list(tables(kind, settings)), work.tables) for kind in work.exchanges}

    def close(self) -> None:
        """Let go of the broker."""
        self._broker.close()

    def window(self, context: dg.OpExecutionContext, exchange: Exchange, window: Window) -> Iterator[Made]:
        """Yield what became of the window's tables."""
        name = exchange.name
        try:
            missing = self._missing(self._sources[name], window)
        except CoinPlatformError as error:
            yield Made(name, "", window, Outcome.FAILED, remark=str(error))
            return
        if missing is not None:
            yield Made(name, "", window, missing)
            return
        broken: set[dg.AssetKey] = set()  # nothing is made of these
        for asset in self._assets[name]:
            if broken.isdisjoint(asset.dependency_keys):
                made = self._table(context, asset, name, window)
            else:
                remark = "what it is made of failed"
                made = Made(name, asset.key.path[-1], window, Outcome.FAILED, remark=remark, is_broken=True)
            if made.is_broken:
                broken.add(asset.key)
            yield made

    def _missing(self, found: list[Source], window: Window) -> Outcome | None:
        """Return why there is nothing to read, if so."""
        if not any(self._is_there(source, window) for source in found):
            return Outcome.NOTHING
        if not all(is_closed(self._broker, source, window, self._grace) for source in found):
            return Outcome.OPEN
        return None

    def _is_there(self, source: Source, window: Window) -> bool:
        if has_records(self._broker, source, window):
            return True
        return self._lake.provenance(f"raw_{source.channel}", source.exchange.name, window) is not None

    def _table(self, context: dg.OpExecutionContext, asset: dg.AssetsDefinition, name: str, window: Window) -> Made:
        table = asset.key.path[-1]
        try:
            before = self._lake.readable_provenance(table, name, window)
            with dg.build_asset_context(
                partition_key=key_of(window), resources=self._resources, instance=context.instance
            ) as inside:
                result = cast("dg.MaterializeResult[Any]", asset(inside))
            after = self._lake.provenance(table, name, window) or {}
        except Exception as error:  # whatever ends one table, as a run's executor has it
            if not isinstance(error, CoinPlatformError | dg.Failure):
                logger.exception("%s %s %s", name, key_of(window), table)
            return Made(name, table, window, Outcome.FAILED, remark=_sentence(error), is_broken=True)
        failed = _log(context, asset, result, key_of(window))
        names = tuple(check.check_name or "" for check in failed)
        rows, rows_before = int(after["rows"]), int(before["rows"]) if before else 0
        if blocking := [check for check in failed if check.check_name in _blocking(asset)]:
            remark = f"check {blocking[0].check_name} failed: {blocking[0].description}"
            is_broken = any(check.severity is dg.AssetCheckSeverity.ERROR for check in blocking)
            return Made(name, table, window, Outcome.FAILED, rows_before, rows, remark, names, is_broken)
        if before is None:
            outcome = Outcome.WRITTEN
        else:
            outcome = Outcome.UNCHANGED if before["generation"] == after["generation"] else Outcome.REPLACED
        return Made(name, table, window, outcome, rows_before, rows, failed_checks=names)


def _log(
    context: dg.OpExecutionContext,
    asset: dg.AssetsDefinition,
    result: "dg.MaterializeResult[Any]",
    partition: str,
) -> list[dg.AssetCheckResult]:
    """Log what a run of the asset would have logged; return the failed checks."""
    tags = {"dagster/data_version": result.data_version.value} if result.data_version else {}
    context.log_event(dg.AssetMaterialization(asset.key, partition=partition, metadata=result.metadata, tags=tags))
    for check in result.check_results or ():
        context.log_event(
            dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # taken like the others, though its type does not say so
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


def _blocking(asset: dg.AssetsDefinition) -> set[str]:
    return {spec.name for spec in asset.check_specs if spec.blocking}


def _wanted(assets: list[dg.AssetsDefinition], names: Sequence[str]) -> list[dg.AssetsDefinition]:
    """Return the tables of these names and those they are made of, in the order in which they can be made."""
    wanted = {asset.key for asset in assets if not names or asset.key.path[-1] in names}
    for asset in reversed(assets):
        if asset.key in wanted:
            wanted.update(asset.dependency_keys)
    return [asset for asset in assets if asset.key in wanted]


def _opened(lake: Lake) -> LakeFolder:
    """Return a resource that gives an open lake, so that it is opened once and not for each table."""

    class Opened(LakeFolder):
        def open(self) -> Lake:
            return lake

    return Opened()


def _sentence(error: Exception) -> str:
    text = error.description or "" if isinstance(error, dg.Failure) else str(error)
    known = isinstance(error, CoinPlatformError | dg.Failure)
    return text if known else f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


def open_instance(home: Path | None = None) -> dg.DagsterInstance | None:
    """Return the instance of DAGSTER_HOME, without it that of `home`; `None` when there is none.

    Raises `SettingsError` when DAGSTER_HOME is no place.
    """
    from dagster._core.errors import DagsterHomeNotSetError, DagsterInvariantViolationError

    try:
        return dg.DagsterInstance.get()
    except DagsterHomeNotSetError:
        is_there = home is not None and (home / "dagster.yaml").exists()
        return dg.DagsterInstance.from_config(str(home)) if is_there else None
    except DagsterInvariantViolationError as error:
        raise SettingsError(f"DAGSTER_HOME: {' '.join(str(error).split())}") from error
