"""The gaps of one window as rows, from its records, its order book rows and their faults; and how people read them."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import polars as pl

from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Source
from coin_platform.foreign import markdown
from coin_platform.model import Cause, Channel, Gap, Microseconds, Pair
from coin_platform.records import Record, unpack, unpack_dated
from coin_platform.tables import schema
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gaps import GapLedger


class StoredFault(NamedTuple):
    """The fault of a book, as the footer of an order book table keeps it: see `orderbook.BookFault`."""

    offset: int
    pair: str
    cause: str
    reason: str


class Gaps:
    """Gathers the gaps of one source in the order of its log, and returns them as rows."""

    def __init__(self, source: Source, state: LedgerState | None) -> None:
        self.ledger = GapLedger(source.exchange, source.channel, state, books=is_book(source))
        self._source = source
        self._rows: dict[tuple[Pair | None, Microseconds], tuple[object, ...]] = {}

    def read(
        self, records: Iterable[Record], rows: pl.DataFrame | None = None, faults: Iterable[StoredFault] = ()
    ) -> None:
        """Take records. If books come as changes, take also the rows and faults that the records gave."""
        rows_by_offset, faults_by_offset = defaultdict(list), defaultdict(list)
        for offset, *row in rows.select("offset", "pair", "connection").iter_rows() if rows is not None else ():
            rows_by_offset[offset].append(row)
        for fault in faults:
            faults_by_offset[fault.offset].append(fault)
        for record in records:
            try:
                header = unpack_dated(record.header)
                self._keep(self.ledger.record(header, record.value), record)
            except DecodeError:
                continue  # the table of dead letters has it
            time = header.received_time
            for fault in faults_by_offset.get(record.offset, ()):
                self._keep(self._lost(fault, header.connection, time), record)
            for pair, connection in rows_by_offset.get(record.offset, ()):
                self._keep(self.ledger.row(Pair.read(pair), connection, time), record)

    def trimmed(self, trimmed: int, start: Microseconds, first: Record) -> None:
        """Note that `trimmed` records (0: unknown how many) from `start` to the first kept record are gone."""
        reason = f"{trimmed or 'unknown'} records before offset {first.offset} were trimmed before they were stored"
        self._keep(self.ledger.trimmed(reason, start, max(start, _received(first))), first)

    def began_anew(self, stop_offset: int, start: Microseconds, first: Record) -> None:
        """Note that the log began anew, and that records of the former log from `stop_offset` on were never stored.

        The gap is from `start`, the end of the last window of the former log, to the first record of the new log.
        """
        reason = f"the topic began anew: what it held from offset {stop_offset} on was lost before it was stored"
        self._keep(self.ledger.began_anew(reason, start, max(start, _received(first))), first)

    def carry_on(self, time: Microseconds, offset: int) -> None:
        """Tell the gaps again that last since a window before, as of this time and this offset of the log."""
        record = Record(offset, time, "", b"")
        for gap in self.ledger.lasting.values():
            if (gap.pair, gap.start) not in self._rows:
                self._keep([gap], record)

    def unserved(self, start: Microseconds) -> str:
        """Return why no wanted pair was served in the window that begins at `start`; empty if a pair was served.

        A pair that was never reached, or is refused, has not been served since it was wanted.
        """
        lasting, wanted = self.ledger.lasting, self.ledger.wanted
        gaps = [lasting[name] for name in wanted if name in lasting]
        whole = [gap for gap in gaps if gap.start <= start or gap.cause in (Cause.UNREACHABLE, Cause.REFUSED)]
        causes = dict.fromkeys(gap.cause for gap in whole if gap.cause != Cause.STOPPED)
        return ", ".join(causes) if len(whole) == len(wanted) else ""

    def table(self) -> pl.DataFrame:
        """Return the gaps as rows, each once, by pair and start."""
        rows = pl.DataFrame(list(self._rows.values()), schema=schema.GAP, orient="row")
        return rows.sort("pair", "from", nulls_last=True)

    def _lost(self, fault: StoredFault, connection: str, time: Microseconds) -> list[Gap]:
        pair = Pair.read(fault.pair)
        if fault.cause == Cause.NO_BOOK:
            return self.ledger.waits(pair, connection, time)
        return self.ledger.lost(pair, Cause(fault.cause), fault.reason, time)

    def _keep(self, changed: Iterable[Gap], record: Record) -> None:
        for gap in changed:
            pair = str(gap.pair) if gap.pair else None
            place = (record.time, self._source.topic, self._source.partition, record.offset)
            values = (gap.start, gap.stop, gap.cause, gap.reason, gap.filled_by)
            self._rows[gap.pair, gap.start] = (self._source.channel.value, pair, *values, *place)


def _received(record: Record) -> Microseconds:
    """Return when a record was received. If its header is not one of ours, return when it was logged."""
    try:
        return unpack(record.header).received_time
    except DecodeError:
        return record.time


def seconds(gaps: pl.DataFrame, stop: Microseconds) -> dict[str, float]:
    """Return the missing seconds by cause, added up over pairs. A gap that still lasts is counted up to `stop`."""
    end = pl.col("to").fill_null(pl.lit(stop).cast(schema.TIME))
    length = (end - pl.col("from")).dt.total_microseconds() / 1e6
    sums = gaps.filter(pl.col("filled_by").is_null()).group_by("cause").agg(length.clip(0).sum().alias("length"))
    return dict(sorted(sums.select("cause", "length").iter_rows()))


def is_book(source: Source) -> bool:
    """Whether the books of a source come as changes: then the rows of its table tell when a pair is served."""
    return source.channel is Channel.ORDERBOOK and source.exchange.has_deltas


def state_of(facts: dict[str, Any] | None, channel: Channel) -> LedgerState | None:
    """Return the state of a feed that the footer of a gap table keeps."""
    return LedgerState.unpack(facts["states"][channel]) if facts and channel in facts["states"] else None


def faults_of(facts: dict[str, Any]) -> list[StoredFault]:
    """Return the faults that the footer of an order book table keeps."""
    return [StoredFault(*fault) for fault in facts.get("faults_found", ())]


def together(gaps: pl.DataFrame) -> pl.DataFrame:
    """Return gaps as people read them, oldest first. Pairs that were missing together are one row with `pairs`."""
    own_columns = {"pair", "log_time", "topic", "partition", "offset"}  # each pair of a gap has its own
    same = [name for name in gaps.columns if name not in own_columns]
    pairs = pl.col("pair").fill_null("all").sort().str.join(" ").alias("pairs")
    return gaps.group_by(same).agg(pairs).sort("from", *same)


def listing(gaps: pl.DataFrame, most: int = 20) -> str:
    """Return the first `most` gaps as a table in Markdown, with reasons and pairs as they are."""
    rows = together(gaps)
    if not rows.height:
        return "none"
    times = pl.col("from", "to").dt.to_string("%H:%M:%S%.3f")
    head = rows.head(most).select("channel", "pairs", times, "cause", "filled_by", "reason")
    lines = ["|".join(head.columns), "|".join("-" for _ in head.columns)]
    lines += ["|".join("" if cell is None else markdown(cell) for cell in row) for row in head.iter_rows()]
    rest = f"\n\nand {rows.height - most} more" if rows.height > most else ""
    return "\n".join(f"|{line}|" for line in lines) + rest
