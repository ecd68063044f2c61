"""The gap ledger: every hole has a row with its bounds, and every row is such a hole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.end_reasons import over_budget, silent, without_data
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Cause, Channel, Kind, Pair
from coin_platform.records import Checkpoint, Facts
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gaps import RETURN_PATIENCE, GapLedger
from tests.kit.gap_feed import BTC, ETH, Feed, broken, plain, served, trades
from tests.kit.log import TIME


def test_S8_a_connection_that_broke_is_a_gap_until_its_successor_speaks() -> None:
    feed = served(BTC, ETH)
    feed.frame(2)
    [first, _] = feed.close(2.5, "connection reset")
    assert (first.pair, first.start, first.stop, first.reason) == (BTC, TIME + 2_500_000, None, "connection reset")
    feed.open(10, "b", pairs=(BTC, ETH))
    assert feed.frame(10.4, "b")
    assert feed.gaps == [("BTC-KRW", 2.5, 10.4, "disconnect", None), ("ETH-KRW", 2.5, 10.4, "disconnect", None)]
    assert feed.frame(11, "b") == []


@pytest.mark.parametrize(
    ("reason", "start"),
    [
        (silent(40), 5),
        (without_data(41), 4),  # heartbeats came all the time
        ("sent 1011 (internal error) keepalive ping timeout; no close frame received", 5.5),
    ],
)
def test_S8_a_connection_that_fell_silent_lacks_what_came_since_it_was_last_heard(reason: str, start: float) -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(5.5)
    feed.close(45, reason)
    feed.open(46, "b")
    feed.frame(46.5, "b")
    assert feed.gaps == [("BTC-KRW", start, 46.5, "silence", None)]


def test_F5_a_successor_that_spoke_first_leaves_no_gap() -> None:
    feed = served()
    feed.open(2, "b")
    feed.frame(3, "b")
    feed.frame(3)
    assert feed.close(4, "replaced") == []
    assert feed.gaps == []


def test_a_successor_that_only_opened_does_not_carry_a_pair_yet() -> None:
    feed = served()
    feed.open(2, "b")
    assert feed.close(3, "going away")
    feed.frame(4, "b")
    assert feed.gaps == [("BTC-KRW", 3, 4, "disconnect", None)]


def test_S8_a_killed_collector_is_a_gap_since_its_last_record() -> None:
    feed = served()
    feed.carry(5, BTC, kind=Kind.CHECKPOINT)
    feed.epoch = 2
    feed.open(90, "b")
    feed.frame(91, "b")
    assert feed.gaps == [("BTC-KRW", 5, 91, "killed", None)]


def test_a_stopped_collector_says_so() -> None:
    feed = served()
    feed.close(2, "stopped")
    feed.epoch = 2
    feed.open(30, "b")
    feed.frame(31, "b")
    assert feed.gaps == [("BTC-KRW", 2, 31, "stopped", None)]


def test_what_a_collector_thought_dead_still_says_counts_no_more() -> None:
    feed = served()
    feed.epoch = 2
    feed.open(3, "b")
    feed.frame(4, "b")
    feed.epoch = 1
    assert feed.close(5, "stopped") == [] and feed.frame(6, skip=10) == []
    assert feed.gaps == [("BTC-KRW", 1, 4, "killed", None)]


def taking_over() -> Feed:
    """A collector of two pairs, and another beside it that has one of them."""
    feed = served(BTC, ETH)
    feed.epoch = 2
    feed.open(3, "b", beside=True)
    feed.frame(4, "b")
    feed.epoch = 1
    assert feed.frame(5) == []
    feed.carry(6, BTC, ETH)
    return feed


def test_F5_a_collector_that_took_over_leaves_no_gap_of_what_it_has() -> None:
    feed = taking_over()
    feed.close(7, "replaced")
    assert feed.gaps == [("ETH-KRW", 7, None, "disconnect", None)]
    feed.epoch = 2
    assert feed.carry(8, BTC, name="b") == []  # not beside any more
    feed.epoch = 1
    assert feed.frame(9, "c") == [], "who was thought gone counts no more"


def test_S8_one_that_ends_without_a_word_while_another_takes_over_is_a_gap_of_what_that_one_lacks() -> None:
    feed = taking_over()
    feed.epoch = 2
    feed.carry(8, BTC, name="b")
    assert feed.gaps == [("ETH-KRW", 6, None, "killed", None)]


def test_F5_a_collector_that_could_not_take_over_leaves_the_other_as_it_was() -> None:
    feed = taking_over()
    feed.epoch = 2
    facts = Facts(reason="stopped", beside=True).pack()
    assert feed.say(Kind.CLOSED, 7, "b", facts) == []
    feed.epoch = 1
    assert feed.close(8, "connection reset")
    assert feed.gaps == [("BTC-KRW", 8, None, "disconnect", None), ("ETH-KRW", 8, None, "disconnect", None)]
    feed.open(9, "c", pairs=(BTC, ETH))
    assert len(feed.frame(10, "c")) == 2
    feed.epoch = 3
    feed.open(11, "d", pairs=(BTC, ETH), beside=True)
    feed.frame(12, "d")
    feed.epoch = 1
    assert feed.close(13, "replaced", "c") == []


def test_S8_frames_that_never_reached_the_log_are_seen_by_their_numbers() -> None:
    feed = served()
    feed.frame(7, skip=3)
    assert feed.gaps == [("BTC-KRW", 1, 7, "lost_frames", None)]
    assert [gap.reason for gap in feed.rows.values()] == ["3 frames of a never reached the log"]
    feed.numbers["a"] += 2  # lost before a record of ours, which carries the number of the last frame
    feed.carry(9, BTC, kind=Kind.CHECKPOINT)
    assert feed.gaps[1] == ("BTC-KRW", 7, 9, "lost_frames", None)


def test_frames_lost_at_the_end_of_a_connection_are_a_gap_of_their_own() -> None:
    feed = served()
    feed.numbers["a"] += 5
    feed.close(3, "stopped")
    assert [gap[1:4] for gap in feed.gaps] == [(1, 3, "lost_frames"), (3, None, "stopped")]


def test_frames_that_come_twice_are_nothing_new() -> None:
    feed = served()
    feed.frame(2)
    feed.numbers["a"] = 0
    assert feed.frame(1) == [] and feed.frame(2) == [] and feed.frame(3) == []
    assert feed.gaps == []


def test_a_connection_that_was_open_before_the_log_begins_tells_its_pairs_later() -> None:
    feed = Feed()
    feed.numbers["a"] = 100
    feed.frame(1)
    feed.frame(2, skip=1)
    feed.carry(3, BTC, kind=Kind.CHECKPOINT)
    feed.close(4, "broken")
    assert feed.gaps == [(None, 1, 2, "lost_frames", None), ("BTC-KRW", 4, None, "disconnect", None)]


def test_a_connection_of_which_only_the_end_is_known_lacks_nothing() -> None:
    feed = Feed()
    assert feed.close(1, "broken") == []


def test_a_pair_that_is_no_longer_wanted_is_no_gap() -> None:
    feed = served(BTC, ETH)
    assert feed.carry(2, BTC) == []
    feed.close(3, "broken")
    assert [gap[0] for gap in feed.gaps] == ["BTC-KRW"]
    feed.open(4, "b")
    feed.frame(5, "b")
    assert feed.close(6, "no pairs", "b") == []


def test_a_pair_given_up_while_it_is_missing_is_missing_until_then() -> None:
    feed = served(BTC, ETH, channel=Channel.ORDERBOOK, exchange="okx", books=True)
    feed.keep(feed.ledger.lost(ETH, Cause.SEQUENCE, "a number is missing", TIME + SECOND))
    feed.carry(4, BTC)
    assert feed.gaps == [("ETH-KRW", 0, 4, "sequence", None)], "it never had a book"


def test_a_pair_that_a_new_start_does_not_carry_is_given_up_after_a_while() -> None:
    feed = served(BTC, ETH)
    feed.close(2, "stopped")
    feed.epoch = 2
    feed.open(10, "b", pairs=(BTC,))
    feed.frame(11, "b")
    assert feed.gaps[1][2] is None
    feed.frame(10 + RETURN_PATIENCE / SECOND, "b")
    assert feed.gaps == [("BTC-KRW", 2, 11, "stopped", None), ("ETH-KRW", 2, 10, "stopped", None)]


def test_S8_a_book_that_failed_its_proof_is_missing_from_its_last_row_to_its_next() -> None:
    feed = served(BTC, ETH, channel=Channel.ORDERBOOK, exchange="okx", books=True)
    feed.keep(feed.ledger.row(BTC, "a", TIME + SECOND))
    feed.frame(2)
    feed.keep(feed.ledger.lost(BTC, Cause.SEQUENCE, "wanted 5, got 7", TIME + 2 * SECOND))
    assert feed.keep(feed.ledger.lost(BTC, Cause.SEQUENCE, "again", TIME + 3 * SECOND)) == []
    feed.frame(4)
    feed.keep(feed.ledger.row(BTC, "a", TIME + 4 * SECOND))
    assert feed.gaps == [("BTC-KRW", 1, 4, "sequence", None)]


def test_a_new_connection_serves_a_book_with_its_first_row_not_its_first_frame() -> None:
    feed = served(channel=Channel.ORDERBOOK, exchange="okx", books=True)
    assert feed.ledger.waits(BTC, "a", TIME + SECOND) == []  # its snapshot is still to come
    feed.keep(feed.ledger.row(BTC, "a", TIME + 2 * SECOND))
    feed.close(3, "broken")
    feed.open(4, "b")
    assert feed.frame(5, "b") == []
    assert feed.ledger.waits(BTC, "b", TIME + 5 * SECOND) == []
    feed.keep(feed.ledger.row(BTC, "b", TIME + 6 * SECOND))
    assert feed.gaps == [("BTC-KRW", 3, 6, "disconnect", None)]


def test_a_book_that_is_polled_meanwhile_does_not_end_what_its_stream_lacks() -> None:
    feed = served(channel=Channel.ORDERBOOK, exchange="binance", books=True)
    feed.keep(feed.ledger.row(BTC, "a", TIME + SECOND))
    feed.close(2, "broken")
    feed.open(12, "r", transport="rest")
    feed.answer(13, BTC, b"{}", "r")
    assert feed.keep(feed.ledger.row(BTC, "r", TIME + 13 * SECOND)) == []
    feed.open(14, "b")
    feed.frame(15, "b")
    assert feed.ledger.waits(BTC, "b", TIME + 15 * SECOND) == []  # its changes have no rows until its book is here
    feed.keep(feed.ledger.row(BTC, "b", TIME + 16 * SECOND))
    assert feed.gaps == [("BTC-KRW", 2, 16, "disconnect", None)]


@pytest.mark.parametrize("is_told", [True, False])
def test_a_successor_without_a_book_does_not_cover_the_connection_before_it(*, is_told: bool) -> None:
    feed = served(BTC, ETH, channel=Channel.ORDERBOOK, exchange="binance", books=True)
    for pair in (BTC, ETH):
        feed.keep(feed.ledger.row(pair, "a", TIME + SECOND))
    feed.open(2, "b", pairs=(BTC, ETH))
    feed.frame(3, "b")
    # its rows may all be copies of the old one's, so it says itself that it has a book
    book = Checkpoint(pair="BTC-KRW", bids=[], asks=[]) if is_told else None
    feed.say(Kind.CHECKPOINT, 4, "b", Facts(pairs=["BTC-KRW", "ETH-KRW"], book=book).pack())
    feed.ledger = GapLedger(
        feed.ledger.exchange, Channel.ORDERBOOK, LedgerState.unpack(feed.ledger.state.pack()), books=True
    )
    feed.close(5, "broken")
    for pair in (BTC, ETH):
        feed.keep(feed.ledger.row(pair, "b", TIME + 6 * SECOND))
    lacking = [("ETH-KRW", 5, 6, "disconnect", None)]
    assert feed.gaps == (lacking if is_told else [("BTC-KRW", 5, 6, "disconnect", None), *lacking])


def test_a_pair_that_was_dropped_and_is_wanted_again_has_a_book_with_its_first_row() -> None:
    feed = Feed(Channel.ORDERBOOK, "binance", books=True)
    feed.open(0, pairs=(BTC, ETH))
    feed.carry(1, ETH)
    feed.carry(2, ETH, BTC)
    feed.frame(3)
    assert feed.ledger.waits(BTC, "a", TIME + 3 * SECOND) == []
    feed.keep(feed.ledger.row(BTC, "a", TIME + 4 * SECOND))
    feed.keep(feed.ledger.waits(BTC, "a", TIME + 5 * SECOND))
    assert feed.gaps == [("BTC-KRW", 4, None, "no_book", None)]


def test_a_row_of_a_collector_that_was_thought_dead_is_a_row_all_the_same() -> None:
    feed = served(channel=Channel.ORDERBOOK, exchange="binance", books=True)
    feed.keep(feed.ledger.row(BTC, "a", TIME + SECOND))
    feed.epoch = 2
    feed.open(5, "b")
    assert feed.gaps == [("BTC-KRW", 1, None, "killed", None)]
    feed.epoch = 1
    feed.frame(6)
    feed.keep(feed.ledger.row(BTC, "a", TIME + 6 * SECOND))
    assert feed.gaps == [("BTC-KRW", 1, 6, "killed", None)]


def test_a_book_of_which_nothing_tells_the_begin_is_a_gap() -> None:
    feed = Feed(Channel.ORDERBOOK, "okx", books=True)
    feed.numbers["a"] = 7
    feed.frame(1)
    feed.keep(feed.ledger.waits(BTC, "a", TIME + SECOND))
    assert feed.gaps == [("BTC-KRW", 1, None, "no_book", None)]


def test_trimmed_records_are_a_gap_of_all_that_the_feed_carried() -> None:
    feed = Feed()
    assert [gap.pair for gap in feed.ledger.trimmed("10 records", TIME, TIME + SECOND)] == [None]
    feed.open(0, pairs=(BTC, ETH))
    found = feed.ledger.trimmed("10 records", TIME, TIME + SECOND)
    assert [(gap.pair, gap.cause, gap.reason) for gap in found] == [
        (BTC, "retention_loss", "10 records"),
        (ETH, "retention_loss", "10 records"),
    ]


def test_D1_what_a_lost_log_held_is_a_gap_of_all_that_the_feed_carried() -> None:
    feed = Feed()
    feed.open(0, pairs=(BTC, ETH))
    found = feed.ledger.began_anew("lost", TIME, TIME + SECOND)
    assert [(gap.pair, gap.cause, gap.start, gap.stop) for gap in found] == [
        (pair, "new_log", TIME, TIME + SECOND) for pair in (BTC, ETH)
    ]


def test_D17_a_feed_that_brought_more_than_the_disk_took_lacks_all_since_its_last_record() -> None:
    feed = served(channel=Channel.TRADE)
    feed.close(2, over_budget(31 << 20, 30 << 20))
    feed.open(9.5, "b")
    feed.frame(10, "b")
    assert feed.gaps == [("BTC-KRW", 1, 10, "budget", None)]


def test_rest_beside_a_stream_is_not_the_stream() -> None:
    feed = served(until=2)
    feed.open(3, "r", transport="rest")
    feed.answer(5, BTC, b"[]", "r")
    assert feed.close(6, "a connection is live", "r") == []
    feed.open(7, "r", transport="rest")
    feed.epoch = 2
    feed.open(8, "b")
    feed.frame(9, "b")
    assert feed.gaps == [("BTC-KRW", 2, 9, "disconnect", None)]


def test_a_channel_without_a_stream_is_served_by_what_is_polled() -> None:
    feed = Feed(Channel.CANDLE, "bithumb")
    feed.open(0, "r", transport="rest")
    feed.answer(1, BTC, b"[]", "r")
    feed.close(2, "broken off", "r")
    feed.open(8, "q", transport="rest")
    feed.answer(9, BTC, b"[]", "q")
    assert feed.gaps == [("BTC-KRW", 2, 9, "disconnect", "rest")]


steps = st.lists(st.tuples(st.sampled_from(["frame", "close", "kill", "lose"]), st.integers(1, 20)), max_size=30)


@given(steps, st.integers(0, 30))
def test_every_hole_is_a_row_and_every_row_is_a_hole(history: list[tuple[str, int]], cut: int) -> None:
    """A feed of one connection after the other: the rows are the stretches in which nothing was carried."""
    feed, wanted, at, number = Feed(), [], 1.0, 0
    feed.open(0, "0")
    feed.frame(at, "0")
    for position, (step, pause) in enumerate(history):
        if position == cut:  # as a new window does
            feed.ledger = GapLedger(plain("upbit"), Channel.TICKER, LedgerState.unpack(feed.ledger.state.pack()))
        name, before = str(number), at
        at += pause
        if step == "frame":
            feed.frame(at, name)
        elif step == "lose":
            feed.frame(at, name, skip=pause)
            wanted.append((before, at, "lost_frames"))
        else:
            if step == "close":
                feed.close(before, "broken", name)
            else:
                feed.epoch += 1
            number += 1
            feed.open(at - 0.5, str(number))
            feed.frame(at, str(number))
            wanted.append((before, at, "disconnect" if step == "close" else "killed"))
    assert [(start, stop, cause) for _, start, stop, cause, _ in feed.gaps] == wanted


@pytest.mark.parametrize("channel", [channel for channel in Channel if channel is not Channel.INSTRUMENT])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R3_a_status_an_answer_or_another_pairs_data_end_no_gap(exchange: str, channel: Channel) -> None:
    quote = EXCHANGES[exchange].quote
    first, second = Pair("BTC", quote), Pair("ETH", quote)
    transport = "ws" if channel in EXCHANGES[exchange].channels else "rest"
    feed = Feed(channel, exchange)
    feed.open(0, pairs=(first, second), transport=transport)
    feed.frame(1)
    feed.close(2, "broken")
    feed.open(3, "b", (first, second), transport)
    for at, heard in ((4, ("status",)), (5, ("subscribed",)), (6, (second,)), (7, (second, "heartbeat"))):
        feed.frame(at, "b", heard=heard)
    assert feed.gaps == [(str(first), 2, None, "disconnect", None), (str(second), 2, 6, "disconnect", None)]
    feed.frame(8, "b", heard=(first,))
    assert feed.gaps[0] == (str(first), 2, 8, "disconnect", None)
    assert feed.frame(9, "b", heard=()) == []


def test_R6_a_ticker_without_a_price_is_its_pairs_own_word() -> None:
    feed = Feed()
    feed.ledger.exchange = EXCHANGES["upbit"]
    feed.open(0)
    feed.close(2, "broken")
    feed.open(3, "b")
    feed.numbers["b"] = 1
    feed.say(Kind.SOCKET, 4, "b", b'{"type":"ticker","code":"KRW-BTC","trade_price":null,"timestamp":1745130655652}')
    assert feed.gaps == [(str(BTC), 0, 4, "disconnect", None)]


def test_R3_a_pair_that_is_never_heard_again_is_missing_over_all_connections_since_it_was_last_heard() -> None:
    feed = served(BTC, ETH)
    for name, at in (("b", 10), ("c", 20), ("d", 30)):
        feed.close(at - 1, "broken", chr(ord(name) - 1))
        feed.open(at, name, pairs=(BTC, ETH))
        feed.frame(at + 1, name, heard=(BTC,))
    assert [gap for gap in feed.gaps if gap[0] == "ETH-KRW"] == [("ETH-KRW", 9, None, "disconnect", None)]
    assert len([gap for gap in feed.gaps if gap[0] == "BTC-KRW"]) == 3


def test_R3_a_successor_covers_only_the_pairs_that_it_has_brought() -> None:
    feed = served(BTC, ETH)
    feed.open(2, "b", pairs=(BTC, ETH))
    feed.frame(3, "b", heard=(BTC,))
    feed.close(4, "replaced")
    feed.frame(5, "b", heard=(ETH,))
    assert feed.gaps == [("ETH-KRW", 4, 5, "disconnect", None)]


def test_R3_an_answer_over_REST_on_the_new_connection_ends_what_it_covers() -> None:
    feed = broken()
    feed.close(20, "broken", "b")
    feed.open(21, "c")
    assert all(gap.stop != TIME + 22 * SECOND for gap in feed.answer(22, BTC, trades(21, 21.5), "c"))  # too short
    feed.answer(23, BTC, trades(19, 21.5), "c")
    assert feed.gaps[-1] == ("BTC-KRW", 20, 23, "disconnect", "rest")
    [again] = feed.close(25, "broken", "c")
    assert (again.start, again.stop) == (TIME + 25 * SECOND, None)


def test_a_ledger_that_another_one_follows_ends_its_gaps() -> None:
    feed = served(until=2)
    assert feed.ledger.lasting.keys() == {"BTC-KRW"}
    feed.keep(feed.ledger.handed_over(TIME + 5 * SECOND))
    assert feed.gaps == [("BTC-KRW", 2, 5, "disconnect", None)] and not feed.ledger.lasting
