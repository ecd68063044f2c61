"""Candles to rows: values, and that a minute that is told again and again is one row, the last."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import Channel, Pair
from coin_platform.records import Record
from coin_platform.tables import quality, schema
from coin_platform.tables.dataframes import batch
from coin_platform.tables.transform import Transform
from tests.kit.log import TIME, answer, conserves, log, recorded
from tests.kit.recordings import files

BTC, ETH = Pair("BTC", "USDT"), Pair("ETH", "USDT")
BINANCE = Source(EXCHANGES["binance"], Channel.CANDLE, "neSocketDataIn-candle", 0)
FIRST = 1_777_000_020_000  # ms; a whole minute


def said(minute: int, close: float, *, symbol: str = "BTCUSDT", is_closed: bool = False) -> bytes:
    """Make an update of a minute as the socket tells it."""
    candle = {"t": FIRST + 60_000 * minute, "s": symbol, "i": "1m", "o": "100", "c": str(close), "h": "200", "l": "50"}
    row = {"e": "kline", "E": FIRST + 1, "s": symbol, "k": candle | {"v": "3", "q": "300", "x": is_closed}}
    return json.dumps(row).encode()


def answered(offset: int, candles: dict[int, float], pair: Pair = BTC) -> Record:
    """Make a REST answer: the close of each minute."""
    rows = [[FIRST + 60_000 * m, "100", "200", "50", str(close), "3", 0, "300", 1] for m, close in candles.items()]
    return answer(offset, pair, json.dumps(rows).encode())


def test_a_candle_becomes_one_row_with_its_origin() -> None:
    result = batch(BINANCE, log([said(0, 101.5, is_closed=True)]))
    row = result.rows.to_dicts()[0]
    assert result.rows.schema == schema.CURATED[Channel.CANDLE]
    assert [row[name] for name in ("pair", "open", "high", "low", "close")] == ["BTC-USDT", 100, 200, 50, 101.5]
    assert (row["volume"], row["quote_volume"], row["is_closed"]) == (3, 300, True)
    assert row["open_time"].timestamp() * 1000 == FIRST
    assert (row["connection"], row["number"], row["offset"], row["index"], row["transport"]) == ("c", 1, 0, 0, "ws")
    assert conserves(result)


def test_what_an_exchange_does_not_send_is_null() -> None:
    rows = batch(Source(EXCHANGES["kraken"], Channel.CANDLE, "t", 1), recorded("kraken", "candle")).rows
    assert rows.select("quote_volume", "is_closed").unique().rows() == [(None, None)]


def test_a_window_keeps_the_last_update_of_each_minute() -> None:
    updates = [said(0, 101), said(0, 102), said(1, 103), said(0, 104, is_closed=True), said(1, 105)]
    result = batch(BINANCE, log([*updates, said(0, 7, symbol="ETHUSDT")]))
    assert result.rows.select("pair", "close", "offset", "is_closed").rows() == [
        *(("BTC-USDT", 104, 3, True), ("BTC-USDT", 105, 4, False), ("ETH-USDT", 7, 5, False)),
    ]
    counts = result.counts
    assert (counts["frames_rows"], counts["rows_emitted"], counts["rows_replaced"]) == (6, 6, 3)
    assert conserves(result)


def test_a_rest_answer_with_old_minutes_goes_the_same_way() -> None:
    answers = [answered(0, {2: 103, 1: 102, 0: 101}), *log([said(2, 104)], start=1), answered(2, {3: 106, 2: 105})]
    result = batch(BINANCE, answers)
    assert result.rows.select("close", "offset", "index").rows() == [
        *((101, 0, 2), (102, 0, 1), (105, 2, 1), (106, 2, 0)),
    ]
    assert (result.counts["rows_emitted"], result.counts["rows_replaced"]) == (6, 2)
    assert conserves(result)


def test_the_update_after_a_window_s_end_is_a_row_of_the_next_window() -> None:
    whole = log([said(0, 101), said(0, 102), said(0, 103, is_closed=True)])
    assert batch(BINANCE, whole[:2]).rows["close"].to_list() == [102]
    assert batch(BINANCE, whole[2:]).rows["close"].to_list() == [103]
    lead = batch(BINANCE, whole, 2)
    assert (lead.rows["close"].to_list(), lead.counts["rows_replaced"]) == ([103], 0)
    assert conserves(lead)


def test_a_live_transform_gives_every_update_and_counts_by_window() -> None:
    records = [record._replace(time=TIME + 30 * n) for n, record in enumerate(log([said(0, 101)] * 5))]
    transform = Transform(BINANCE, window=60)
    assert [len(transform.feed(record)) for record in records] == [1] * 5
    assert transform.replaced == 2


@given(st.lists(st.dictionaries(st.integers(0, 5), st.integers(60, 190), max_size=4), max_size=8))
def test_the_table_is_what_was_told_last(answers: list[dict[int, int]]) -> None:
    result = batch(BINANCE, [answered(offset, dict(candles)) for offset, candles in enumerate(answers)])
    expected = {minute: close for candles in answers for minute, close in candles.items()}
    minutes = (pl.col("open_time").dt.epoch("ms") - FIRST) // 60_000
    assert result.rows.select(minutes, "close").rows() == sorted(expected.items())
    assert result.counts["rows_emitted"] - result.counts["rows_replaced"] == len(expected)
    assert conserves(result)


# Among Binance's is its document's example, whose open is below its low.
RECORDINGS = [(name, path.stem) for name, path in files("*candle") if (name, path.stem) != ("binance", "candle")]


@pytest.mark.parametrize(("exchange", "stem"), RECORDINGS)
def test_recorded_candles_keep_the_rules(exchange: str, stem: str) -> None:
    result = batch(Source(EXCHANGES[exchange], Channel.CANDLE, "t", 0), recorded(exchange, stem))
    assert result.rows.height > 0
    assert conserves(result)
    assert quality.columns(result.rows, schema.CURATED[Channel.CANDLE]).passed
    assert quality.ohlc(result.rows).passed
