"""Records to rows: values, doubles, dead letters, books, and that nothing goes unaccounted."""

import math

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import BookUpdate, Cause, Channel, Kind, Pair, Subscribed, Ticker
from coin_platform.records import Checkpoint, Facts, Header, Record
from coin_platform.tables import quality, schema, ticker
from coin_platform.tables.dataframes import batch
from coin_platform.tables.orderbook import spread
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import raw_topic
from tests.kit.log import TIME, conserves, log, own, recorded
from tests.kit.recordings import frames

OKX = Source(EXCHANGES["okx"], Channel.ORDERBOOK, raw_topic("asia", Channel.ORDERBOOK), 0)
KRAKEN = Source(EXCHANGES["kraken"], Channel.ORDERBOOK, raw_topic("ne", Channel.ORDERBOOK), 1)
UPBIT = Source(EXCHANGES["upbit"], Channel.TICKER, raw_topic("korea", Channel.TICKER), 0)


def test_a_ticker_becomes_one_row_with_its_origin() -> None:
    result = batch(UPBIT, recorded("upbit", "ticker")[:1])
    row = result.rows.to_dicts()[0]
    assert result.rows.schema == schema.CURATED[Channel.TICKER]
    assert (row["pair"], row["last"], row["change_rate_day"]) == ("BTC-KRW", 32287000.0, 0.0126713295)
    assert (row["topic"], row["partition"], row["offset"], row["index"]) == ("koreaSocketDataIn-ticker", 0, 0, 0)
    assert (row["connection"], row["number"], row["transport"]) == ("c", 1, "ws")
    assert conserves(result)


def test_missing_changes_and_rates_are_computed_from_the_exchange_s_own_text() -> None:
    names = list(schema.TICKER_COLUMNS)[4:]
    pair = Pair("BTC", "USDT")
    one = dict(zip(names, ticker.values(Ticker(pair=pair, last="66199.8", open_24h="66568.8")), strict=False))
    assert (one["change_24h"], one["change_rate_24h"]) == (-369.0, -369.0 / 66568.8)
    two = dict(zip(names, ticker.values(Ticker(pair=pair, last="10.5", change_24h="0.5")), strict=False))
    assert (two["open_24h"], two["change_rate_24h"]) == (10.0, 0.05)
    given = Ticker(pair=pair, last="1", prev_close_day="2", change_rate_24h="0.1", change_rate_day="-0.5")
    three = dict(zip(names, ticker.values(given), strict=False))
    assert (three["change_day"], three["change_rate_24h"], three["change_rate_day"]) == (-1.0, 0.1, -0.5)
    none = dict(zip(names, ticker.values(Ticker(pair=pair, last="1")), strict=False))
    tiny = dict(zip(names, ticker.values(Ticker(pair=pair, last="1", open_24h="5e-324")), strict=False))
    assert tiny["change_rate_24h"] is None and tiny["open_24h"] == 5e-324
    assert none["change_rate_24h"] is none["open_24h"] is none["best_bid"] is None


@pytest.mark.parametrize(
    ("bid", "ask", "wanted"),
    [(66609.22, 66619.98, 10.76), (1e-7, 3e-7, 2e-7), (1e22, 2e22, 1e22), (None, 1.0, None), (1.0, None, None)],
)
def test_a_spread_has_the_digits_of_its_prices(bid: float | None, ask: float | None, wanted: float | None) -> None:
    assert spread(bid, ask) == wanted


def test_recorded_books_become_rows_whose_totals_are_exact() -> None:
    result = batch(KRAKEN, recorded("kraken", "book_sequence_2"))
    rows = result.rows
    assert rows.height == result.counts["frames_rows"] == 1129
    assert result.counts["frames_control"] == 41
    assert conserves(result)
    assert quality.crossed(rows).passed
    assert rows.select((pl.col("best_ask") - pl.col("best_bid") - pl.col("spread")).abs().max()).item() < 1e-6
    last = rows.sort("offset").tail(1).to_dicts()[0]
    assert last["bid_levels"] == last["ask_levels"] == 25
    assert last["bid_prices"] == sorted(last["bid_prices"], reverse=True)
    assert last["total_bid_size"] >= math.fsum(last["bid_sizes"])


@pytest.mark.no_cover  # much work, all of it covered by small tests
@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 1169), max_size=4))
def test_a_table_does_not_depend_on_how_the_log_was_cut(cuts: list[int]) -> None:
    whole = recorded("kraken", "book_sequence_2")
    transform = Transform(KRAKEN)
    rows = []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(whole)], strict=True):
        rows += [row for record in whole[start:stop] for row in transform.feed(record)]
    assert sorted(row.offset for row in rows) == batch(KRAKEN, whole).rows["offset"].sort().to_list()


def test_a_window_that_starts_from_a_checkpoint_gives_the_same_rows() -> None:
    whole = recorded("kraken", "book_sequence_2")
    wanted = batch(KRAKEN, whole).rows.filter(pl.col("offset") >= 600)
    transform = Transform(KRAKEN)
    for record in whole[:600]:
        transform.feed(record)
    [book] = transform.books.shelf("c").values()
    checkpoint = own(599, Kind.CHECKPOINT, Facts(book=Checkpoint.of(book.snapshot(Pair("ETH", "USD")))))
    result = batch(KRAKEN, [checkpoint, *whole[600:]], 600)
    assert result.rows.equals(wanted)
    assert result.counts["faults"] == 0
    # and one that the books arrive at proves them
    again = batch(KRAKEN, [*whole[:600], checkpoint, *whole[600:]])
    assert again.counts["faults"] == 0


def test_a_book_that_is_not_the_collector_s_is_a_fault_that_names_the_pair() -> None:
    whole = recorded("okx", "book_sequence_1")
    transform = Transform(OKX)
    for record in whole[:50]:
        transform.feed(record)
    [book] = transform.books.shelf("c").values()
    right = Checkpoint.of(book.snapshot(Pair("BTC", "USDT")))
    wrong = msgspec.structs.replace(right, sequence=1)
    transform.feed(own(50, Kind.CHECKPOINT, Facts(book=wrong)))
    [(offset, fault)] = transform.faults
    assert (offset, fault.cause, fault.pair) == (50, Cause.CHECKPOINT, Pair("BTC", "USDT"))


def test_a_lost_message_ends_the_rows_of_its_pair_until_the_next_snapshot() -> None:
    books = [frame.payload for frame in frames("kraken", "book_sequence_1") if b'"channel":"book"' in frame.payload]
    whole = log(books)
    del whole[10]
    result = batch(KRAKEN, whole)
    assert result.counts["missing"] == 1
    assert result.counts["faults"] == 1
    assert result.counts["frames_invalid"] > 0
    assert 0 < result.counts["frames_rows"] < len(whole)
    assert conserves(result)


def test_a_book_that_nothing_begins_is_told_once_in_each_window() -> None:
    changes = recorded("okx", "book_sequence_1")[1:]
    for start in (0, 20):
        found = batch(OKX, changes, start)
        [(offset, fault)] = found.transform.faults
        assert (offset, fault.cause) == (max(1, start), Cause.NO_BOOK)
        assert found.counts["faults"] == 0 < found.counts["frames_invalid"]


def test_a_closed_connection_takes_its_books_along() -> None:
    whole = recorded("okx", "book_sequence_1")
    closed = own(10, Kind.CLOSED, Facts(reason="gone"))
    result = batch(OKX, [*whole[:10], closed, *whole[11:]])
    assert result.counts["frames_rows"] == 10
    assert result.counts["frames_invalid"] == len(whole) - 11
    assert result.counts["own_records"] == 1


def test_doubles_are_counted_once_and_dead_frames_keep_their_bytes() -> None:
    whole = recorded("upbit", "ticker")[:2]
    twice = whole[1]._replace(offset=2)
    bad = log([b"", b"", b"", b'{"type":"ticker"'])[3]
    strange = Record(4, TIME, "nonsense", b"?")
    result = batch(UPBIT, [*whole, twice, bad, strange])
    assert result.counts["frames"] == 5
    assert (result.counts["frames_rows"], result.counts["frames_duplicate"], result.counts["frames_dead"]) == (2, 1, 2)
    dead = result.dead.to_dicts()
    assert [letter["payload"] for letter in dead] == [b'{"type":"ticker"', b"?"]
    assert dead[0]["number"] == 4 and dead[1]["number"] is None
    assert "nonsense" in dead[1]["reason"]
    assert conserves(result)


def test_an_own_record_that_cannot_be_read_is_a_dead_letter() -> None:
    record = Record(0, TIME, Header(Kind.CHECKPOINT, 1, "c", 0, TIME).pack(), b"?")
    assert batch(UPBIT, [record]).counts["frames_dead"] == 1
    assert batch(UPBIT, [record], 1).counts["frames"] == 0


def test_an_acknowledgement_without_a_depth_leaves_the_books_alone() -> None:
    ack = b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}'
    result = batch(OKX, log([ack]))
    assert (result.counts["frames_control"], result.rows.height) == (1, 0)


def test_a_fault_before_the_window_is_the_window_before_s() -> None:
    books = [frame.payload for frame in frames("kraken", "book_sequence_1") if b'"channel":"book"' in frame.payload]
    whole = log(books)
    del whole[10]
    assert batch(KRAKEN, whole, 200).counts["faults"] == batch(KRAKEN, whole, 200).counts["missing"] == 0
    assert batch(KRAKEN, whole, 5).counts["faults"] == 1


def test_S1_records_that_are_sent_again_change_nothing() -> None:
    once, kind, book = recorded("kraken", "book_sequence_2"), KRAKEN.exchange, KRAKEN.exchange.book()
    for event in (event for frame in frames("kraken", "book_sequence_2")[:400] for event in kind.decode(frame)):
        if isinstance(event, Subscribed):
            book.depth = event.depth or book.depth
        if isinstance(event, BookUpdate):
            kind.apply(book, event)
            pair = event.pair
    facts = Facts(book=Checkpoint.of(book.snapshot(pair)))
    checkpoint = Record(0, TIME, Header(Kind.CHECKPOINT, 1, "c", 400, TIME).pack(), facts.pack())
    log = [*once[:400], checkpoint, *once[400:600], *once[380:400], checkpoint, *once[400:]]
    result = batch(KRAKEN, [record._replace(offset=offset) for offset, record in enumerate(log)])
    assert result.counts["faults"] == result.counts["frames_invalid"] == 0
    assert result.counts["frames_duplicate"] == 220
    wanted = batch(KRAKEN, once).rows.drop("offset", "log_time")
    assert result.rows.drop("offset", "log_time").equals(wanted)
