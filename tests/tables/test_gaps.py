"""The gap ledger: every hole has a row with its bounds, and every row is such a hole."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Cause, Channel, Control, Event, Frame, Gap, Kind, Pair, Ticker
from coin_platform.records import Checkpoint, Facts, Header, Transport, over_budget, refused, silent, without_data
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gaps import RETURN_PATIENCE, GapLedger
from coin_platform.tables.pending_gaps import FILL_PATIENCE
from tests.kit.log import TIME

BTC, ETH = Pair("BTC", "KRW"), Pair("ETH", "KRW")
PAIRS = [f"{base}-{quote}" for base in ("BTC", "ETH") for quote in ("KRW", "USDT", "USD")]


def plain(exchange: str) -> Exchange:
    """Return an exchange whose messages are lists of the pairs that they bring."""

    def read(_: Exchange, frame: Frame) -> Iterator[Event]:
        for name in json.loads(frame.payload):
            yield Ticker(pair=Pair.parse(name), last="1") if name in PAIRS else Control(name=name)

    kind: Exchange = type("Plain", (type(EXCHANGES[exchange]),), {"read": read})()
    return kind


class Feed:
    """Records of one channel, and what the ledger says of them. Times are seconds."""

    def __init__(self, channel: Channel = Channel.TICKER, exchange: str = "upbit", *, books: bool = False) -> None:
        self.ledger = GapLedger(plain(exchange), channel, books=books)
        self.numbers: dict[str, int] = {}
        self.rows: dict[Any, Gap] = {}  # by key, as last told
        self.epoch = 1

    def keep(self, changed: list[Gap]) -> list[Gap]:
        self.rows |= {(gap.channel, gap.pair, gap.start): gap for gap in changed}
        return changed

    def say(self, kind: Kind, at: float, name: str, value: bytes, pair: Pair | None = None) -> list[Gap]:
        header = Header(kind, self.epoch, name, self.numbers.get(name, 0), TIME + int(at * SECOND), pair)
        return self.keep(self.ledger.record(header, value))

    def open(
        self,
        at: float,
        name: str = "a",
        pairs: tuple[Pair, ...] = (BTC,),
        transport: str = "ws",
        *,
        beside: bool = False,
    ) -> None:
        facts = Facts(transport=transport, pairs=[str(pair) for pair in pairs], beside=beside)
        assert self.say(Kind.OPENED, at, name, facts.pack()) == [] or self.epoch > 1

    def frame(self, at: float, name: str = "a", skip: int = 0, heard: tuple[object, ...] | None = None) -> list[Gap]:
        """Take a message that brings these pairs, or all that the connection carries."""
        self.numbers[name] = self.numbers.get(name, 0) + 1 + skip
        line = self.ledger.state.connections.get(name)
        pairs = [*map(str, heard)] if heard is not None else line.pairs if line else []
        return self.say(Kind.SOCKET, at, name, json.dumps(pairs).encode())

    def answer(self, at: float, pair: Pair, value: bytes, name: str = "a") -> list[Gap]:
        self.numbers[name] = self.numbers.get(name, 0) + 1
        return self.say(Kind.REST, at, name, value, pair)

    def close(self, at: float, reason: str, name: str = "a") -> list[Gap]:
        return self.say(Kind.CLOSED, at, name, Facts(reason=reason).pack())

    def carry(self, at: float, *pairs: Pair, name: str = "a", kind: Kind = Kind.PAIRS) -> list[Gap]:
        return self.say(kind, at, name, Facts(pairs=[str(pair) for pair in pairs]).pack())

    @property
    def gaps(self) -> list[tuple[Any, ...]]:
        """Pair, from and to in seconds, cause, filled by."""
        return [
            (
                str(gap.pair) if gap.pair else None,
                (gap.start - TIME) / SECOND,
                None if gap.stop is None else (gap.stop - TIME) / SECOND,
                gap.cause,
                gap.filled_by,
            )
            for gap in self.rows.values()
        ]


def test_S8_a_connection_that_broke_is_a_gap_until_its_successor_speaks() -> None:
    feed = Feed()
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
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
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.open(2, "b")
    feed.frame(3, "b")
    feed.frame(3)
    assert feed.close(4, "replaced") == []
    assert feed.gaps == []


def test_a_successor_that_only_opened_does_not_carry_a_pair_yet() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.open(2, "b")
    assert feed.close(3, "going away")
    feed.frame(4, "b")
    assert feed.gaps == [("BTC-KRW", 3, 4, "disconnect", None)]


def test_S8_a_killed_collector_is_a_gap_since_its_last_record() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.carry(5, BTC, kind=Kind.CHECKPOINT)
    feed.epoch = 2
    feed.open(90, "b")
    feed.frame(91, "b")
    assert feed.gaps == [("BTC-KRW", 5, 91, "killed", None)]


def test_a_stopped_collector_says_so() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.close(2, "stopped")
    feed.epoch = 2
    feed.open(30, "b")
    feed.frame(31, "b")
    assert feed.gaps == [("BTC-KRW", 2, 31, "stopped", None)]


def test_what_a_collector_thought_dead_still_says_counts_no_more() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.epoch = 2
    feed.open(3, "b")
    feed.frame(4, "b")
    feed.epoch = 1
    assert feed.close(5, "stopped") == [] and feed.frame(6, skip=10) == []
    assert feed.gaps == [("BTC-KRW", 1, 4, "killed", None)]


def taking_over() -> Feed:
    """A collector of two pairs, and another beside it that has one of them."""
    feed = Feed()
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
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
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.frame(7, skip=3)
    assert feed.gaps == [("BTC-KRW", 1, 7, "lost_frames", None)]
    assert [gap.reason for gap in feed.rows.values()] == ["3 frames of a never reached the log"]
    feed.numbers["a"] += 2  # lost before a record of ours, which carries the number of the last frame
    feed.carry(9, BTC, kind=Kind.CHECKPOINT)
    assert feed.gaps[1] == ("BTC-KRW", 7, 9, "lost_frames", None)


def test_frames_lost_at_the_end_of_a_connection_are_a_gap_of_their_own() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.numbers["a"] += 5
    feed.close(3, "stopped")
    assert [gap[1:4] for gap in feed.gaps] == [(1, 3, "lost_frames"), (3, None, "stopped")]


def test_frames_that_come_twice_are_nothing_new() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
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
    feed = Feed()
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
    assert feed.carry(2, BTC) == []
    feed.close(3, "broken")
    assert [gap[0] for gap in feed.gaps] == ["BTC-KRW"]
    feed.open(4, "b")
    feed.frame(5, "b")
    assert feed.close(6, "no pairs", "b") == []


def test_a_pair_given_up_while_it_is_missing_is_missing_until_then() -> None:
    feed = Feed(Channel.ORDERBOOK, "okx", books=True)
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
    feed.keep(feed.ledger.lost(ETH, Cause.SEQUENCE, "a number is missing", TIME + SECOND))
    feed.carry(4, BTC)
    assert feed.gaps == [("ETH-KRW", 0, 4, "sequence", None)], "it never had a book"


def test_a_pair_that_a_new_start_does_not_carry_is_given_up_after_a_while() -> None:
    feed = Feed()
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
    feed.close(2, "stopped")
    feed.epoch = 2
    feed.open(10, "b", pairs=(BTC,))
    feed.frame(11, "b")
    assert feed.gaps[1][2] is None
    feed.frame(10 + RETURN_PATIENCE / SECOND, "b")
    assert feed.gaps == [("BTC-KRW", 2, 11, "stopped", None), ("ETH-KRW", 2, 10, "stopped", None)]


def test_S8_a_book_that_failed_its_proof_is_missing_from_its_last_row_to_its_next() -> None:
    feed = Feed(Channel.ORDERBOOK, "okx", books=True)
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
    feed.keep(feed.ledger.row(BTC, "a", TIME + SECOND))
    feed.frame(2)
    feed.keep(feed.ledger.lost(BTC, Cause.SEQUENCE, "wanted 5, got 7", TIME + 2 * SECOND))
    assert feed.keep(feed.ledger.lost(BTC, Cause.SEQUENCE, "again", TIME + 3 * SECOND)) == []
    feed.frame(4)
    feed.keep(feed.ledger.row(BTC, "a", TIME + 4 * SECOND))
    assert feed.gaps == [("BTC-KRW", 1, 4, "sequence", None)]


def test_a_new_connection_serves_a_book_with_its_first_row_not_its_first_frame() -> None:
    feed = Feed(Channel.ORDERBOOK, "okx", books=True)
    feed.open(0)
    feed.frame(1)
    assert feed.ledger.waits(BTC, "a", TIME + SECOND) == []  # its snapshot is still to come
    feed.keep(feed.ledger.row(BTC, "a", TIME + 2 * SECOND))
    feed.close(3, "broken")
    feed.open(4, "b")
    assert feed.frame(5, "b") == []
    assert feed.ledger.waits(BTC, "b", TIME + 5 * SECOND) == []
    feed.keep(feed.ledger.row(BTC, "b", TIME + 6 * SECOND))
    assert feed.gaps == [("BTC-KRW", 3, 6, "disconnect", None)]


def test_a_book_that_is_polled_meanwhile_does_not_end_what_its_stream_lacks() -> None:
    feed = Feed(Channel.ORDERBOOK, "binance", books=True)
    feed.open(0)
    feed.frame(1)
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
    feed = Feed(Channel.ORDERBOOK, "binance", books=True)
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
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
    feed = Feed(Channel.ORDERBOOK, "binance", books=True)
    feed.open(0)
    feed.frame(1)
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


def trades(*seconds: float) -> bytes:
    """Return Upbit's REST answer with trades at these times, newest first."""
    row = (
        '{{"market":"KRW-BTC","timestamp":{ms},"trade_price":1.0,"trade_volume":1.0,"ask_bid":"ASK",'
        '"sequential_id":{ms},"trade_date_utc":"2026-11-02","trade_time_utc":"00:00:00",'
        '"prev_closing_price":1.0,"change_price":0.0}}'
    )
    return (
        "[" + ",".join(row.format(ms=TIME // 1000 + int(at * 1000)) for at in sorted(seconds, reverse=True)) + "]"
    ).encode()


def broken(at: float = 2, again: float = 10) -> Feed:
    feed = Feed(Channel.TRADE)
    feed.open(0)
    feed.frame(1)
    feed.close(at, "broken")
    feed.open(again - 0.5, "b")
    feed.frame(again, "b")
    return feed


def test_a_gap_whose_trades_were_fetched_afterwards_is_filled() -> None:
    feed = broken()
    assert feed.answer(10.5, BTC, trades(1.5, 5, 10.2), "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", "rest")]
    assert feed.ledger.state.pending == {}


def test_D17_a_feed_that_brought_more_than_the_disk_took_lacks_all_since_its_last_record() -> None:
    feed = Feed(Channel.TRADE)
    feed.open(0)
    feed.frame(1)
    feed.close(2, over_budget(31 << 20, 30 << 20))
    feed.open(9.5, "b")
    feed.frame(10, "b")
    assert feed.gaps == [("BTC-KRW", 1, 10, "budget", None)]


def test_an_answer_that_does_not_reach_back_fills_nothing() -> None:
    feed = broken()
    assert feed.answer(10.2, BTC, b"not an answer", "b") == []
    assert feed.answer(10.3, BTC, b'{"error":{"name":"too_many_requests","message":"..."}}', "b") == []
    assert feed.answer(10.4, ETH, trades(1), "b") == []
    [gap] = feed.answer(10.5, BTC, trades(5, 10.2), "b")
    assert gap.reason == "broken; REST reaches back to 2026-11-24 00:00:05.000000+00:00 only"
    assert feed.answer(10.6, BTC, b"[]", "b") == []  # it is said once
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", None)]
    [gap] = feed.answer(10.7, BTC, trades(1.5, 5, 10.2), "b")
    assert (gap.reason, gap.filled_by) == ("broken", "rest")


EMPTY = {  # answers without rows, where they are no empty list
    "coinone": b'{"result":"success","error_code":"0","target_currency":"BTC","quote_currency":"KRW",'
    b'"is_last":true,"chart":[],"transactions":[]}',
    "korbit": b'{"success":true,"data":[]}',
    "okx": b'{"code":"0","msg":"","data":[]}',
    "bybit": b'{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[]},"retExtInfo":{},"time":1795478400000}',
    "kraken": b'{"error":[],"result":{"XBT/USD":[],"last":"0"}}',
}


def quiet(channel: Channel, exchange: str, lasted: float) -> list[Gap]:
    """Return what is said of a gap that lasted so long, in which nothing was traded, once REST answers without rows."""
    kind = EXCHANGES[exchange]
    pair = Pair("BTC", kind.quote)
    transport = "ws" if channel in kind.channels else "rest"
    feed = Feed(channel, exchange)
    feed.open(0, pairs=(pair,), transport=transport)
    feed.frame(1)
    feed.close(2, "broken")
    feed.open(1 + lasted, "b", (pair,), transport)
    feed.frame(2 + lasted, "b")
    feed.answer(2.5 + lasted, pair, EMPTY.get(exchange, b"[]"), "b")
    return list(feed.rows.values())


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R12_an_answer_without_minutes_fills_a_gap_as_far_back_as_the_exchange_documents(exchange: str) -> None:
    reach = EXCHANGES[exchange].candle_reach_seconds
    for lasted, is_told in ((6.0, reach is not None), (3 * 86_400.0, False)):
        [gap] = quiet(Channel.CANDLE, exchange, lasted)
        assert gap.stop == TIME + int((2 + lasted) * SECOND)
        assert gap.filled_by == ("rest" if is_told else None)
        assert (gap.reason == "broken") is is_told
    assert "REST" in gap.reason
    if reach is not None:
        [filled], [unfilled] = quiet(Channel.CANDLE, exchange, reach - 1), quiet(Channel.CANDLE, exchange, reach)
        assert (filled.filled_by, unfilled.filled_by) == ("rest", None)
        assert "REST reaches back to 2026-11-24 00:00:02.5" in unfilled.reason


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_R12_an_answer_without_trades_fills_nothing_and_the_gap_says_so(exchange: str) -> None:
    [gap] = quiet(Channel.TRADE, exchange, 6.0)
    assert gap.filled_by is None
    assert gap.reason == "broken; REST answers without rows, and how far back that tells is not documented"


def test_R12_what_a_gap_says_of_REST_goes_on_in_the_next_window() -> None:
    feed = broken()
    feed.answer(10.5, BTC, b"[]", "b")
    state = LedgerState.unpack(feed.ledger.state.pack())
    assert state == feed.ledger.state
    feed.ledger = GapLedger(EXCHANGES["upbit"], Channel.TRADE, state)
    assert feed.answer(10.6, BTC, b"[]", "b") == []


def test_answers_during_a_gap_that_reach_each_other_fill_it() -> None:
    feed = Feed(Channel.TRADE)
    feed.open(0)
    feed.frame(1)
    feed.close(2, "broken")
    feed.open(3, "r", transport="rest")
    feed.answer(5, BTC, trades(1, 4), "r")
    feed.answer(9, BTC, trades(4.5, 8), "r")
    feed.open(9.5, "b")
    feed.frame(10, "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", None)]
    feed.answer(10.5, BTC, trades(8.5, 10), "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", "rest")]


def test_a_gap_whose_last_answer_came_before_the_stream_is_back_at_once_is_filled() -> None:
    feed = Feed(Channel.TRADE)
    feed.open(0)
    feed.frame(1)
    feed.close(2, "broken")
    feed.open(9, "b")
    feed.answer(10, BTC, trades(1, 9.9), "b")  # the first frame of the successor
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", "rest")]


def test_a_minute_that_was_fetched_fills_a_gap_in_it() -> None:
    feed = Feed(Channel.CANDLE)
    feed.open(0)
    feed.frame(1)
    feed.close(2, "broken")
    feed.open(9, "b")
    feed.frame(10, "b")
    candle = (
        b'[{"market":"KRW-BTC","candle_date_time_utc":"2026-11-02T00:00:00","candle_date_time_kst":"x",'
        b'"opening_price":1,"high_price":1,"low_price":1,"trade_price":1,"timestamp":%d,'
        b'"candle_acc_trade_price":1,"candle_acc_trade_volume":1,"unit":1}]' % (TIME // 1000)
    )
    feed.answer(11, BTC, candle, "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", "rest")]


def test_rest_beside_a_stream_is_not_the_stream() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.close(2, "broken")
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


def test_a_gap_is_not_waited_with_for_ever() -> None:
    feed = broken()
    later = 10 + FILL_PATIENCE / SECOND + 1
    feed.close(later, "broken", "b")
    feed.open(later + 1, "c")
    feed.frame(later + 2, "c")
    assert len(feed.ledger.state.pending["BTC-KRW"]) == 1


def test_a_ledger_goes_on_from_what_another_knew() -> None:
    feed = Feed(Channel.TRADE)
    feed.open(0)
    feed.frame(1)
    feed.close(2, "broken")
    body = feed.ledger.state.pack()
    feed.ledger = GapLedger(plain("upbit"), Channel.TRADE, LedgerState.unpack(body))
    feed.open(9, "b")
    feed.frame(10, "b")
    assert feed.gaps == [("BTC-KRW", 2, 10, "disconnect", None)]
    assert LedgerState.unpack(feed.ledger.state.pack()) == feed.ledger.state


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


# A gap ends with the pair's own data


@pytest.mark.parametrize("channel", Channel)
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
    feed = Feed()
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
    for name, at in (("b", 10), ("c", 20), ("d", 30)):
        feed.close(at - 1, "broken", chr(ord(name) - 1))
        feed.open(at, name, pairs=(BTC, ETH))
        feed.frame(at + 1, name, heard=(BTC,))
    assert [gap for gap in feed.gaps if gap[0] == "ETH-KRW"] == [("ETH-KRW", 9, None, "disconnect", None)]
    assert len([gap for gap in feed.gaps if gap[0] == "BTC-KRW"]) == 3


def test_R3_a_successor_covers_only_the_pairs_that_it_has_brought() -> None:
    feed = Feed()
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1)
    feed.open(2, "b", pairs=(BTC, ETH))
    feed.frame(3, "b", heard=(BTC,))
    feed.close(4, "replaced")
    feed.frame(5, "b", heard=(ETH,))
    assert feed.gaps == [("ETH-KRW", 4, 5, "disconnect", None)]


def test_R3_what_a_window_does_not_know_yet_the_next_one_learns() -> None:
    feed = broken()
    feed.close(20, "broken", "b")
    feed.open(21, "c")
    feed.frame(22, "c", heard=("status",))
    feed.ledger = GapLedger(plain("upbit"), Channel.TRADE, LedgerState.unpack(feed.ledger.state.pack()))
    feed.frame(23, "c", heard=("status",))
    feed.frame(24, "c")
    assert feed.gaps[-1] == ("BTC-KRW", 20, 24, "disconnect", None)


def test_R3_an_answer_over_REST_on_the_new_connection_ends_what_it_covers() -> None:
    feed = broken()
    feed.close(20, "broken", "b")
    feed.open(21, "c")
    assert all(gap.stop != TIME + 22 * SECOND for gap in feed.answer(22, BTC, trades(21, 21.5), "c"))  # too short
    feed.answer(23, BTC, trades(19, 21.5), "c")
    assert feed.gaps[-1] == ("BTC-KRW", 20, 23, "disconnect", "rest")
    [again] = feed.close(25, "broken", "c")
    assert (again.start, again.stop) == (TIME + 25 * SECOND, None)


def test_R3_lines_of_older_windows_are_read() -> None:
    def line(**fields: object) -> dict[str, object]:
        return {"epoch": 1, "number": 3, "time": TIME, "pairs": ["A-B", "C-D"], "is_feed": True, **fields}

    old = {
        "silent": line(has_spoken=False, bookless=[]),
        "heard": line(has_spoken=True, bookless=[]),
        "book": line(has_spoken=True, bookless=["C-D"]),
        "rest": {**line(has_spoken=False, bookless=[]), "is_feed": False},
    }
    state = LedgerState.unpack({**LedgerState().pack(), "lines": old})
    unheard = {name: line.unheard for name, line in state.connections.items()}
    assert unheard == {"silent": ["A-B", "C-D"], "heard": [], "book": ["C-D"], "rest": []}
    assert LedgerState.unpack(state.pack()) == state


# What is wanted and not served


def wants(feed: Feed, at: float, *pairs: Pair, kind: Kind = Kind.OPENED, name: str = "w", **facts: object) -> list[Gap]:
    """Say what a feed wants."""
    names = [str(pair) for pair in pairs]
    return feed.say(kind, at, name, Facts(transport=Transport.NONE, pairs=names, **facts).pack())  # type: ignore[arg-type]


def test_D5_an_exchange_that_cannot_be_reached_is_a_gap_since_it_was_wanted() -> None:
    feed = Feed()
    assert wants(feed, 0, BTC, ETH) == []
    told = wants(feed, 3, BTC, ETH, kind=Kind.PAIRS, reason="HTTP 451")
    assert [(gap.pair, gap.reason) for gap in told] == [(BTC, "HTTP 451"), (ETH, "HTTP 451")]
    assert wants(feed, 60, BTC, ETH, kind=Kind.PAIRS, reason="HTTP 403") == []
    assert feed.gaps == [("BTC-KRW", 0, None, "unreachable", None), ("ETH-KRW", 0, None, "unreachable", None)]
    assert feed.ledger.wanted == ["BTC-KRW", "ETH-KRW"]
    feed.open(90, pairs=(BTC, ETH))
    feed.frame(91, heard=(BTC,))
    assert feed.gaps[0] == ("BTC-KRW", 0, 91, "unreachable", None)
    assert feed.gaps[1] == ("ETH-KRW", 0, None, "unreachable", None)


def test_D5_a_start_that_takes_its_time_is_no_gap_and_one_that_takes_too_long_is() -> None:
    feed = Feed()
    wants(feed, 0, BTC, ETH)
    feed.open(1, pairs=(BTC, ETH))
    feed.frame(2, heard=(BTC,))
    assert wants(feed, 29, BTC, ETH, kind=Kind.CHECKPOINT) == []
    wants(feed, 31, BTC, ETH, kind=Kind.CHECKPOINT)
    assert feed.gaps == [("ETH-KRW", 0, None, "silence", None)]
    assert [gap.reason for gap in feed.rows.values()] == ["nothing has come since it was asked for"]
    feed.frame(40, heard=(ETH,))
    assert feed.gaps == [("ETH-KRW", 0, 40, "silence", None)]


def test_D5_the_fast_way_of_a_feed_that_is_heard_does_not_forget_a_pair_of_another_connection() -> None:
    feed = Feed()
    feed.open(0)
    feed.open(0, "b", pairs=(ETH,))
    feed.frame(1)
    feed.frame(29)
    assert feed.gaps == []
    feed.frame(31)
    assert feed.gaps == [("ETH-KRW", 0, None, "silence", None)]


def test_D5_a_pair_that_may_have_nothing_to_say_has_five_minutes() -> None:
    feed = Feed(Channel.TRADE)
    feed.open(0, pairs=(BTC, ETH))
    feed.frame(1, heard=(BTC,))
    feed.frame(40, heard=(BTC,))
    feed.frame(299, heard=(BTC,))
    assert feed.gaps == []
    feed.frame(301, heard=(BTC,))
    assert feed.gaps == [("ETH-KRW", 0, None, "silence", None)]
    feed.answer(310, ETH, trades(-10), "a")
    assert feed.gaps == [("ETH-KRW", 0, 310, "silence", "rest")]


def test_D5_where_nothing_is_connected_there_is_no_such_patience() -> None:
    for channel, exchange, transport in ((Channel.TRADE, "upbit", ""), (Channel.CANDLE, "bithumb", "rest")):
        feed = Feed(channel, exchange)
        wants(feed, 0, BTC)
        if transport:
            feed.open(1, "r", transport=transport)  # what is polled is there with its first answer
        wants(feed, 31, BTC, kind=Kind.PAIRS)
        assert feed.gaps == [("BTC-KRW", 0, None, "unreachable", None)]


def test_D5_a_refused_pair_is_a_gap_and_says_why() -> None:
    feed = Feed()
    wants(feed, 0, BTC, ETH)
    feed.open(1, pairs=(BTC, ETH))
    feed.frame(2, heard=(BTC,))
    facts = Facts(pairs=["BTC-KRW", "ETH-KRW"], refused={"ETH-KRW": "refused for good: unknown"})
    feed.say(Kind.PAIRS, 3, "a", facts.pack())
    assert feed.gaps == [("ETH-KRW", 0, None, "refused", None)]
    assert [gap.reason for gap in feed.rows.values()] == ["refused for good: unknown"]
    facts = Facts(pairs=["BTC-KRW", "ETH-KRW"], refused={"BTC-KRW": "refused for the moment: busy"})
    feed.say(Kind.CHECKPOINT, 10, "a", facts.pack())
    assert feed.gaps[1] == ("BTC-KRW", 10, None, "refused", None), "it was heard before"
    feed.frame(11, heard=(BTC, ETH))
    assert [gap[2] for gap in feed.gaps] == [11, 11]


def test_D5_what_another_connection_brings_is_neither_refused_nor_unreachable() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.open(2, "b")
    assert feed.say(Kind.PAIRS, 3, "b", Facts(pairs=["BTC-KRW"], refused={"BTC-KRW": "busy"}).pack()) == []
    wants(feed, 4, BTC)
    assert wants(feed, 5, BTC, kind=Kind.PAIRS, reason="HTTP 429") == []
    assert feed.frame(100) == [] and feed.gaps == []


def test_D5_a_connection_that_is_refused_as_a_whole_is_a_gap_of_its_own_cause() -> None:
    feed = Feed()
    feed.open(0)
    feed.close(1, refused("too many connections"))
    assert feed.gaps == [("BTC-KRW", 0, None, "refused", None)]


def test_D5_what_is_wanted_no_more_is_missing_no_more() -> None:
    feed = Feed()
    wants(feed, 0, BTC, ETH)
    wants(feed, 3, BTC, ETH, kind=Kind.PAIRS, reason="HTTP 451")
    wants(feed, 5, BTC, kind=Kind.PAIRS)
    assert feed.gaps == [("BTC-KRW", 0, None, "unreachable", None), ("ETH-KRW", 0, 5, "unreachable", None)]
    assert feed.ledger.wanted == ["BTC-KRW"]


def test_D5_a_collector_that_is_stopped_before_it_was_served_was_stopped() -> None:
    feed = Feed()
    wants(feed, 0, BTC)
    wants(feed, 5, kind=Kind.CLOSED, reason="stopped")
    assert feed.gaps == [("BTC-KRW", 0, None, "stopped", None)]
    assert feed.ledger.wanted == []
    other = Feed()
    wants(other, 0, BTC)
    wants(other, 5, kind=Kind.CLOSED, reason="replaced")
    assert other.gaps == []


def test_D5_what_is_missing_when_a_collector_is_stopped_is_missing_for_that_reason_from_then_on() -> None:
    feed = Feed()
    wants(feed, 0, BTC, ETH)
    feed.open(1, pairs=(BTC,))
    feed.frame(2)
    wants(feed, 3, BTC, ETH, kind=Kind.PAIRS, reason="HTTP 451")
    feed.close(9, "stopped")
    wants(feed, 10, kind=Kind.CLOSED, reason="stopped")
    gaps = [("BTC-KRW", 9, None, "stopped", None), ("ETH-KRW", 0, 10, "unreachable", None)]
    assert sorted(feed.gaps, key=str) == sorted([*gaps, ("ETH-KRW", 10, None, "stopped", None)], key=str)
    assert feed.ledger.wanted == []
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    wants(feed, 2, BTC)
    assert wants(feed, 3, kind=Kind.CLOSED, reason="stopped") == [], "it still comes"


def test_D5_a_polled_pair_that_is_refused_later_is_a_gap_until_its_next_answer() -> None:
    feed = Feed(Channel.CANDLE, "bithumb")
    feed.open(0, "r", transport="rest")
    feed.answer(1, BTC, b"[]", "r")
    facts = Facts(transport="rest", pairs=["BTC-KRW"], refused={"BTC-KRW": "refused for the moment: busy"})
    feed.say(Kind.PAIRS, 61, "r", facts.pack())
    assert feed.gaps == [("BTC-KRW", 61, None, "refused", None)]
    feed.answer(62, BTC, b'{"error":{"name":"too_many_requests","message":"..."}}', "r")
    assert feed.gaps == [("BTC-KRW", 61, None, "refused", None)]
    feed.answer(121, BTC, b"[]", "r")
    assert feed.gaps[0][:4] == ("BTC-KRW", 61, 121, "refused")
    stand_in = Feed()
    stand_in.open(0, "r", transport="rest")
    assert stand_in.say(Kind.PAIRS, 1, "r", facts.pack()) == [], "beside a stream, the stream counts"


def test_D5_a_killed_collector_whose_successor_reaches_nothing_stays_a_gap() -> None:
    feed = Feed()
    feed.open(0)
    feed.frame(1)
    feed.epoch = 2
    wants(feed, 60, BTC)
    wants(feed, 70, BTC, kind=Kind.PAIRS, reason="HTTP 451")
    assert feed.gaps == [("BTC-KRW", 1, None, "killed", None)]
    state = LedgerState.unpack(feed.ledger.state.pack())
    assert GapLedger(plain("upbit"), Channel.TICKER, state).lasting.keys() == {"BTC-KRW"}


def test_a_footer_keeps_the_names_of_former_versions() -> None:
    assert LedgerState().pack().keys() == {"epoch", "epoch_time", "beside", "lines", "pending", "told"}
