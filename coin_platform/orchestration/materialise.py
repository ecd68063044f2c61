"""What a table of one window is made of: reads it, commits it, and says what was found."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import dagster as dg
import polars as pl

from coin_platform.broker import Broker
from coin_platform.errors import Conflict, Damaged, RetentionLoss
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.foreign import markdown
from coin_platform.lake import Commit, Lake
from coin_platform.lake.lake import OWN_FACTS, RAW_PREFIX
from coin_platform.lake.objects import StoredWindow
from coin_platform.model import SECOND, Cause, Channel, Microseconds, Window
from coin_platform.orchestration.offsets import has_lead, lead, raw_facts, raw_window
from coin_platform.orchestration.plots import pictures
from coin_platform.orchestration.version import code_version
from coin_platform.records import Record
from coin_platform.settings import Settings
from coin_platform.tables import quality, schema
from coin_platform.tables.dataframes import Batch, batch, dead_facts, dead_of, dead_table, last_numbers, records
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.frame_numbers import LastNumber
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gap_table import Gaps, faults_of, is_book, listing, seconds, state_of
from coin_platform.tables.known_trades import TRADE_MEMORY

logger = logging.getLogger(__name__)

Rule: TypeAlias = Callable[[pl.DataFrame], quality.Finding]

LATEST: Microseconds = 24 * 3600 * SECOND  # that a frame may wait for the broker and still find its book's begin
RULES: dict[Channel, dict[str, Rule]] = {  # what must hold for one table only
    Channel.ORDERBOOK: {"crossed_book": quality.crossed},
    Channel.TRADE: {"one_row_a_trade": quality.one_row_a_trade},
    Channel.CANDLE: {"ohlc": quality.ohlc},
}


def keep_raw(source: Source, window: Window, broker: Broker, lake: Lake, settings: Settings) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Copy the records of one window into the lake."""
    started = time.perf_counter()
    name, table = source.exchange.name, f"raw_{source.channel}"
    generation = lake.generation(table, name, window)
    grace = int(settings.grace.total_seconds() * 1e6)
    rows, (start, stop, trimmed, new_log), log, kept, kept_from = raw_window(broker, lake, source, window, grace)
    place = {"topic": source.topic, "partition": source.partition, "start_offset": start, "stop_offset": stop}
    place |= {"log": log} if log else {}
    place |= {"trimmed": trimmed} if trimmed is not None else {}
    place |= {"new_log": list(new_log)} if new_log else {}
    if kept is not None:
        facts = {fact: value for fact, value in kept.items() if fact not in OWN_FACTS}
    else:
        numbers = last_numbers(rows, _numbers_before(lake, source, window))
        facts = {**place, "frames": _frames(rows), "numbers": numbers}
    former_stop = new_log.stop_offset if new_log else None
    finding = quality.tiling(rows["offset"], start, stop, trimmed, former_stop=former_stop, kept_from=kept_from)
    commit = lake.commit(table, name, window, rows, facts, generation=generation)
    return _result(commit, rows, [finding], {**place, "seconds": time.perf_counter() - started})


def keep_rows(source: Source, window: Window, broker: Broker, lake: Lake) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Turn the raw table of one window into rows."""
    started = time.perf_counter()
    making = _Making(lake, source.channel.value, source.exchange, window)
    raw, provenance = making.load(f"raw_{source.channel}")
    start = int(provenance["start_offset"])
    result = _batch(source, window, broker, lake, raw, start)
    _refuse_worse(source, window, broker, lake, result, start)
    found = [
        quality.conservation(result.rows, result.counts),
        quality.columns(result.rows, schema.CURATED[source.channel]),
        *(rule(result.rows) for rule in RULES.get(source.channel, {}).values()),
    ]
    faults = result.transform.faults
    if source.channel is Channel.ORDERBOOK:
        missed = [fault for _, fault in faults if fault.cause is Cause.CHECKPOINT]
        found.append(quality.arrived([(str(fault.pair), fault.reason) for fault in missed]))
    facts = {name: provenance[name] for name in ("topic", "partition", "start_offset", "stop_offset")}
    kept = {
        **facts,
        **result.counts,
        "faults_found": [(offset, str(pair), *rest) for offset, (pair, *rest) in faults],
        "dead_found": dead_facts(result.transform.dead),
    }
    commit = making.commit(result.rows, {**kept, "raw_content_hash": provenance["content_hash"]})
    told = "\n".join(f"- offset {offset}: {markdown(fault.reason)}" for offset, fault in faults[:20])
    numbers = {**facts, **result.counts, "seconds": time.perf_counter() - started}
    shown = {**pictures(source.channel, result.rows, window), **quality.latency(result.rows), **numbers}
    return _result(commit, result.rows, found, {**shown, "faults_found": dg.MetadataValue.md(told or "none")})


def _batch(source: Source, window: Window, broker: Broker, lake: Lake, raw: pl.DataFrame, start: int) -> Batch:
    """Doubles need the 30 s before to be seen; books of changes too, or what lies before their last checkpoint.

    1. The first frame may have waited long for the broker, and its checkpoint may have been logged before all that.
    2. A REST answer, or the greeting of a socket, may tell trades that are older: they may be rows of earlier windows.
    """
    numbers = _numbers_before(lake, source, window)
    received = [window.start, *raw["received_time"].drop_nulls().to_physical().bottom_k(1)]
    late, size = min(window.start - min(received), LATEST), window.stop - window.start
    forgets_after = size if source.channel is Channel.TRADE else None

    def before(length: Microseconds) -> Iterator[Record]:
        return lead(broker, lake, source, window, start, length)

    def read(length: Microseconds) -> Batch:
        parts = (before(length), records(raw))
        return batch(source, (record for part in parts for record in part), start, numbers, forgets_after)

    result = read(LEAD)
    if result.counts["frames_invalid"]:
        return read(late + size + LEAD)
    if source.channel is Channel.TRADE and (length := _length_of_trades(result.rows, window)) > LEAD:
        first, earliest = (next((record.offset for record in before(each)), start) for each in (LEAD, length))
        if earliest < first:
            return read(length)
    return result


def _length_of_trades(rows: pl.DataFrame, window: Window) -> Microseconds:
    """Return how long before a window (µs) its trades may have been told before: `LEAD`, or more if they are older.

    Nothing is told before it happened, but the exchange's clock may be ahead of the broker's by half the `LEAD`.
    """
    oldest = rows.select(pl.col("exchange_time").to_physical().min()).item()
    if oldest is None or oldest >= window.start - LEAD // 2:
        return LEAD
    return min(window.start - int(oldest) + LEAD, TRADE_MEMORY)


def _numbers_before(lake: Lake, source: Source, window: Window) -> list[LastNumber]:
    """Return the last frame numbers that the window before knew.

    Where it is missing, or older than these, the records of the `LEAD` tell the numbers of what has just been heard.
    """
    before = Window(window.start - (window.stop - window.start), window.start)
    facts = lake.readable_provenance(f"raw_{source.channel}", source.exchange.name, before) or {}
    return [(int(epoch), name, int(number), int(time)) for epoch, name, number, time in facts.get("numbers", ())]


def _refuse_worse(source: Source, window: Window, broker: Broker, lake: Lake, result: Batch, start: int) -> None:
    """Keep a stored table whose books began in records that are gone since: made again, it would have holes."""
    kept = lake.readable_provenance(source.channel.value, source.exchange.name, window)
    if kept is None or result.counts["frames_invalid"] <= int(kept.get("frames_invalid", 0)):
        return
    if not has_lead(broker, lake, source, window, start):
        raise RetentionLoss(
            f"{source.channel} of {source.exchange.name}: the records before this window, in which its books begin, "
            f"were trimmed, and raw_{source.channel} of the window before was never made; the stored table is kept"
        )


def keep_dead(exchange: Exchange, found: list[Source], window: Window, lake: Lake) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Collect the dead letters of one window, of all channels, as the channels' tables have found them."""
    making = _Making(lake, "dead", exchange, window)
    parts = []
    for source in found:
        raw, facts = making.load(f"raw_{source.channel}").rows, making.facts(source.channel.value)
        is_told = "dead_found" in facts  # footers of older tables do not have it
        parts.append(dead_table(source, dead_of(facts, raw)) if is_told else batch(source, records(raw)).dead)
    rows = pl.concat(parts).sort("topic", "offset")
    commit = making.commit(rows, {"dead": rows.height, "raw_content_hash": making.raw_content_hash})
    reasons = rows.group_by("error", "reason").len().sort("len", descending=True).head(5)
    text = "\n".join(f"- {count} x {error}: {markdown(reason)}" for error, reason, count in reasons.iter_rows())
    return _result(commit, rows, [], {"reasons": dg.MetadataValue.md(text or "none")})


def keep_gaps(exchange: Exchange, found: list[Source], window: Window, lake: Lake) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Gather what one window's records say is missing, going on from what the window before knew."""
    making = _Making(lake, "gap", exchange, window)
    parts, states, unserved = [], {}, dict[str, str]()
    for source in found:
        gaps = Gaps(source, _state_before(source, window, lake))
        is_wanted = bool(gaps.ledger.wanted)
        first_offset, count = _gather(gaps, source, window, making)
        gaps.carry_on(window.start, first_offset)
        why = gaps.unserved(window.start) if count else "no record" if is_wanted else ""
        unserved |= {source.channel.value: why} if why else {}
        parts.append(gaps.table())
        states[source.channel.value] = gaps.ledger.state.pack()
    rows = pl.concat(parts)
    missing = seconds(rows, window.stop)
    commit = making.commit(rows, {"states": states, "raw_content_hash": making.raw_content_hash})
    shown = {"gap_seconds": sum(missing.values()), **{f"seconds_{cause}": each for cause, each in missing.items()}}
    finding = quality.no_gap(rows, unserved)
    return _result(commit, rows, [finding], {**shown, "gaps": dg.MetadataValue.md(listing(rows))})


def _state_before(source: Source, window: Window, lake: Lake) -> LedgerState | None:
    """Return what the window before knew, or would have known; None where it was never stored.

    Where the log began anew, it is the last window of the former log.
    """
    facts = raw_facts(lake, source, window)
    stop = facts.span.new_log.since if facts and facts.span.new_log else window.start
    before = Window(stop - (window.stop - window.start), stop)
    try:
        known = lake.load("gap", source.exchange.name, before)
    except Damaged as error:
        logger.warning("%s; what it knew is made of the raw table", error)
        known = None
    if known and (state := state_of(known.facts, source.channel)):
        return state
    if raw_facts(lake, source, before) is None:
        return None
    gaps = Gaps(source, None)
    _gather(gaps, source, before, _Making(lake, "gap", source.exchange, before))
    return gaps.ledger.state


def _gather(gaps: Gaps, source: Source, window: Window, making: "_Making") -> tuple[int, int]:
    """Read the records of a window, and what was made of them; return their first offset, and how many there are."""
    table = source.channel.value
    raw, facts = making.load(f"raw_{table}")
    first = next(records(raw.head(1)), Record(int(facts["start_offset"]), window.stop, "", b""))  # or the window's end
    if "new_log" in facts:
        stop_offset, since = map(int, facts["new_log"])
        gaps.began_anew(stop_offset, since, first)
    elif "trimmed" in facts:
        gaps.trimmed(int(facts["trimmed"]), window.start, first)
    rows, faults = None, []
    if is_book(source):
        rows, table_facts = making.load(table)
        faults = faults_of(table_facts)
    gaps.read(records(raw), rows, faults)
    return int(facts["start_offset"]), raw.height


class _Making:
    """A table of one window while it is made: what it is made of, and that nobody overtakes it."""

    def __init__(self, lake: Lake, table: str, exchange: Exchange, window: Window) -> None:
        self._lake, self._table, self._exchange, self._window = lake, table, exchange.name, window
        self._generation = lake.generation(table, exchange.name, window)
        self._made_of: dict[str, str] = {}  # content hashes, by table

    @property
    def raw_content_hash(self) -> dict[str, str]:
        """The content hashes of the raw tables that were read."""
        return {name: value for name, value in self._made_of.items() if name.startswith(RAW_PREFIX)}

    def load(self, table: str) -> StoredWindow:
        """Return another table of the window. Raises `dg.Failure` if it is not made, and `Damaged`."""
        held = self._lake.load(table, self._exchange, self._window)
        if held is None:
            raise self._missing(table)
        self._note(table, held.facts)
        return held

    def facts(self, table: str) -> dict[str, Any]:
        """Return what the footer of another table of the window says. Raises as `load` does."""
        found = self._lake.provenance(table, self._exchange, self._window)
        if found is None:
            raise self._missing(table)
        self._note(table, found)
        return found

    def _note(self, table: str, facts: dict[str, Any]) -> None:
        """Remember what this is made of. Raises `dg.Failure` for a table that is made of other raw records than it."""
        made_of, raw = facts.get("raw_content_hash"), self._made_of.get(f"{RAW_PREFIX}{table}")
        if made_of is not None and raw is not None and made_of != raw:
            raise dg.Failure(
                f"{self._lake.uri(table, self._exchange, self._window)} was made of other raw records than are stored: "
                "materialise it first"
            )
        self._made_of[table] = facts["content_hash"]

    def _missing(self, table: str) -> dg.Failure:
        return dg.Failure(f"{table} of {self._exchange} has no such window yet: materialise it first")

    def commit(self, rows: pl.DataFrame, facts: dict[str, Any]) -> Commit:
        """Commit the table. Raises `Conflict` if it, or what it is made of, was made again meanwhile."""
        for table, content_hash in self._made_of.items():
            now = self._lake.provenance(table, self._exchange, self._window) or {}
            if now.get("content_hash") != content_hash:
                raise Conflict(
                    f"{self._lake.uri(self._table, self._exchange, self._window)}: {table} was made again meanwhile; "
                    "compute again and retry"
                )
        return self._lake.commit(
            self._table,
            self._exchange,
            self._window,
            rows,
            facts,
            generation=self._generation,
            code_version=None if self._table == "gap" else code_version(),  # gaps depend on the window before, too
        )


def _frames(rows: pl.DataFrame) -> int:
    return rows.filter(pl.col("kind").is_in(["w", "r"])).height


def _result(
    commit: Commit, rows: pl.DataFrame, findings: list[quality.Finding], facts: dict[str, Any]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    columns = [dg.TableColumn(name, str(kind)) for name, kind in rows.schema.items()]
    metadata = {
        "dagster/partition_row_count": commit.rows,
        "dagster/uri": commit.uri,
        "dagster/column_schema": dg.TableSchema(columns),
        "bytes": commit.bytes,
        "generation": commit.generation,
        "changed": commit.changed,
        **facts,
    }
    checks = [
        dg.AssetCheckResult(
            passed=finding.passed,
            check_name=finding.rule,
            description=finding.sentence,
            metadata=finding.numbers,
            severity=dg.AssetCheckSeverity.WARN if finding.warns else dg.AssetCheckSeverity.ERROR,
        )
        for finding in findings
    ]
    return dg.MaterializeResult(
        metadata=metadata, data_version=dg.DataVersion(commit.content_hash), check_results=checks
    )
