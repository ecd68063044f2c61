"""What exchanges list becomes rows: changes, and one row of each pair in each window."""

import json
from typing import Any

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Channel, Kind, Microseconds, Window
from coin_platform.preprocess.lookback import prepared
from coin_platform.records import Facts, Header, Record, Transport
from coin_platform.tables import quality
from coin_platform.tables.dataframes import Batch, batch
from coin_platform.tables.gaps import GapLedger
from coin_platform.tables.instrument import LIST_PERIOD, KnownInstruments, list_period, memory
from coin_platform.tables.outcomes import FrameOutcome
from coin_platform.tables.transform import Transform
from tests.kit.raw_log import RawLog, source_of

HOUR = 3600 * SECOND
BEGIN = 500_000 * HOUR  # the begin of a window


def gate(**states: str) -> bytes:
    """Return Gate's list of these markets against USDT."""
    rows = [{"id": f"{base}_USDT", "trade_status": state, "precision": 2} for base, state in states.items()]
    return json.dumps(rows).encode()


def kraken(type: str, **states: str) -> bytes:
    """Return a message of Kraken about these markets against USD."""
    rows = [{"symbol": f"{base}/USD", "status": state, "tick_size": 0.1} for base, state in states.items()]
    return json.dumps({"channel": "instrument", "type": type, "data": {"assets": [], "pairs": rows}}).encode()


class Log:
    """The records of one partition, and what their window's job makes of them."""

    def __init__(self, exchange: str) -> None:
        self.source: Source = source_of(exchange, Channel.INSTRUMENT)
        self.is_streamed = exchange == "kraken"
        self.records: list[Record] = []
        self.number = 0

    def frame(self, time: Microseconds, value: bytes, *, connection: str = "c") -> None:
        self.number += 1
        kind = Kind.SOCKET if self.is_streamed else Kind.REST
        self._log(time, Header(kind, 1, connection, self.number, time), value)

    def want(self, time: Microseconds, *pairs: str, kind: Kind = Kind.PAIRS) -> None:
        facts = Facts(transport=Transport.NONE, pairs=[*pairs])
        self._log(time, Header(kind, 1, "w", 0, time), facts.pack())

    def _log(self, time: Microseconds, header: Header, value: bytes) -> None:
        self.records.append(Record(len(self.records), time, header.pack(), value))

    def job(self, window: Window) -> Batch:
        """Return what the job of a window makes: it reads the window and the time before it that it needs."""
        oldest = window.start - memory(HOUR)
        read = [record for record in self.records if oldest <= record.time < window.stop]
        start = next((r.offset for r in self.records if r.time >= window.start), len(self.records))
        return batch(self.source, read, start, window=HOUR)


def told(made: Batch) -> list[tuple[str, str, str | None]]:
    """Return pair, state and change of each row, in the order of the log."""
    rows = made.rows.sort("offset", "index").select("pair", "state", "change").rows()
    return [(pair.removesuffix("-USDT").removesuffix("-USD"), state, change) for pair, state, change in rows]


def window(number: int) -> Window:
    return Window(BEGIN + number * HOUR, BEGIN + (number + 1) * HOUR)


def test_a_window_has_each_pair_once_and_then_only_changes() -> None:
    log = Log("gateio")
    for minute, states in enumerate(
        ({"A": "tradable", "B": "tradable"}, {"A": "tradable", "B": "tradable"}, {"A": "untradable", "B": "tradable"})
    ):
        log.frame(BEGIN + minute * LIST_PERIOD, gate(**states))
    made = log.job(window(0))
    assert told(made) == [("A", "trading", None), ("B", "trading", None), ("A", "halted", "changed")]
    assert made.rows["tick_size"].to_list() == [0.01] * 3
    assert made.transform.frames == {FrameOutcome.ROWS: 2, FrameOutcome.DUPLICATE: 1}
    assert quality.conservation(made.rows, made.counts).passed
    log.frame(BEGIN + HOUR, gate(A="untradable", B="tradable"))
    assert told(log.job(window(1))) == [("A", "halted", None), ("B", "trading", None)]


def test_new_and_vanished_pairs_are_told_once_also_over_the_begin_of_a_window() -> None:
    log = Log("gateio")
    log.frame(BEGIN + 1, gate(A="tradable", B="tradable"))
    log.frame(BEGIN + HOUR + 1, gate(B="tradable", C="tradable"))
    log.frame(BEGIN + HOUR + 2, gate(B="tradable", C="tradable"))
    log.frame(BEGIN + HOUR + 3, gate(A="tradable", B="tradable", C="tradable"))
    first, second = log.job(window(0)), log.job(window(1))
    assert told(first) == [("A", "trading", None), ("B", "trading", None)]
    assert told(second) == [
        ("B", "trading", None),
        ("C", "trading", "listed"),
        ("A", "delisted", "delisted"),
        ("A", "trading", "listed"),
    ]
    [gone] = second.rows.filter(second.rows["state"] == "delisted").to_dicts()
    assert (gone["offset"], gone["index"], gone["tick_size"], gone["exchange_state"]) == (1, 3, None, None)
    assert quality.conservation(second.rows, second.counts).passed


def test_updates_of_a_stream_change_pairs_and_leave_the_others() -> None:
    log = Log("kraken")
    log.frame(BEGIN + 1, kraken("snapshot", A="online", B="online"))
    log.frame(BEGIN + 2, kraken("update", B="cancel_only"))
    log.frame(BEGIN + 3, kraken("update", C="online"))
    log.frame(BEGIN + 4, kraken("update", A="delisted"))
    log.frame(BEGIN + HOUR + 1, kraken("update", B="online"))
    log.frame(BEGIN + HOUR + 2, kraken("snapshot", B="online", C="online"))
    assert told(log.job(window(0))) == [
        ("A", "trading", None),
        ("B", "trading", None),
        ("B", "halted", "changed"),
        ("C", "trading", "listed"),
        ("A", "delisted", "delisted"),
    ]
    assert told(log.job(window(1))) == [("B", "trading", "changed"), ("C", "trading", None)]


def test_what_two_connections_bring_is_one_row() -> None:
    log = Log("kraken")
    for connection in ("c", "d"):
        log.frame(BEGIN + 1, kraken("snapshot", A="online"), connection=connection)
    assert told(log.job(window(0))) == [("A", "trading", None)]


def test_a_list_with_a_row_that_cannot_be_read_tells_of_no_pair_that_it_is_gone() -> None:
    log = Log("gateio")
    log.frame(BEGIN + 1, gate(A="tradable", B="tradable"))
    log.frame(BEGIN + 2, b'[{"id":"A_USDT","trade_status":"tradable","precision":2},{"id":7}]')
    log.frame(BEGIN + 3, b'[{"id":7}]')
    log.frame(BEGIN + 4, b"[]")
    made = log.job(window(0))
    assert told(made) == [("A", "trading", None), ("B", "trading", None)]
    assert made.transform.frames == {FrameOutcome.ROWS: 1, FrameOutcome.DUPLICATE: 1, FrameOutcome.DEAD: 2}


def test_the_live_worker_and_the_jobs_of_the_windows_make_the_same_rows_wherever_the_worker_begins() -> None:
    log = Log("gateio")
    lists = [
        {"A": "tradable", "B": "tradable"},
        {"A": "tradable"},
        {"A": "untradable", "C": "tradable"},
        {"C": "tradable"},
    ]
    for step in range(40):
        if step % 13:  # a list is missed now and then
            log.frame(BEGIN + step * 11 * 60 * SECOND, gate(**lists[step * step % 4]))
        if step == 30:  # and then nothing comes for three hours
            break
    for step in range(49, 55):
        log.frame(BEGIN + step * 11 * 60 * SECOND, gate(**lists[step % 4]))
    jobs = [row.columns for number in range(11) for row in rows_of(log, log.job(window(number)))]
    live = Transform(log.source, 0, HOUR)
    assert [row.columns for record in log.records for row in live.feed(record)] == jobs
    raw = RawLog("gateio", Channel.INSTRUMENT, start=BEGIN)
    for record in log.records:
        raw.time = record.time
        raw.broker.append(*raw.place, record.header, record.value)
    for position in range(len(log.records)):
        late = prepared(raw.source, raw.broker, position, HOUR)
        rows = [row.columns for record in raw.records()[position:] for row in late.feed(record)]
        assert rows == [columns for columns in jobs if columns[-2] >= position], position


def rows_of(log: Log, made: Batch) -> list[Any]:
    """Return the rows of a table as the transform gives them, in the order of the log."""
    transform = Transform(log.source, 0, HOUR)
    every = [row for record in log.records for row in transform.feed(record)]
    places = {(offset, index) for offset, index in made.rows.select("offset", "index").rows()}
    chosen = [row for row in every if (row.offset, row.index) in places]
    assert made.rows.height == len(places) == len(chosen)
    got = made.rows.sort("offset", "index").select("pair", "state", "change", "offset", "index").rows()
    assert got == [(row.columns[0], row.columns[4], row.columns[11], row.offset, row.index) for row in chosen]
    return chosen


def finding(log: Log, number: int = 0) -> quality.Finding:
    """Return what the check says of a window."""
    made, period = log.job(window(number)), list_period(HOUR, is_streamed=log.is_streamed)
    return quality.listed(made.transform.instruments, window(number).stop, period)


def test_R15_the_check_fails_for_wanted_pairs_that_are_not_listed_and_warns_of_halted_ones() -> None:
    log = Log("gateio")
    log.want(BEGIN + 1, "A-USDT", "B-USDT")
    assert finding(log).sentence == "no list of markets has come lately"
    for minute in range(0, 60, 10):
        log.frame(BEGIN + minute * 60 * SECOND + 2, gate(A="tradable", B="tradable", C="untradable"))
    assert finding(log) == quality.Finding(
        "listed",
        True,
        "2 wanted pairs, all of them traded",
        {"wanted": 2, "not_listed": 0, "not_traded": 0, "late": 0},
        warns=True,
    )
    log.frame(BEGIN + HOUR - 2, gate(A="untradable", B="tradable"))
    halted = finding(log)
    assert (halted.passed, halted.warns, halted.sentence) == (False, True, "not traded: A-USDT halted")
    log.frame(BEGIN + HOUR - 1, gate(A="untradable"))
    gone = finding(log)
    assert (gone.passed, gone.warns) == (False, False)
    assert gone.sentence == "not listed: B-USDT; not traded: A-USDT halted"
    log.want(BEGIN + HOUR - 1, kind=Kind.CLOSED)
    assert finding(log).passed  # nobody wants anything now


def test_R15_the_check_waits_for_two_lists_before_it_warns() -> None:
    known = KnownInstruments()
    assert quality.listed(known, BEGIN, LIST_PERIOD).passed
    known.want(["A-USDT"], BEGIN)
    assert quality.listed(known, BEGIN + 2 * LIST_PERIOD, LIST_PERIOD).sentence == (
        "1 wanted pairs, and no list of markets yet"
    )
    late = quality.listed(known, BEGIN + 2 * LIST_PERIOD + 1, LIST_PERIOD)
    assert (late.passed, late.warns) == (False, True)


@pytest.mark.parametrize("exchange", ["kraken", "gateio"])
def test_a_whole_list_serves_all_pairs_also_those_that_it_does_not_list(exchange: str) -> None:
    ledger = GapLedger(EXCHANGES[exchange], Channel.INSTRUMENT)
    transport, kind = ("ws", Kind.SOCKET) if exchange == "kraken" else ("rest", Kind.REST)
    opened = Facts(transport=transport, pairs=["A-USD", "NOPE-USD"]).pack()
    assert ledger.record(Header(Kind.OPENED, 1, "c", 0, BEGIN), opened) == []
    value = kraken("snapshot", A="online") if exchange == "kraken" else gate(A="tradable")
    if exchange == "kraken":
        partial = kraken("update", A="online")
        assert ledger.record(Header(kind, 1, "c", 1, BEGIN + 1), partial) == []
        assert ledger.state.connections["c"].unheard == ["A-USD", "NOPE-USD"]
    number = 2 if exchange == "kraken" else 1
    assert ledger.record(Header(kind, 1, "c", number, BEGIN + 2), value) == []
    assert ledger.state.connections["c"].unheard == []
    later = Facts(transport=transport, pairs=["A-USD", "NOPE-USD"]).pack()
    assert ledger.record(Header(Kind.CHECKPOINT, 1, "c", number, BEGIN + HOUR), later) == []


def test_a_list_over_rest_does_not_end_the_gap_of_a_stream() -> None:
    ledger = GapLedger(EXCHANGES["kraken"], Channel.INSTRUMENT)
    facts = Facts(transport="ws", pairs=["A-USD"])
    ledger.record(Header(Kind.OPENED, 1, "c", 0, BEGIN), facts.pack())
    ledger.record(Header(Kind.SOCKET, 1, "c", 1, BEGIN + 1), kraken("snapshot", A="online"))
    [gap] = ledger.record(Header(Kind.CLOSED, 1, "c", 1, BEGIN + 2), Facts(reason="ended").pack())
    assert gap.stop is None
    ledger.record(Header(Kind.OPENED, 1, "r", 0, BEGIN + 3), Facts(transport="rest", pairs=["A-USD"]).pack())
    rest = b'{"error":[],"result":{"AUSD":{"wsname":"A/USD","status":"online"}}}'
    assert ledger.record(Header(Kind.REST, 1, "r", 1, BEGIN + 4), rest) == []
    ledger.record(Header(Kind.OPENED, 1, "d", 0, BEGIN + 5), facts.pack())
    [ended] = ledger.record(Header(Kind.SOCKET, 1, "d", 1, BEGIN + 6), kraken("snapshot", A="online"))
    assert (ended.start, ended.stop) == (gap.start, BEGIN + 6)
