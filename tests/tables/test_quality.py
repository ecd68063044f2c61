"""Rules pass on what is right and fail on what they are for."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import Channel
from coin_platform.tables import quality, schema
from coin_platform.tables.dataframes import Batch, batch
from tests.kit.log import recorded


def result(exchange: str, channel: Channel) -> Batch:
    """Return the table of a recording."""
    return batch(Source(EXCHANGES[exchange], channel, "t", 0), recorded(exchange, channel.value))


def test_S6_rows_that_vanish_or_come_twice_break_conservation() -> None:
    found = result("upbit", Channel.TICKER)
    assert quality.conservation(found.rows, found.counts).passed
    assert not quality.conservation(found.rows.head(1), found.counts).passed
    assert not quality.conservation(pl.concat([found.rows, found.rows]), found.counts).passed
    assert not quality.conservation(found.rows, found.counts | {"frames_dead": 1}).passed


def test_only_rows_that_were_counted_as_replaced_may_be_missing() -> None:
    found = result("bybit", Channel.CANDLE)
    finding = quality.conservation(found.rows, found.counts)
    assert finding.passed
    assert finding.numbers == {"frames": 17, "stored": 4, "double": 0, "rows": 4, "emitted": 16, "replaced": 12}
    assert finding.sentence == (
        "17 frames in, 4 stored as rows, 13 accounted otherwise; 12 of 16 rows replaced by later ones"
    )
    assert not quality.conservation(found.rows.head(3), found.counts).passed
    assert not quality.conservation(found.rows, found.counts | {"rows_replaced": 11}).passed
    # as many rows as there should be, but of frames that gave none
    assert not quality.conservation(found.rows, found.counts | {"frames_rows": 3, "frames_control": 14}).passed


def test_a_column_that_is_missing_or_an_origin_that_is_unknown_breaks_the_schema() -> None:
    wanted = schema.CURATED[Channel.TICKER]
    rows = result("upbit", Channel.TICKER).rows
    assert quality.columns(rows, wanted).passed
    assert not quality.columns(rows.drop("last"), wanted).passed
    assert not quality.columns(rows.with_columns(pair=pl.lit(None, pl.String)), wanted).passed


@pytest.mark.parametrize(
    ("offsets", "stop", "passed"), [([3, 4, 5], 6, True), ([3, 5], 6, False), ([3, 4, 4], 5, False), ([], 3, True)]
)
def test_a_window_holds_each_of_its_offsets_once(offsets: list[int], stop: int, passed: bool) -> None:
    assert quality.tiling(pl.Series(offsets, dtype=pl.Int64), 3, stop).passed is passed


def test_D1_a_log_that_began_anew_is_a_failed_check_that_leaves_the_window_usable() -> None:
    offsets = pl.Series([0, 1], dtype=pl.Int64)
    new = quality.tiling(offsets, 0, 2, former_stop=500)
    kept = quality.tiling(offsets, 0, 2, kept_from=7)
    assert (new.passed, new.warns, kept.passed, kept.warns) == (False, True, False, True)
    assert "held from offset 500 on was lost: see table gap" in new.sentence
    assert "holds 7 records of this window: the stored ones are kept" in kept.sentence
    assert not quality.tiling(offsets, 0, 3, former_stop=500).warns, "an offset is missing besides"


def test_a_crossed_book_is_named() -> None:
    finding = quality.crossed(pl.DataFrame({"pair": ["A-B", "C-D"], "best_bid": [1.0, 3.0], "best_ask": [2.0, 3.0]}))
    assert not finding.passed
    assert finding.sentence == "1 rows are crossed: C-D"


def test_trades_without_an_id_are_no_doubles() -> None:
    trades = pl.DataFrame({"pair": ["A-B", "A-B", "A-B", "C-D"], "id": [None, None, "1", "1"]})
    finding = quality.one_row_a_trade(trades)
    assert finding.passed
    assert finding.numbers == {"rows": 4, "named": 2, "double": 0}
    double = quality.one_row_a_trade(trades.with_columns(pair=pl.lit("A-B")))
    assert not double.passed
    assert double.sentence == "1 rows repeat a trade"


RIGHT = {"pair": "A-B", "open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5, "volume": 0.0}


def candles(*minutes: int, **changed: float) -> pl.DataFrame:
    """Return a candle for each minute; the last one is changed."""
    rows = [RIGHT | {"open_time": datetime(2026, 11, 2, 0, minute, tzinfo=UTC)} for minute in minutes]
    return pl.DataFrame([*rows[:-1], rows[-1] | changed])


@pytest.mark.parametrize("changed", [{}, {"low": 2.0}, {"high": 2.5}, {"high": 2.0, "low": 2.0, "close": 2.0}])
def test_a_candle_may_have_no_length(changed: dict[str, float]) -> None:
    assert quality.ohlc(candles(1, 2, **changed)).passed


@pytest.mark.parametrize(
    "changed", [{"low": 2.1}, {"high": 2.4}, {"open": 0.9}, {"open": 3.1}, {"close": 0.9}, {"volume": -0.1}]
)
def test_a_candle_that_cannot_be_is_named(changed: dict[str, float]) -> None:
    finding = quality.ohlc(candles(1, 2, **changed))
    assert not finding.passed
    assert finding.sentence == "1 of 2 candles cannot be: A-B; 0 are double"


def test_a_minute_is_one_candle() -> None:
    finding = quality.ohlc(candles(1, 2, 1))
    assert not finding.passed
    assert finding.sentence == "0 of 3 candles cannot be; 1 are double"


def test_latency_is_counted_from_the_exchange_to_us_where_both_times_are_known() -> None:
    sent = datetime(2026, 11, 2, tzinfo=UTC)
    rows = pl.DataFrame(
        {
            "exchange_time": [sent] * 100 + [None],
            "received_time": [sent + timedelta(milliseconds=milliseconds) for milliseconds in range(101)],
        },
    )
    assert quality.latency(rows) == {"latency_p50_ms": 50.0, "latency_p95_ms": 94.0, "latency_p99_ms": 98.0}
    assert quality.latency(rows.tail(1).with_columns(pl.col("exchange_time").cast(schema.TIME))) == {}
