"""A fault of ours, or a value that no column holds, costs one frame: in windows, worker and landing alike."""

import io
import json
import logging
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.model import BookUpdate, Candle, Channel, Event, Frame, Kind, Level, Pair, Side, Ticker, Trade
from coin_platform.records import INT64, YEAR_10000, Facts, Header, Record
from coin_platform.tables import dead_letters, processed, schema
from coin_platform.tables.dataframes import batch, raw_table, records, rows_table
from coin_platform.tables.gap_table import Gaps
from coin_platform.tables.transform import Transform
from tests.kit.fuzz import mutations, recorded
from tests.kit.landing import LandingPlace
from tests.kit.log import TIME, conserves, log
from tests.kit.raw_log import ConnectionLog, source_of

BTC = Pair("BTC", "KRW")
LONE = "\ud800"  # half of a pair of UTF-16, which no UTF-8 has


def ticker(**values: Any) -> Ticker:
    plain: dict[str, Any] = {"pair": BTC, "last": "1.5"}
    return Ticker(**plain | values)


def book(**values: Any) -> BookUpdate:
    plain: dict[str, Any] = {"pair": BTC, "is_snapshot": True, "bids": [Level(1.0, 1.0)], "asks": [Level(2.0, 1.0)]}
    return BookUpdate(**plain | values)


def trade(**values: Any) -> Trade:
    plain: dict[str, Any] = {"pair": BTC, "id": "1", "price": 1.5, "size": 2.0, "side": Side.BUY, "exchange_time": TIME}
    return Trade(**plain | values)


def candle(**values: Any) -> Candle:
    prices: dict[str, Any] = dict.fromkeys(("open", "high", "low", "close"), 1.5)
    return Candle(**{"pair": BTC, "open_time": TIME, "volume": 2.0, **prices} | values)


GOOD: dict[Channel, Event] = {
    Channel.TICKER: ticker(),
    Channel.ORDERBOOK: book(),
    Channel.TRADE: trade(),
    Channel.CANDLE: candle(),
}
MISFITS: list[tuple[Channel, Any, str]] = [
    (Channel.TICKER, ticker(pair=Pair(LONE, "KRW")), "KRW"),
    (Channel.TICKER, ticker(pair=Pair("B-C", "KRW")), "B-C-KRW"),
    (Channel.TICKER, ticker(exchange_time=INT64), "exchange_time"),
    (Channel.ORDERBOOK, book(last_sequence=INT64), "sequence"),
    (Channel.ORDERBOOK, book(last_sequence=-INT64 - 1), "sequence"),
    (Channel.ORDERBOOK, book(last_sequence=10**30), "sequence"),
    (Channel.ORDERBOOK, book(last_sequence="7"), "sequence"),
    (Channel.ORDERBOOK, book(exchange_time=1.5), "exchange_time"),
    (Channel.TRADE, trade(id=LONE), "id"),
    (Channel.TRADE, trade(id=7), "id"),
    (Channel.TRADE, trade(price=10**400), "price"),
    (Channel.TRADE, trade(exchange_time=INT64), "exchange_time"),
    (Channel.CANDLE, candle(open_time=INT64), "open_time"),
    (Channel.CANDLE, candle(is_closed="yes"), "is_closed"),
]


def says(monkeypatch: pytest.MonkeyPatch, events: dict[bytes, list[Any]]) -> None:
    """Let Upbit's messages say these events, whatever its own code makes of them."""

    def decode(frame: Frame) -> list[Event]:
        return list(events[frame.payload])

    monkeypatch.setattr(EXCHANGES["upbit"], "decode", decode)


@pytest.mark.parametrize(("channel", "misfit", "column"), MISFITS)
def test_D15_R1_a_value_that_does_not_fit_its_column_costs_one_frame_in_windows_worker_and_landing(
    monkeypatch: pytest.MonkeyPatch, channel: Channel, misfit: Any, column: str
) -> None:
    says(monkeypatch, {b"good": [GOOD[channel]], b"more": [GOOD[channel]], b"bad": [GOOD[channel], misfit]})
    place = LandingPlace("upbit", channel)
    place.log.append(b"bad")
    other = {Channel.TRADE: trade(id="2")}.get(channel, GOOD[channel])
    says(monkeypatch, {b"good": [GOOD[channel]], b"more": [other], b"bad": [other, misfit]})
    place.log.append(b"good", b"bad", b"more")
    made = batch(place.log.source, place.log.records())
    rows = made.rows.select("offset", "index").rows()
    assert made.dead["offset"].to_list() == [0, 2] and made.counts["frames_dead"] == 2
    assert set(made.dead["error"]) == {"DecodeError"} and all(column in reason for reason in made.dead["reason"])
    assert {offset for offset, _ in rows} <= {1, 3} and (3, 0) in rows, "the frame that follows is whole"
    assert conserves(made)
    place.log.run()
    assert [letter.offset for letter in place.log.letters] == [0, 2]
    assert {(record["offset"], record["index"]) for record in place.log.processed} >= set(rows)
    place.work(place.landing())
    assert set(place.scan().select("offset", "index").rows()) >= set(rows)


@pytest.mark.parametrize("broken", ["decode", "values", "apply", "encode"])
def test_D15_R1_a_fault_of_ours_is_a_dead_letter_with_its_class_and_one_traceback_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    channel = Channel.ORDERBOOK if broken == "apply" else Channel.TICKER
    place = LandingPlace("upbit", channel)
    exchange, target = place.log.source.exchange, b"bad"
    good = ticker() if channel is Channel.TICKER else book()
    bad = ticker(last="7") if channel is Channel.TICKER else book(bids=[Level(1.25, 1.0)])
    says(monkeypatch, {b"good": [good], target: [bad]})

    def failing(real: Callable[..., Any], is_bad: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if is_bad(*args):
                raise ZeroDivisionError("what nobody thought of")
            return real(*args, **options)

        return call

    if broken == "decode":
        monkeypatch.setattr(exchange, "decode", failing(exchange.decode, lambda frame: frame.payload == target))
    elif broken == "apply":
        monkeypatch.setattr(exchange, "apply", failing(exchange.apply, lambda _, update: update.bids[0].price == 1.25))
    elif broken == "values":
        _, values, reader = Transform._READERS[channel]
        wrapped = failing(values or tuple, lambda event: event.last == "7")
        monkeypatch.setitem(Transform._READERS, channel, (Ticker, wrapped, reader))
    else:
        wrapped = failing(processed.encode, lambda _, __, entry: entry.event.last == "7")
        monkeypatch.setattr(processed, "encode", wrapped)
    place.log.append(b"good", target, target, b"good")
    with caplog.at_level(logging.ERROR):
        place.log.run()
    letters = place.log.letters
    assert [letter.offset for letter in letters] == [1, 2]
    assert {(letter.error, letter.reason) for letter in letters} == {
        ("ZeroDivisionError", "ZeroDivisionError: what nobody thought of")
    }
    assert [record["offset"] for record in place.log.processed] == [0, 3]
    assert len([record for record in caplog.records if record.exc_info]) == 1, "one traceback for a class of errors"
    made = batch(place.log.source, place.log.records())
    place.work(place.landing())
    landed = place.scan().sort("offset")
    if broken == "encode":  # the tables need no JSON: nothing is lost there
        assert made.rows["offset"].sort().to_list() == landed["offset"].to_list() == [0, 1, 2, 3]
        return
    assert made.rows["offset"].sort().to_list() == landed["offset"].to_list() == [0, 3]
    assert made.dead.select("offset", "error", "reason").rows() == [
        (letter.offset, letter.error, letter.reason) for letter in letters
    ]
    assert conserves(made)


def test_R1_what_is_told_in_a_dead_frame_counts_as_told_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, {b"bad": [trade(id="1"), trade(id=LONE)], b"good": [trade(id="1")]})
    made = batch(source_of("upbit", Channel.TRADE), log([b"bad", b"good"]))
    assert made.rows.select("id", "offset").rows() == [("1", 1)]
    says(monkeypatch, {b"bad": [candle(), candle(open_time=INT64)], b"good": [candle()]})
    made = batch(source_of("upbit", Channel.CANDLE), log([b"bad", b"good"]))
    assert (made.rows["offset"].to_list(), made.counts["rows_replaced"]) == ([1], 0)
    assert conserves(made)


@pytest.mark.parametrize(
    "header",
    [
        f"w,{INT64},c,1,{TIME}",
        f"w,1,c,{INT64},{TIME}",
        f"w,1,c,1,{INT64}",
        f"w,1,c,1,{YEAR_10000}",
        f"w,-1,c,1,{TIME}",
        f"w,1,c,-1,{TIME}",
        f"w,1,c,{'9' * 5000},{TIME}",
        f"w,1,c{LONE},1,{TIME}",
        f"w,1,\xff,1,{TIME}",
        LONE,
        "\\xff",
        "",
    ],
)
def test_D15_R1_a_header_that_no_column_holds_is_a_dead_letter_and_stored_with_its_bytes(header: str) -> None:
    place = source_of("upbit", Channel.TICKER)
    good = recorded("upbit")[0].payload
    whole = [*log([good]), Record(1, TIME + 1, header, b"?"), *log([b"", good], start=1)[1:]]
    made = batch(place, whole)
    assert made.dead.select("offset", "error", "number", "payload").rows() == [(1, "DecodeError", None, b"?")]
    raw = read_back(raw_table(whole))
    assert raw["kind"].to_list() == ["w", None, "w"] and raw["payload"][1] == b"?"
    again = batch(place, records(raw))
    assert again.dead["offset"].to_list() == [1] and again.rows.equals(made.rows)
    gaps = Gaps(place, None)
    gaps.read(whole)
    assert gaps.table().is_empty()


def test_D15_R1_a_header_that_reads_like_ours_but_is_written_otherwise_keeps_its_text() -> None:
    text = f"w,1,c,+1,{TIME}"
    [record] = records(raw_table([Record(0, TIME, text, b"?")]))
    assert record.header == text


def test_R1_one_of_our_records_that_names_no_pair_costs_that_record_alone() -> None:
    place, good = source_of("upbit", Channel.TICKER), recorded("upbit")[0].payload
    value = Facts(pairs=["nonsense"]).pack()
    opened = Record(0, TIME, Header(Kind.OPENED, 1, "c", 0, TIME).pack(), value)
    whole = [opened, *log([good], start=1)]
    assert batch(place, whole).dead["offset"].to_list() == [0]
    gaps = Gaps(place, None)
    gaps.read(whole)
    assert gaps.table().schema == schema.GAP


def test_R1_a_fault_of_ours_while_a_gap_looks_for_what_fills_it_is_no_end_of_the_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = source_of("upbit", Channel.TRADE)

    def facts(kind: Kind, offset: int, reason: str = "") -> Record:
        value = Facts(pairs=[str(BTC)], reason=reason).pack()
        return Record(offset, TIME + offset, Header(kind, 1, "c", 0, TIME + offset).pack(), value)

    answer = Record(2, TIME + 2, Header(Kind.REST, 1, "r", 1, TIME + 2, BTC).pack(), b"[]")
    monkeypatch.setattr(EXCHANGES["upbit"], "decode", lambda frame: 1 / 0)
    gaps = Gaps(place, None)
    gaps.read([facts(Kind.OPENED, 0), facts(Kind.CLOSED, 1, "reset"), answer])
    assert gaps.table().select("cause", "filled_by").rows() == [("disconnect", None)]


def read_back(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table as a reader of the lake gets it."""
    file = io.BytesIO()
    table.write_parquet(file)
    file.seek(0)
    stored = pl.read_parquet(file)
    assert stored.equals(table)
    assert stored.schema == table.schema
    return stored


def fuzzed(exchange: Exchange, seed: int, count: int) -> Iterator[tuple[Channel, Record]]:
    """Yield recorded frames as records, every second one changed in one way or several."""
    numbers, chance, originals = dict.fromkeys(Channel, 0), random.Random(seed), recorded(exchange.name)
    changed = mutations(chance, originals)
    for offset in range(count):
        frame = next(changed) if offset % 2 else chance.choice(originals)
        numbers[frame.channel] += 1
        name = "r" if frame.kind is Kind.REST else "c"
        time = frame.received_time
        header = Header(frame.kind, 1, name, numbers[frame.channel], time, frame.pair)
        yield frame.channel, Record(offset, TIME + offset, header.pack(), frame.payload)


@pytest.mark.no_cover  # much work, all of it covered by small tests
@pytest.mark.parametrize("count", [150, pytest.param(4_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_D15_R1_whatever_decode_accepts_is_written_and_read_back_in_all_tables_and_records(
    exchange: str, count: int
) -> None:
    speaker, seed = EXCHANGES[exchange], zlib.crc32(exchange.encode())
    logs: dict[Channel, list[Record]] = {channel: [] for channel in Channel}
    for channel, record in fuzzed(speaker, seed, count):
        logs[channel].append(record)
    accepted = 0
    for channel, whole in logs.items():
        place = Source(speaker, channel, "t", 0)
        made = batch(place, whole)
        faults = [dead for dead in made.transform.dead if dead.is_ours]
        assert not faults, f"seed {seed}: {faults[0].error!r} for {faults[0].record.value[:200]!r}"
        assert conserves(made)
        read_back(made.rows)
        read_back(made.dead)
        raw = read_back(raw_table(whole))
        assert list(records(raw)) == whole
        gaps = Gaps(place, None)
        gaps.read(whole, made.rows)
        read_back(gaps.table())
        transform = Transform(place)
        for record in whole:
            entries, values = dead_letters.encoded(transform, record)
            assert len(entries) == len(values)
            read_back(rows_table(channel, [entry.row for entry in entries]))
            assert all(json.loads(value)["offset"] == record.offset for value in values)
            accepted += len(entries)
        for dead in transform.dead:
            assert dead_letters.unpack(dead_letters.letter(place, dead, TIME).pack()).record == dead.record
    assert accepted > 0


def test_R1_the_text_of_an_error_is_stored_whatever_it_quotes() -> None:
    place = ConnectionLog("upbit", Channel.TICKER)
    [record] = log([b"?"])
    transform = Transform(place.source)
    transform.feed(record)
    dead = transform.dead[0]._replace(error=DecodeError(f"{LONE} cannot be"))
    assert dead.reason == "\\ud800 cannot be"
    assert dead_letters.unpack(dead_letters.letter(place.source, dead, TIME).pack()).reason == dead.reason
