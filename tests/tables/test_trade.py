"""Trades to rows: values, and that a trade that is told twice is one row."""

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Channel, Pair
from coin_platform.records import Record
from coin_platform.tables import quality, schema
from coin_platform.tables.dataframes import batch
from coin_platform.tables.known_trades import TRADE_MEMORY
from coin_platform.tables.transform import Transform
from tests.kit.log import TIME, answer, conserves, log, recorded
from tests.kit.recordings import files

BTC, ETH = Pair("BTC", "USDT"), Pair("ETH", "USDT")
MINUTE = 60 * SECOND
START = TIME // (2 * MINUTE) * (2 * MINUTE)
BINANCE = Source(EXCHANGES["binance"], Channel.TRADE, "neSocketDataIn-trade", 0)


def said(id: int, symbol: str = "BTCUSDT", *, price: str = "100.5", size: str = "0.25", after_ms: int = 0) -> bytes:
    """Make a trade as the socket tells it."""
    time = 1777000000000 + after_ms
    row = {"e": "trade", "E": time + 1, "s": symbol, "t": id, "p": price, "q": size, "T": time, "m": True}
    return json.dumps(row).encode()


def answered(offset: int, *ids: int, pair: Pair = BTC) -> Record:
    """Make a REST answer with the recent trades."""
    rows = [{"id": id, "price": "100.5", "qty": "0.25", "time": 1777000000000, "isBuyerMaker": True} for id in ids]
    return answer(offset, pair, json.dumps(rows).encode())


def test_a_trade_becomes_one_row_with_its_origin() -> None:
    result = batch(BINANCE, log([said(7)]))
    row = result.rows.to_dicts()[0]
    assert result.rows.schema == schema.CURATED[Channel.TRADE]
    assert [row[name] for name in ("pair", "id", "price", "size", "side")] == ["BTC-USDT", "7", 100.5, 0.25, "sell"]
    assert row["exchange_time"].timestamp() == 1777000000
    assert (row["connection"], row["number"], row["offset"], row["index"], row["transport"]) == ("c", 1, 0, 0, "ws")
    assert conserves(result)


def test_an_unknown_side_is_null() -> None:
    rows = batch(Source(EXCHANGES["coinone"], Channel.TRADE, "t", 2), recorded("coinone", "trade")).rows
    assert rows.select("id", "price", "size", "side").rows()[0] == ("1693560450996001", 688.3, 5000.0, None)


def test_each_trade_of_a_frame_is_a_row() -> None:
    result = batch(BINANCE, [answered(0, 1, 2, 3)])
    assert result.rows.select("id", "index", "transport").rows() == [
        ("1", 0, "rest"),
        ("2", 1, "rest"),
        ("3", 2, "rest"),
    ]
    assert (result.counts["frames_rows"], result.counts["rows_emitted"]) == (1, 3)


def test_a_rest_answer_gives_only_the_trades_that_the_socket_did_not() -> None:
    result = batch(BINANCE, [*log([said(1), said(2)]), answered(2, 1, 2, 3), answered(3, 2, 3)])
    assert result.rows.select("id", "transport", "offset", "index").rows() == [
        *(("1", "ws", 0, 0), ("2", "ws", 1, 0), ("3", "rest", 2, 2)),
    ]
    counts = result.counts
    assert (counts["frames"], counts["frames_rows"], counts["frames_duplicate"]) == (4, 3, 1)
    assert (counts["rows_emitted"], counts["rows_repeated"]) == (3, 4)
    assert conserves(result)
    assert quality.one_row_a_trade(result.rows).passed


def test_the_same_id_of_another_pair_is_another_trade() -> None:
    result = batch(BINANCE, [*log([said(1), said(1, "ETHUSDT")]), answered(2, 1, pair=ETH)])
    assert result.rows.select("pair", "offset").rows() == [("BTC-USDT", 0), ("ETH-USDT", 1)]
    assert conserves(result)


def test_trades_without_an_id_are_all_kept() -> None:
    upbit = Source(EXCHANGES["upbit"], Channel.TRADE, "t", 0)
    trade = {"market": "KRW-BTC", "timestamp": 1777000000000, "trade_price": 1.5, "trade_volume": 2, "ask_bid": "ASK"}
    result = batch(upbit, [answer(0, Pair("BTC", "KRW"), json.dumps([trade, trade]).encode())])
    assert result.rows.select("id", "price", "size", "side").rows() == [(None, 1.5, 2.0, "sell")] * 2
    assert conserves(result)


def test_a_trade_is_known_in_its_window_and_in_later_ones() -> None:
    seconds = [0, 50, 89, 90, 120, 239, 271, 330, 331, 359]  # windows of two minutes; a lead of 30 s
    ids = [1, 2, 1, 2, 2, 3, 3, 4, 5, 4]
    records = [
        record._replace(time=START + second * SECOND)
        for second, record in zip(seconds, log([said(id) for id in ids]), strict=True)
    ]
    transform = Transform(BINANCE, window=2 * MINUTE)
    told = [len(transform.feed(record)) for record in records]
    assert told == [1, 1, 0, 0, 0, 1, 0, 1, 1, 0]
    assert transform.repeated == 5
    late = [records[5]._replace(time=START + 209 * SECOND), records[6]]  # before the lead
    transform = Transform(BINANCE, window=2 * MINUTE)
    assert [len(transform.feed(record)) for record in late] == [1, 0]


def test_S6_a_trade_that_comes_again_behind_a_boundary_is_one_row_live_and_in_the_windows() -> None:
    seconds = [10, 95, 119, 120, 121, 149, 239, 241, 400]
    ids = [1, 2, 3, 2, 1, 3, 4, 4, 4]
    records = [
        record._replace(time=START + second * SECOND)
        for second, record in zip(seconds, log([said(id) for id in ids]), strict=True)
    ]
    transform = Transform(BINANCE, window=2 * MINUTE)
    live = [record.offset for record in records if transform.feed(record)]
    stored = []
    for begin in range(START, START + 8 * MINUTE, 2 * MINUTE):
        fed = [record for record in records if record.time < begin + 2 * MINUTE]
        start = next((record.offset for record in records if record.time >= begin), len(records))
        stored += batch(BINANCE, fed, start, window=2 * MINUTE).rows["offset"].sort().to_list()
    assert live == stored == [0, 1, 2, 6]


def test_trades_before_the_start_are_known_but_neither_rows_nor_counted() -> None:
    result = batch(BINANCE, [*log([said(1), said(2)]), answered(2, 1), answered(3, 2, 3)], 1)
    assert result.rows.select("id", "offset").rows() == [("2", 1), ("3", 3)]
    assert (result.counts["frames"], result.counts["frames_duplicate"], result.counts["rows_repeated"]) == (3, 1, 2)
    lead = batch(BINANCE, log([said(1), said(1), said(1)]), 2)
    assert (lead.rows.height, lead.counts["rows_repeated"]) == (0, 1)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=8))
def test_every_trade_is_told_or_repeated(answers: list[list[int]]) -> None:
    result = batch(BINANCE, [answered(offset, *ids) for offset, ids in enumerate(answers)])
    told = [id for ids in answers for id in ids]
    assert sorted(map(int, result.rows["id"])) == sorted(set(told))
    first = {id: next(n for n, ids in enumerate(answers) if id in ids) for id in told}
    assert {int(id): offset for id, offset in result.rows.select("id", "offset").rows()} == first
    assert result.counts["rows_emitted"] + result.counts["rows_repeated"] == len(told)
    assert conserves(result)


@pytest.mark.parametrize(("exchange", "stem"), [(name, path.stem) for name, path in files("*trade*")])
def test_recorded_trades_keep_the_rules(exchange: str, stem: str) -> None:
    result = batch(Source(EXCHANGES[exchange], Channel.TRADE, "t", 0), recorded(exchange, stem))
    assert result.rows.height > 0
    assert result.rows["side"].is_in(["buy", "sell", None], nulls_equal=True).all()
    assert conserves(result)
    assert quality.columns(result.rows, schema.CURATED[Channel.TRADE]).passed
    assert quality.one_row_a_trade(result.rows).passed


OTHERS = {
    "46 s later at another price": {"price": "99.5", "after_ms": 46_000},
    "another price": {"price": "99.5"},
    "another size": {"size": "0.5"},
    "46 s later": {"after_ms": 46_000},
    "46 s earlier": {"after_ms": -46_000},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_R14_two_trades_under_one_id_are_both_stored_and_counted(other: dict[str, Any]) -> None:
    payloads = [said(7), said(7, **other)]
    result = batch(BINANCE, log([*payloads, *payloads, said(8)]))
    assert result.rows.select("id", "offset").rows() == [("7", 0), ("7", 1), ("8", 4)]
    counts = result.counts
    assert (counts["trades_same_id"], counts["rows_repeated"], counts["frames_duplicate"]) == (1, 2, 2)
    assert conserves(result)
    finding = quality.one_row_a_trade(result.rows)
    assert finding.passed and finding.numbers["same_id"] == 1
    assert finding.sentence == "none of 3 rows repeats a trade; 1 have the id of another trade"


def test_R14_one_trade_whose_times_differ_in_their_digits_is_one_row() -> None:
    result = batch(BINANCE, log([said(7, after_ms=999), said(7)]))
    assert (result.rows.height, result.counts["trades_same_id"]) == (1, 0)


def test_R14_a_trade_that_is_there_twice_fails_the_check_beside_others_of_its_id() -> None:
    rows = batch(BINANCE, log([said(7), said(7, price="99.5")])).rows
    finding = quality.one_row_a_trade(pl.concat([rows, rows.head(1)]))
    assert not finding.passed and finding.sentence == "1 rows repeat a trade; 1 have the id of another trade"


def test_R14_what_is_remembered_of_an_id_is_forgotten_by_its_age_and_counted_in_its_window() -> None:
    whole = log([said(7), said(7, price="99.5"), said(7, price="98.5")])
    assert batch(BINANCE, whole, 2).counts["trades_same_id"] == 1
    transform = Transform(BINANCE, 0, MINUTE)
    times = (START, START + MINUTE - SECOND, START + 2 * MINUTE)
    rows = [
        row for record, time in zip(whole, times, strict=True) for row in transform.feed(record._replace(time=time))
    ]
    assert len(rows) == 3
    again = whole[0]._replace(offset=3, header=log([b""] * 4)[3].header)
    assert transform.feed(again._replace(time=START + TRADE_MEMORY + 3 * MINUTE)), "it was told too long ago"
