"""What a client asks for in the query of its address, and what is wrong with a query that is refused."""

import pytest

from coin_platform.errors import FeedRefused
from coin_platform.serve.feed.filters import Filter, read_filter
from tests.kit.feed_records import feed_record


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", Filter()),
        ("exchange=upbit&exchange=okx", Filter(exchanges=frozenset({"upbit", "okx"}))),
        ("exchange=upbit,okx", Filter(exchanges=frozenset({"upbit", "okx"}))),
        ("pair=btc-krw", Filter(pairs=frozenset({"BTC-KRW"}))),
        ("type=ticker,gap&conflate=1", Filter(types=frozenset({"ticker", "gap"}), is_conflated=True)),
        ("conflate=0", Filter()),
    ],
)
def test_a_query_is_a_filter_and_equal_ones_are_one(query: str, wanted: Filter) -> None:
    assert read_filter(query) == wanted
    assert hash(read_filter(query)) == hash(wanted)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("exchange=upbitt", "exchange=upbitt: there are upbit, bithumb"),
        ("type=tick", "type=tick: there are ticker, orderbook"),
        ("conflate=yes", "conflate=yes: there are 0, 1"),
        ("pair=BTCKRW", "write BASE-QUOTE"),
        ("coin=BTC", "'coin' is no name of the query; there are exchange, pair, type, conflate"),
        ("exchange", "the query is not name=value"),
        ("&".join(["pair=BTC-KRW"] * 101), "the query is not name=value"),
        ("pair=" + ",".join(["BTC-KRW"] * 101), "more than 100 values"),
    ],
)
def test_a_wrong_query_is_one_line_that_says_what_is_right(query: str, text: str) -> None:
    with pytest.raises(FeedRefused, match=text) as error:
        read_filter(query)
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


def test_a_filter_leaves_out_what_is_not_wanted_but_no_gap_of_a_whole_feed() -> None:
    wanted = read_filter("exchange=upbit&pair=BTC-KRW")
    assert wanted.wants(feed_record()) and wanted.wants(feed_record(None, kind="gap"))
    assert not wanted.wants(feed_record(exchange="okx"))
    assert not wanted.wants(feed_record("ETH-KRW"))
    assert not read_filter("type=trade").wants(feed_record())
    assert Filter().wants(feed_record(exchange="okx"))


def test_a_conflated_bundle_has_the_latest_ticker_and_book_of_a_pair_and_every_trade_candle_and_gap() -> None:
    kinds = ("ticker", "orderbook", "trade", "candle", "gap")
    records = [feed_record(kind=kind, offset=offset) for offset in (1, 2) for kind in kinds]
    records.append(feed_record("ETH-KRW", offset=1))
    kept = [(record.type, record.offset) for record in Filter(is_conflated=True).conflated(records)]
    assert kept == [
        *(("trade", 1), ("candle", 1), ("gap", 1)),
        *((kind, 2) for kind in kinds),
        ("ticker", 1),
    ]
    assert Filter().conflated(records) is records
