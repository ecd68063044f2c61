"""Rules over tables that must hold before a window may be trusted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from coin_platform.foreign import markdown
from coin_platform.model import Channel, InstrumentState, Microseconds
from coin_platform.tables import schema
from coin_platform.tables.instrument import KnownInstruments
from coin_platform.tables.known_trades import SAME_TRADE_TOLERANCE


class Finding(NamedTuple):
    """The result of one rule: whether it holds, one sentence in Markdown, and the numbers behind it."""

    rule: str
    passed: bool
    sentence: str
    numbers: dict[str, int]
    warns: bool = False  # if it does not hold, the rows may be used all the same


def tiling(
    offsets: pl.Series,
    start: int,
    stop: int,
    trimmed: int | None = None,
    *,
    former_stop: int | None = None,
    kept_from: int | None = None,
) -> Finding:
    """Check that every offset of `[start, stop)` is in the raw table once, and that no record before is known as lost.

    1. `trimmed`: so many records before `start` were trimmed (0: unknown how many).
    2. `former_stop`: the log began anew with this window, and the former log was stored up to this offset.
    3. `kept_from`: the log began anew after this window was stored. The stored records are kept, and the present log
       holds so many records of the same time.
    """
    stored = offsets.n_unique()
    double = offsets.len() - stored
    missing = stop - start - offsets.filter((offsets >= start) & (offsets < stop)).n_unique()
    is_whole = not missing and not double and stored == stop - start
    sentence = f"{stored} of the {stop - start} records of the window, {missing} missing, {double} double"
    if trimmed is not None:
        sentence += (
            f"; {trimmed or 'unknown'} before offset {start} were trimmed before they were stored: see table gap"
        )
    if former_stop is not None:
        sentence += (
            f"; the topic began anew: what its former self held from offset {former_stop} on was lost: see table gap"
        )
    if kept_from is not None:
        sentence += (
            f"; the topic began anew since and holds {kept_from} records of this window: the stored ones are kept; "
            "`coin lake backfill --replace-smaller` takes those of the topic"
        )
    is_lossless = trimmed is None and former_stop is None and kept_from is None
    numbers = {"records": stored, "missing": missing, "double": double, "trimmed": trimmed or 0}
    return Finding("conservation", is_whole and is_lossless, sentence, numbers, warns=is_whole)


def conservation(rows: pl.DataFrame, counts: Mapping[str, int]) -> Finding:
    """Check that every frame is accounted for, and that the rows are those that were emitted and not replaced."""
    ends = sum(count for name, count in counts.items() if name.startswith("frames_"))
    stored = rows["offset"].n_unique()
    double = rows.height - rows.select("offset", "index").n_unique()
    emitted, replaced = counts["rows_emitted"], counts["rows_replaced"]
    without = counts["frames_rows"] - stored  # frames of which every row was replaced
    passed = counts["frames"] == ends and rows.height == emitted - replaced and 0 <= without <= replaced and not double
    sentence = (
        f"{counts['frames']} frames in, {stored} stored as rows, {ends - stored} accounted otherwise"
        f"{f'; {replaced} of {emitted} rows replaced by later ones' if replaced else ''}"
    )
    numbers = {"frames": counts["frames"], "stored": stored, "double": double, "rows": rows.height}
    return Finding("conservation", passed, sentence, {**numbers, "emitted": emitted, "replaced": replaced})


def columns(rows: pl.DataFrame, schema: pl.Schema) -> Finding:
    """Check that the table has exactly the columns and types of its schema, and says where each row is from."""
    wrong = [name for name in {**schema, **rows.schema} if rows.schema.get(name) != schema.get(name)]
    origin = [name for name in ("pair", "topic", "partition", "offset", "received_time") if name in rows.columns]
    empty = sum(rows[name].null_count() for name in origin)
    sentence = (
        f"columns {', '.join(wrong)} differ" if wrong else f"all {len(schema)} columns, {empty} rows without origin"
    )
    return Finding("schema", not wrong and not empty, sentence, {"wrong_columns": len(wrong), "no_origin": empty})


def crossed(rows: pl.DataFrame) -> Finding:
    """Check that the best bid is below the best ask in every row that has both."""
    bad = rows.filter(pl.col("best_bid") >= pl.col("best_ask"))
    pairs = _names(bad["pair"])
    sentence = f"{bad.height} rows are crossed: {pairs}" if bad.height else f"none of {rows.height} rows is crossed"
    return Finding("crossed_book", not bad.height, sentence, {"rows": rows.height, "crossed": bad.height})


def one_row_a_trade(rows: pl.DataFrame) -> Finding:
    """Check that no trade with an id is in the table twice. Two trades of one id differ in price, size or time."""
    named = pl.concat([rows.drop_nulls("id"), schema.CURATED[Channel.TRADE].to_frame()], how="diagonal")
    trade = ("pair", "id", "price", "size")
    since_last = pl.col("exchange_time").to_physical().fill_null(0).sort().diff().over(trade)
    double = named.filter(since_last < SAME_TRADE_TOLERANCE).height
    shared = named.height - named.select("pair", "id").n_unique() - double
    sentence = f"{double} rows repeat a trade" if double else f"none of {rows.height} rows repeats a trade"
    sentence += f"; {shared} have the id of another trade" if shared else ""
    numbers = {"rows": rows.height, "named": named.height, "double": double}
    return Finding("one_row_a_trade", not double, sentence, numbers | ({"same_id": shared} if shared else {}))


def ohlc(rows: pl.DataFrame) -> Finding:
    """Check that open and close are between low and high, no volume is negative, and a minute of a pair is one row."""
    lowest, highest = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    bad = rows.filter((lowest < pl.col("low")) | (highest > pl.col("high")) | (pl.col("volume") < 0))
    double = rows.height - rows.select("pair", "open_time").n_unique()
    pairs = _names(bad["pair"])
    sentence = f"{bad.height} of {rows.height} candles cannot be{f': {pairs}' if pairs else ''}; {double} are double"
    return Finding(
        "ohlc", not bad.height and not double, sentence, {"rows": rows.height, "wrong": bad.height, "double": double}
    )


def no_gap(rows: pl.DataFrame, unserved: Mapping[str, str] | None = None) -> Finding:
    """Check that every gap was filled afterwards, or wanted, because somebody stopped the collector.

    `unserved` are the wanted channels of which no pair was served in the whole window, and why.
    """
    bad = rows.filter(pl.col("filled_by").is_null() & (pl.col("cause") != "stopped"))
    where = bad.select("channel", "pair", "cause").unique(maintain_order=True)
    first = [f"{channel} of {markdown(pair or 'all pairs')} ({cause})" for channel, pair, cause in where.head(5).rows()]
    shown = ", ".join(first) + (f" and {where.height - 5} more" if where.height > 5 else "")
    sentence = f"{bad.height} gaps: {shown}" if bad.height else f"no gap, {rows.height} filled or wanted"
    if unserved:
        sentence += f"; not served at all: {', '.join(f'{channel} ({why})' for channel, why in unserved.items())}"
    numbers = {
        "gaps": bad.height,
        "filled_or_wanted": rows.height - bad.height,
        "unserved_channels": len(unserved or {}),
    }
    return Finding("no_gap", not bad.height and not unserved, sentence, numbers, warns=True)


def arrived(faults: Sequence[tuple[str, str]]) -> Finding:
    """Check that the stored books equal the collector's checkpoints. `faults` are pair and reason of the others."""
    pairs = _names({pair for pair, _ in faults})
    sentence = f"{len(faults)} checkpoints not arrived at: {pairs}" if faults else "every checkpoint arrived at"
    return Finding("checkpoint", not faults, sentence, {"missed": len(faults)})


def listed(instruments: KnownInstruments, stop: Microseconds, period: Microseconds) -> Finding:
    """Check that each wanted pair is listed and traded at the end `stop` of a window, and that a list told so lately.

    A pair that is halted for a while only warns: its exchange will trade it again. So does a list that did not come for
    more than two times its `period`.
    """
    states = instruments.states()
    is_known = instruments.list_time is not None
    gone, halted = [], []
    for pair in sorted(instruments.wanted):
        state = states[pair].state if pair in states else InstrumentState.DELISTED if is_known else None
        if state is InstrumentState.DELISTED:
            gone.append(pair)
        elif state is not None and not state.is_traded:
            halted.append(f"{pair} {state}")
    since = max(instruments.list_time or 0, instruments.wanted_since or stop)
    is_late = bool(instruments.wanted) and stop - since > 2 * period
    faults = [
        f"not listed: {_names(gone)}" if gone else "",
        f"not traded: {_names(halted)}" if halted else "",
        "no list of markets has come lately" if is_late else "",
    ]
    sentence = "; ".join(filter(None, faults)) or f"{len(instruments.wanted)} wanted pairs, all of them traded"
    if not is_known and not is_late:
        sentence = f"{len(instruments.wanted)} wanted pairs, and no list of markets yet"
    numbers = {"wanted": len(instruments.wanted), "not_listed": len(gone), "not_traded": len(halted), "late": is_late}
    return Finding("listed", not (gone or halted or is_late), sentence, numbers, warns=not gone)


def latency(rows: pl.DataFrame) -> dict[str, float]:
    """Return quantiles of received - exchange time, ms: `latency_p50_ms` …; none if no row has both times."""
    took = (rows["received_time"] - rows["exchange_time"]).dt.total_microseconds().drop_nulls() / 1000
    quantiles = {f"latency_p{percent}_ms": took.quantile(percent / 100) for percent in (50, 95, 99)}
    return {name: round(value, 3) for name, value in quantiles.items() if value is not None}


def _names(pairs: Iterable[str]) -> str:
    return ", ".join(map(markdown, sorted(set(pairs))))
