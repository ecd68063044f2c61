"""The gap table: what a window's records and its order book rows tell, and what the next window must know."""

from datetime import UTC, datetime

import polars as pl

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Cause, Channel, Kind
from coin_platform.records import Facts, Header, Record
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables import schema
from coin_platform.tables.dataframes import batch
from coin_platform.tables.gap_table import Gaps, StoredFault, listing, seconds, together
from tests.kit.log import TIME
from tests.kit.recordings import frames

SETTINGS = Settings()


def source(exchange: str, channel: Channel) -> Source:
    return next(found for found in sources(EXCHANGES[exchange], SETTINGS) if found.channel is channel)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(TIME / 1e6 + seconds, UTC)


class ConnectionRecords:
    """Records of one connection, one a second."""

    def __init__(self, pair: str) -> None:
        self.records: list[Record] = []
        self.number = 0
        self.pair = pair

    def add(self, kind: Kind, value: bytes = b"") -> None:
        self.number += kind.is_frame
        time = TIME + len(self.records) * SECOND
        header = Header(kind, 1, "a", self.number, time)
        self.records.append(Record(len(self.records), time, header.pack(), value))

    def facts(self, kind: Kind, reason: str = "") -> None:
        self.add(kind, Facts(pairs=[self.pair], reason=reason).pack())


def broken_book() -> ConnectionRecords:
    """A book that begins, loses a message, and begins again."""
    log = ConnectionRecords("BTC-USDT")
    log.facts(Kind.OPENED)
    found = [frame.payload for frame in frames("bybit", "book_sequence_1")]
    for payload in (*found[:1], *found[2:4], *found[:1]):
        log.add(Kind.SOCKET, payload)
    return log


def test_S8_a_lost_book_message_is_a_gap_from_the_last_row_to_the_next() -> None:
    place, log = source("bybit", Channel.ORDERBOOK), broken_book()
    made = batch(place, log.records)
    faults = [
        StoredFault(offset, str(fault.pair), fault.cause, fault.reason) for offset, fault in made.transform.faults
    ]
    gaps = Gaps(place, None)
    gaps.read(log.records, made.rows, faults)
    [row] = gaps.table().iter_rows(named=True)
    assert (row["channel"], row["pair"], row["cause"]) == ("orderbook", "BTC-USDT", "sequence")
    assert (row["from"], row["to"]) == (at(1), at(4))
    assert "wanted an update from" in row["reason"]
    assert (row["topic"], row["partition"], row["offset"], row["log_time"]) == (place.topic, 1, 4, at(4))


def test_other_faults_have_causes_of_their_own() -> None:
    place, log = source("kraken", Channel.ORDERBOOK), ConnectionRecords("BTC-USD")
    log.facts(Kind.OPENED)
    for _ in range(4):
        log.add(Kind.SOCKET, b"{}")
    kinds = (Cause.CHECKSUM, Cause.CHECKPOINT, Cause.NO_BOOK)
    rows = pl.DataFrame({"offset": [1, 2, 3, 4], "pair": ["BTC-USD"] * 4, "connection": ["a"] * 4})
    gaps = Gaps(place, None)
    gaps.read(log.records, rows, [StoredFault(at, "BTC-USD", kind, "why") for at, kind in enumerate(kinds, 2)])
    assert gaps.table()["cause"].to_list() == ["checksum", "checkpoint", "no_book"]


def test_records_that_are_none_of_ours_are_left_to_the_dead_letters() -> None:
    place, log = source("upbit", Channel.TICKER), ConnectionRecords("BTC-KRW")
    log.facts(Kind.OPENED)
    log.records.append(Record(1, TIME, "no header of ours", b""))
    log.add(Kind.CHECKPOINT, b"not facts")
    gaps = Gaps(place, None)
    gaps.read(log.records)
    gaps.trimmed(0, TIME - SECOND, log.records[1])
    gaps.trimmed(7, TIME - 2 * SECOND, log.records[0])
    table = gaps.table()
    assert table["reason"].to_list() == [
        "7 records before offset 0 were trimmed before they were stored",
        "unknown records before offset 1 were trimmed before they were stored",
    ]
    assert table["to"].to_list() == [at(0), at(0)] and table["pair"].to_list() == ["BTC-KRW", "BTC-KRW"]


def test_D1_a_log_that_began_anew_is_a_gap_from_what_was_stored_to_its_first_record() -> None:
    place, log = source("upbit", Channel.TICKER), ConnectionRecords("BTC-KRW")
    log.facts(Kind.OPENED)
    gaps = Gaps(place, None)
    gaps.began_anew(500, TIME - SECOND, log.records[0])
    [row] = gaps.table().iter_rows(named=True)
    assert (row["from"], row["to"], row["cause"], row["pair"]) == (at(-1), at(0), "new_log", None)
    assert row["reason"] == "the topic began anew: what it held from offset 500 on was lost before it was stored"


def table(*rows: tuple[str | None, float, float | None, str, str | None]) -> pl.DataFrame:
    values = [
        ("ticker", pair, at(start), None if stop is None else at(stop), cause, "why", filled, at(n), "t", 0, n)
        for n, (pair, start, stop, cause, filled) in enumerate(rows)
    ]
    return pl.DataFrame(values, schema=schema.GAP, orient="row")


def test_missing_seconds_are_added_up_by_cause() -> None:
    rows = table(
        ("A-B", 1, 3, "killed", None),
        ("A-B", 5, 6.5, "killed", None),
        ("A-B", 58, None, "silence", None),
        ("A-C", 1, 9, "killed", "rest"),
    )
    assert seconds(rows, TIME + 60 * SECOND) == {"killed": 3.5, "silence": 2.0}


def test_pairs_that_were_missing_together_are_one_line() -> None:
    rows = table(("A-C", 1, 2, "killed", None), ("A-B", 1, 2, "killed", None), (None, 0, 2, "killed", None))
    assert together(rows).select("from", "pairs").rows() == [(at(0), "all"), (at(1), "A-B A-C")]


def test_gaps_are_listed_as_a_table_that_has_an_end() -> None:
    assert listing(table()) == "none"
    text = listing(table(*(("A-B", n, None, "killed", None) for n in range(25))), 20)
    assert text.count("\n|") == 21 and text.endswith("and 5 more")
