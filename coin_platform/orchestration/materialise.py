"""The tables of one window except `gap`: raw records, rows and dead letters. Each is read, committed and checked."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import dagster as dg
import polars as pl

from coin_platform.broker import Broker
from coin_platform.errors import RetentionLoss
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.foreign import markdown
from coin_platform.lake import Lake
from coin_platform.lake.lake import OWN_FACTS
from coin_platform.model import SECOND, Cause, Channel, Microseconds, Window
from coin_platform.orchestration.derivation import Derivation
from coin_platform.orchestration.earlier_records import earlier_records, has_earlier_records
from coin_platform.orchestration.handed_on import NUMBERS_BEFORE, numbers_hash
from coin_platform.orchestration.log_clock import settled_time
from coin_platform.orchestration.offsets import raw_window
from coin_platform.orchestration.partitions import grace_length
from coin_platform.orchestration.plots import plots
from coin_platform.orchestration.raw_facts import previous_window, raw_table_name, readable_raw_facts
from coin_platform.orchestration.results import result_of
from coin_platform.orchestration.version import code_version
from coin_platform.records import Record
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables import instrument, quality, schema
from coin_platform.tables.dataframes import Batch, batch, dead_facts, dead_of, dead_table, last_numbers, records
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.known_trades import TRADE_MEMORY

Rule: TypeAlias = Callable[[pl.DataFrame], quality.Finding]

LONGEST_DELAY: Microseconds = 24 * 3600 * SECOND  # for which a frame may wait for the broker and still find its book
RULES: dict[Channel, dict[str, Rule]] = {  # rules for one table only, by check
    Channel.ORDERBOOK: {"crossed_book": quality.crossed},
    Channel.TRADE: {"one_row_a_trade": quality.one_row_a_trade},
    Channel.CANDLE: {"ohlc": quality.ohlc},
}
_SHOWN_FAULTS, _SHOWN_REASONS, _SHOWN_CHANGES = 20, 5, 30  # in the metadata of a materialisation


def materialise_raw(
    source: Source, window: Window, broker: Broker, lake: Lake, settings: Settings
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Copy the records of one window into the lake."""
    started = time.perf_counter()
    name, table = source.exchange.name, raw_table_name(source)
    generation = lake.generation(table, name, window)
    feeds = {source, *sources(source.exchange, settings)}
    places = [(feed.topic, feed.partition) for feed in feeds]
    raw = raw_window(broker, lake, source, window, grace_length(settings), lambda: settled_time(broker, places))
    start, stop, trimmed, new_log = raw.span
    place = {"topic": source.topic, "partition": source.partition, "start_offset": start, "stop_offset": stop}
    place |= {"log": raw.log} if raw.log else {}
    place |= {"trimmed": trimmed} if trimmed is not None else {}
    place |= {"new_log": list(new_log)} if new_log else {}
    if raw.stored_facts is not None:
        facts = {fact: value for fact, value in raw.stored_facts.items() if fact not in OWN_FACTS}
    else:
        frames = raw.rows.filter(pl.col("kind").is_in(["w", "r"])).height
        before = {NUMBERS_BEFORE: numbers_hash(raw.numbers_before)}
        facts = {**place, "frames": frames, "numbers": last_numbers(raw.rows, raw.numbers_before), **before}
    finding = quality.tiling(
        raw.rows["offset"],
        start,
        stop,
        trimmed,
        former_stop=new_log.stop_offset if new_log else None,
        kept_from=raw.records_in_new_log,
    )
    commit = lake.commit(table, name, window, raw.rows, facts, generation=generation)
    return result_of(commit, raw.rows, [finding], {**place, "seconds": time.perf_counter() - started})


def materialise_rows(source: Source, window: Window, broker: Broker, lake: Lake) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Decode the raw table of one window into rows."""
    started = time.perf_counter()
    derivation = Derivation(lake, source.channel.value, source.exchange, window)
    raw, raw_facts = derivation.load(raw_table_name(source))
    start = int(raw_facts["start_offset"])
    result = _batch(source, window, broker, lake, raw, start)
    _refuse_less(source, window, broker, lake, result, start)
    findings = _findings(source, result, window)
    faults = result.transform.faults
    place = {name: raw_facts[name] for name in ("topic", "partition", "start_offset", "stop_offset")}
    facts = {
        **place,
        **result.counts,
        "faults_found": [(offset, str(pair), *rest) for offset, (pair, *rest) in faults],
        "dead_found": dead_facts(result.transform.dead),
        "raw_content_hash": raw_facts["content_hash"],
    }
    commit = derivation.commit(result.rows, facts, code_version())
    faults_text = "\n".join(f"- offset {offset}: {markdown(fault.reason)}" for offset, fault in faults[:_SHOWN_FAULTS])
    metadata = {
        **plots(source.channel, result.rows, window),
        **quality.latency(result.rows),
        **place,
        **result.counts,
        **({"listings": _changes(result.rows)} if source.channel is Channel.INSTRUMENT else {}),
        "seconds": time.perf_counter() - started,
        "faults_found": dg.MetadataValue.md(faults_text or "none"),
    }
    return result_of(commit, result.rows, findings, metadata)


def _findings(source: Source, result: Batch, window: Window) -> list[quality.Finding]:
    """Return what the checks of a table of rows find."""
    findings = [
        quality.conservation(result.rows, result.counts),
        quality.columns(result.rows, schema.CURATED[source.channel]),
        *(rule(result.rows) for rule in RULES.get(source.channel, {}).values()),
    ]
    if source.channel is Channel.ORDERBOOK:
        missed = [fault for _, fault in result.transform.faults if fault.cause is Cause.CHECKPOINT]
        findings.append(quality.arrived([(str(fault.pair), fault.reason) for fault in missed]))
    if source.channel is Channel.INSTRUMENT:
        is_streamed = source.channel in source.exchange.channels
        period = instrument.list_period(window.stop - window.start, is_streamed=is_streamed)
        findings.append(quality.listed(result.transform.instruments, window.stop, period))
    return findings


def _changes(rows: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Return the new, changed and delisted pairs of a window as a list."""
    changed = rows.drop_nulls("change").sort("offset", "index")
    columns = ("change", "pair", "state", "exchange_state")
    lines = [
        f"- {change} {markdown(pair)}: {state}{f' ({markdown(word)})' if word else ''}"
        for change, pair, state, word in changed.head(_SHOWN_CHANGES).select(columns).iter_rows()
    ]
    rest = [f"- and {changed.height - _SHOWN_CHANGES} more"] if changed.height > _SHOWN_CHANGES else []
    return dg.MetadataValue.md("\n".join(lines + rest) or "none")


def _batch(source: Source, window: Window, broker: Broker, lake: Lake, raw: pl.DataFrame, start: int) -> Batch:
    """Decode a window together with as many earlier records as it needs.

    1. The records of the `LEAD` (30 s) before a window reveal doubles.
    2. Books of changes may need all records since their last checkpoint. The first frame may have waited long for the
       broker, and its checkpoint may have been logged before that.
    3. A REST answer, or the first message of a socket, may tell older trades, which may be rows of earlier windows.
    4. A list of markets is compared with that of the window before.
    """
    previous = readable_raw_facts(lake, source, previous_window(window))
    numbers = previous.numbers if previous else []
    received = [window.start, *raw["received_time"].drop_nulls().to_physical().bottom_k(1)]
    delay, size = min(window.start - min(received), LONGEST_DELAY), window.stop - window.start
    forgets_after = size if source.channel in (Channel.TRADE, Channel.INSTRUMENT) else None

    def before(length: Microseconds) -> Iterator[Record]:
        return earlier_records(broker, lake, source, window, start, length)

    def read(length: Microseconds) -> Batch:
        parts = (before(length), records(raw))
        return batch(source, (record for part in parts for record in part), start, numbers, forgets_after)

    result = read(instrument.memory(size) if source.channel is Channel.INSTRUMENT else LEAD)
    if result.counts["frames_invalid"]:
        return read(delay + size + LEAD)
    if source.channel is Channel.TRADE and (length := _length_of_trades(result.rows, window)) > LEAD:
        first, earliest = (next((record.offset for record in before(duration)), start) for duration in (LEAD, length))
        if earliest < first:
            return read(length)
    return result


def _length_of_trades(rows: pl.DataFrame, window: Window) -> Microseconds:
    """Return how long before a window (µs) its trades may have been told already: `LEAD`, or more for older trades.

    Nobody tells a trade before it happened. But the exchange's clock may be ahead of the broker's by half the `LEAD`.
    """
    oldest = rows.select(pl.col("exchange_time").to_physical().min()).item()
    if oldest is None or oldest >= window.start - LEAD // 2:
        return LEAD
    return min(window.start - int(oldest) + LEAD, TRADE_MEMORY)


def _refuse_less(source: Source, window: Window, broker: Broker, lake: Lake, result: Batch, start: int) -> None:
    """Raise `RetentionLoss` if a stored table has books that the new one lacks, because earlier records are gone."""
    stored_facts = lake.readable_provenance(source.channel.value, source.exchange.name, window)
    if stored_facts is None or result.counts["frames_invalid"] <= int(stored_facts.get("frames_invalid", 0)):
        return
    if not has_earlier_records(broker, lake, source, window, start):
        raise RetentionLoss(
            f"{source.channel} of {source.exchange.name}: the records before this window, in which its books begin, "
            f"were trimmed, and raw_{source.channel} of the window before was never made; the stored table is kept"
        )


def materialise_dead(exchange: Exchange, feeds: Sequence[Source], window: Window, lake: Lake) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Collect the dead letters that the channels' tables of one window have found."""
    derivation = Derivation(lake, "dead", exchange, window)
    parts = []
    for feed in feeds:
        raw, facts = derivation.load(raw_table_name(feed)).rows, derivation.facts(feed.channel.value)
        if "dead_found" in facts:
            parts.append(dead_table(feed, dead_of(facts, raw)))
        else:  # a former version made the table
            parts.append(batch(feed, records(raw)).dead)
    rows = pl.concat(parts).sort("topic", "offset")
    facts = {"dead": rows.height, "raw_content_hash": derivation.raw_content_hashes}
    commit = derivation.commit(rows, facts, code_version())
    reasons = rows.group_by("error", "reason").len().sort("len", descending=True).head(_SHOWN_REASONS)
    text = "\n".join(f"- {count} x {error}: {markdown(reason)}" for error, reason, count in reasons.iter_rows())
    return result_of(commit, rows, [], {"reasons": dg.MetadataValue.md(text or "none")})
