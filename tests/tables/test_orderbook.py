"""Book updates to rows: values, checkpoints, and the faults of books that cannot be trusted."""

import math

import msgspec
import polars as pl
import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import Cause, Channel, Kind, Pair
from coin_platform.records import Checkpoint, Facts
from coin_platform.tables import quality
from coin_platform.tables.dataframes import batch
from coin_platform.tables.orderbook import spread
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import raw_topic
from tests.kit.log import conserves, log, own, recorded
from tests.kit.recordings import frames

OKX = Source(EXCHANGES["okx"], Channel.ORDERBOOK, raw_topic("asia", Channel.ORDERBOOK), 0)
KRAKEN = Source(EXCHANGES["kraken"], Channel.ORDERBOOK, raw_topic("ne", Channel.ORDERBOOK), 1)


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


def test_an_acknowledgement_without_a_depth_leaves_the_books_alone() -> None:
    ack = b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}'
    result = batch(OKX, log([ack]))
    assert (result.counts["frames_control"], result.rows.height) == (1, 0)
