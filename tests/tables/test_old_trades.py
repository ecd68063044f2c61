"""Trades that are told again long after: by the REST page after a reconnect, or by the greeting of a subscription."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import FolderStore, Lake, MemoryStore
from coin_platform.model import SECOND, Channel, Kind, Microseconds, Pair, Side, Trade, Window
from coin_platform.orchestration.materialise import materialise_raw, materialise_rows
from coin_platform.preprocess import lookback
from coin_platform.preprocess.lander import Lander
from coin_platform.preprocess.partition import commit
from coin_platform.records import Header
from coin_platform.settings import Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.market import Deal, Market
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.known_trades import TRADE_MEMORY, KnownTrades
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import group
from tests.kit.raw_log import RawLog

MINUTE: Microseconds = 60 * SECOND
START = 1_795_478_400 * SECOND
SETTINGS = Settings(window=timedelta(minutes=1), grace=timedelta(), landing_min_interval=0.0)


class TradeLog(RawLog):
    """A raw partition of trades, in which the test sets `moment`: seconds after `START`."""

    def __init__(self, exchange: str) -> None:
        super().__init__(exchange, Channel.TRADE, SETTINGS, START)
        self.numbers = Counter[str]()

    @property
    def moment(self) -> float:
        """The log's time, in seconds after `START`."""
        return (self.time - START) / SECOND

    @moment.setter
    def moment(self, seconds: float) -> None:
        self.time = START + round(seconds * SECOND)

    def say(self, payload: bytes, connection: str = "c", rest: Pair | None = None) -> None:
        """Log what a connection brought, or what REST answered for a pair."""
        self.numbers[connection] += 1
        kind = Kind.SOCKET if rest is None else Kind.REST
        self.store(Header(kind, 1, connection, self.numbers[connection], self.time, rest), payload)

    def live(self) -> list[tuple[int, int]]:
        """Return offset and index of what a worker makes of it."""
        transform = Transform(self.source, window=MINUTE)
        rows = [row for record in self.records() for row in transform.feed(record)]
        return [(row.offset, row.index) for row in rows]

    def tabled(self, lake: Lake | None = None, trim_at: int | None = None) -> pl.DataFrame:
        """Return the rows of all windows, one after the other; their checks pass."""
        lake = lake or Lake(MemoryStore(), MINUTE)
        parts = []
        for begin in range(START, self.time + 1, MINUTE):
            window = Window(begin, begin + MINUTE)
            kept = materialise_raw(self.source, window, self.broker, lake, SETTINGS)
            if trim_at is not None and begin == START + trim_at * MINUTE:
                facts = lake.provenance("raw_trade", self.source.exchange.name, window) or {}
                self.broker.trim(self.source.topic, self.source.partition, int(facts["start_offset"]))
            made = materialise_rows(self.source, window, self.broker, lake)
            assert all(check.passed for check in (*kept.check_results, *made.check_results)), window
            rows = lake.read("trade", self.source.exchange.name, window)
            assert rows is not None
            parts.append(rows.sort("offset", "index"))
        return pl.concat(parts)


def places(rows: pl.DataFrame) -> list[tuple[int, int]]:
    """Return where rows are from."""
    return [(int(offset), int(index)) for offset, index in rows.select("offset", "index").rows()]


def milliseconds(moment: float) -> int:
    """Return an exchange's time of a moment of a test."""
    return START // 1000 + round(moment * 1000)


class Told(NamedTuple):
    """A trade of a test: of pair 0 or 1, with its number, which is its size, too."""

    pair: int
    id: int
    moment: float  # seconds after `START`


class Words:
    """How an exchange tells trades: Binance, one at a time."""

    exchange = "binance"
    pairs = (Pair("BTC", "USDT"), Pair("ETH", "USDT"))
    alike = 1  # trades in a row that nothing but their ids tells apart

    def socket(self, trades: Sequence[Told]) -> list[bytes]:
        """Return what the socket tells of trades that happened at once."""
        return [
            json.dumps(
                {"e": "trade", "E": milliseconds(moment), "s": f"{self.pairs[pair].base}USDT", "t": id, "p": "100"}
                | {"q": str(id), "T": milliseconds(moment), "m": True}
            ).encode()
            for pair, id, moment in trades
        ]

    def page(self, trades: Iterable[Told]) -> bytes:
        """Return what REST tells of trades of one pair."""
        rows = [
            {"id": id, "price": "100", "qty": str(id), "time": milliseconds(moment), "isBuyerMaker": True}
            for _, id, moment in trades
        ]
        return json.dumps(rows).encode()


class OkxWords(Words):
    """OKX: what happened at once is one row of the socket."""

    exchange = "okx"

    def socket(self, trades: Sequence[Told]) -> list[bytes]:
        last = trades[-1]
        name = f"{self.pairs[last.pair].base}-USDT"
        row = {"instId": name, "tradeId": str(last.id), "px": "100", "side": "buy", "count": str(len(trades))}
        row |= {"sz": str(sum(trade.id for trade in trades)), "ts": str(milliseconds(last.moment))}
        return [json.dumps({"arg": {"channel": "trades", "instId": name}, "data": [row]}).encode()]

    def page(self, trades: Iterable[Told]) -> bytes:
        rows = [
            {"instId": f"{self.pairs[pair].base}-USDT", "tradeId": str(id), "px": "100", "side": "buy"}
            | {"sz": str(id), "ts": str(milliseconds(moment))}
            for pair, id, moment in trades
        ]
        return json.dumps({"code": "0", "msg": "", "data": rows}).encode()


class BithumbWords(Words):
    """Bithumb: two ids for a trade, and every two trades are alike but for them."""

    exchange = "bithumb"
    alike = 2
    pairs = (Pair("BTC", "KRW"), Pair("ETH", "KRW"))

    def row(self, trade: Told, id: int) -> dict[str, object]:
        size = (trade.id - 1) // self.alike + 1
        return {"trade_price": 100, "trade_volume": size, "ask_bid": "BID", "sequential_id": id}

    def socket(self, trades: Sequence[Told]) -> list[bytes]:
        return [
            json.dumps(
                {"type": "trade", "code": f"KRW-{self.pairs[trade.pair].base}", **self.row(trade, 10**17 + trade.id)}
                | {"trade_timestamp": milliseconds(trade.moment), "timestamp": milliseconds(trade.moment) + 260}
            ).encode()
            for trade in trades
        ]

    def page(self, trades: Iterable[Told]) -> bytes:
        rows = [
            {"market": f"KRW-{self.pairs[trade.pair].base}", **self.row(trade, 10**16 + trade.id)}
            | {"timestamp": milliseconds(trade.moment)}
            for trade in trades
        ]
        return json.dumps(rows).encode()


WORDS = [Words(), OkxWords(), BithumbWords()]
EACH = pytest.mark.parametrize("words", WORDS, ids=lambda words: words.exchange)


def story(words: Words) -> tuple[TradeLog, list[Told]]:
    """Log four windows: trades, none, then a reconnect whose page reaches back over both, and a greeting."""
    log, trades = TradeLog(words.exchange), [Told(0, id, 5.0 + 0.01 * (id // 3)) for id in range(3, 9)]
    for half in (trades[:3], trades[3:]):
        log.moment = 6.0
        for payload in words.socket(half):
            log.say(payload)
    log.moment, others = 100.0, [Told(1, 3, 99.5)]
    log.say(words.socket(others)[0])
    log.moment = 130.0
    missed = Told(0, 9, 61.0)
    log.say(words.page([missed, *reversed(trades)]), "r", words.pairs[0])
    log.moment = 185.0
    for payload in words.socket(trades[3:]):
        log.say(payload, "d")
    log.say(words.page([missed, *reversed(trades)]), "r", words.pairs[0])
    return log, [*trades, missed, *others]


def volume(words: Words, trades: Iterable[Told]) -> float:
    """Return what was traded."""
    return sum((trade.id + 1) // 2 if words.exchange == "bithumb" else trade.id for trade in trades)


@EACH
@pytest.mark.parametrize("trim_at", [None, 2, 3])
def test_R5_a_trade_that_is_told_again_windows_later_is_stored_once(
    words: Words, trim_at: int | None, tmp_path: Path
) -> None:
    log, trades = story(words)
    live = log.live()
    rows = log.tabled(Lake(FolderStore(tmp_path), MINUTE), trim_at)
    assert math.fsum(rows["size"]) == volume(words, trades)
    assert places(rows) == live


@EACH
def test_R5_a_worker_that_begins_anew_knows_the_trades_of_the_hour_before(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookback, "TAIL_RECORDS", 1)
    log, trades = story(words)
    for stop in range(1, log.end + 1):
        partition = log.partition()
        assert partition.work(stop) == 1
        partition.settle()
        commit([partition], log.broker)
    assert [(record["offset"], record["index"]) for record in log.processed] == log.live()
    assert math.fsum(record["size"] for record in log.processed) == volume(words, trades)


def test_R5_a_lander_that_begins_anew_stores_no_trade_of_the_hour_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookback, "TAIL_RECORDS", 1)
    words = Words()
    log, _ = story(words)
    exchange, before = log.source.exchange, log.end - 5  # the page and what came after it
    log.broker.commit(f"Landing_{group(exchange.region, Channel.TRADE)}", *log.place, before)
    log.say(words.socket([Told(0, 10, 185.0)])[0])
    lake = Lake(MemoryStore(), MINUTE)
    lander = Lander(exchange.region, [exchange], SETTINGS, log.broker, lake)
    for moment in (0.0, 20.0):
        lander.step(moment)
    assert places(lake.scan("trade").collect()) == [(before, 0), (before + 5, 0)]


def test_R5_how_far_a_worker_that_begins_looks_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    words, log = Words(), TradeLog("binance")
    for number, moment in enumerate((0.0, 100.0, 7000.0, 7100.0, 7200.0), 3):
        log.moment = moment
        log.say(words.socket([Told(0, number, moment)])[0])
    assert (
        lookback.prepared(log.source, log.broker, 5, MINUTE).knows_since == 0
    )  # `TAIL_RECORDS` records: all there are
    monkeypatch.setattr(lookback, "TAIL_RECORDS", 1)
    for id, moment, is_found in ((5, 7000.0, True), (4, 100.0, False), (3, 0.0, False)):
        transform = lookback.prepared(log.source, log.broker, len(log.records()), MINUTE)
        assert transform.knows_since == log.time - LEAD
        log.say(words.page([Told(0, id, moment)]), f"r{id}", words.pairs[0])
        record = log.records()[-1]
        entries = transform.entries(record)
        further = lookback.with_older_trades(transform, log.broker, record, entries)
        assert (len(entries), len(further.entries(record))) == (1, int(not is_found))
        assert further.knows_since == (START + 6970 * SECOND if is_found else 0)
        assert lookback.with_older_trades(further, log.broker, record, entries) is further


def test_R5_a_worker_that_begins_in_a_long_window_knows_it_whole_and_looks_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, log, day = Words(), TradeLog("binance"), 1440 * MINUTE
    day_begin = -(START % day) / SECOND + 86_400  # seconds after `START`
    for number, hours in enumerate((-2, 1, 5), 3):
        log.moment = day_begin + hours * 3600
        log.say(words.socket([Told(0, number, log.moment)])[0])
    monkeypatch.setattr(lookback, "TAIL_RECORDS", 1)
    transform = lookback.prepared(log.source, log.broker, 3, day)
    log.say(words.page([Told(0, 4, day_begin + 3600), Told(0, 3, day_begin - 7200)]), "r", words.pairs[0])
    record = log.records()[-1]
    entries = transform.entries(record)
    assert [entry.event.id for entry in entries] == ["3"]
    assert transform.knows_since > 0
    assert lookback.with_older_trades(transform, log.broker, record, entries) is transform
    assert transform.knows_since == 0


class Step(NamedTuple):
    """Some time passes, trades of a pair happen, and are told by the socket, by a page, or by nobody."""

    seconds: int
    pair: int
    trades: int
    how: str
    delay: int  # seconds


STEPS = st.builds(
    Step,
    st.sampled_from([0, 1, 7, 20, 45, 70, 150]),
    st.integers(0, 1),
    st.integers(1, 3),
    st.sampled_from(["socket", "socket", "lost", "page", "greeting"]),
    st.sampled_from([0, 0, 1, 20]),
)


@EACH
@settings(deadline=None, max_examples=6)
@given(trades_per_answer=st.sampled_from([3, 200]), steps=st.lists(STEPS, min_size=2, max_size=14))
def test_R5_S6_what_is_told_again_in_any_window_is_one_row_live_and_in_the_tables(
    words: Words, trades_per_answer: int, steps: list[Step]
) -> None:
    assert_one_row_a_trade(words, trades_per_answer, steps)


@EACH
@pytest.mark.long
@settings(deadline=None, max_examples=80)
@given(trades_per_answer=st.sampled_from([3, 200]), steps=st.lists(STEPS, min_size=2, max_size=14))
def test_R5_S6_many_stories_give_the_same_rows_live_and_in_the_tables(
    words: Words, trades_per_answer: int, steps: list[Step]
) -> None:
    assert_one_row_a_trade(words, trades_per_answer, steps)


def assert_one_row_a_trade(words: Words, trades_per_answer: int, steps: list[Step]) -> None:
    """Let the steps happen: each trade that was told is one row, live and in the tables."""
    log, told = TradeLog(words.exchange), set[Told]()
    happened: tuple[list[Told], list[Told]] = ([], [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(log.source.exchange), "trades_per_answer", trades_per_answer)
        for number, step in enumerate(steps):
            log.moment += step.seconds
            trades = happened[step.pair]
            # Alike trades happen in one step. Where a page tells one of them and the socket another, they seem one.
            first = (trades[-1].id + words.alike - 1) // words.alike * words.alike + 1 if trades else 1
            some = [Told(step.pair, id, log.moment) for id in range(first, first + step.trades)]
            trades += some
            log.moment += step.delay
            if step.how == "page":
                some = trades[-trades_per_answer:]
                log.say(words.page(reversed(some)), f"r{number}", words.pairs[step.pair])
            elif step.how != "lost":
                for payload in words.socket(some):
                    log.say(payload)
                if step.how == "greeting":
                    log.moment += 100
                    for payload in words.socket(some):
                        log.say(payload, f"g{number}")
            told |= {*some} if step.how != "lost" else set()
        rows = log.tabled()
        assert places(rows) == log.live()
    assert math.fsum(rows["size"]) == volume(words, told)


@pytest.mark.parametrize("name", EXCHANGES)
def test_R5_a_reconnect_over_three_windows_adds_what_is_missing_and_no_trade_twice(name: str) -> None:
    """In each exchange's own words: a socket, silence, then the greeting of another socket and the REST page."""
    exchange, pair = EXCHANGES[name], Pair("BTC", EXCHANGES[name].quote)
    log, market = TradeLog(name), Market(7, {name: (pair,)}, START)
    path, deals = urlsplit(exchange.socket_url(Channel.TRADE)).path, dict[int, Deal]()
    venue, connection = VENUES[name](market, path), "a"
    for step in range(1, 240, 2):
        log.moment = step
        if step in (1, 151, 211):
            venue, connection = VENUES[name](market, path), f"c{step}"
            for request in exchange.subscribe(Channel.TRADE, (pair,), id=1, time=log.time):
                for out in venue.received(request.payload, log.time):
                    log.say(out.payload.encode(), connection)
        if step < 40 or 115 < step < 120 or step > 180:
            market.step(log.time)
            deals |= {deal.id: deal for deal in market.listings[name][pair].deals}
            for out in venue.step(log.time):
                if step < 30 or step > 180:
                    log.say(out.payload.encode(), connection)
        if step in (151, 155, 211):
            address = urlsplit(exchange.request_url(Channel.TRADE, pair) or "")
            answered = venue.rest(address.path, dict(parse_qsl(address.query)), log.time)
            log.say(answered.body.encode(), "r", pair)
    rows = log.tabled()
    assert math.fsum(rows["size"]) == pytest.approx(math.fsum(deal.size for deal in deals.values()), rel=1e-9)
    assert rows.height == len(deals) > 20
    assert places(rows) == log.live()


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
def test_R5_no_answer_tells_more_trades_than_the_exchange_is_known_for(exchange: Exchange) -> None:
    url = exchange.request_url(Channel.TRADE, Pair("BTC", exchange.quote)) or ""
    [most] = re.findall(r"\b(?:limit|count|size)=(\d+)", url)
    assert 50 <= int(most) <= exchange.trades_per_answer


def trade(id: int) -> Trade:
    """Return a trade that is like no other."""
    pair = Pair("BTC", "KRW")
    return Trade(pair=pair, id=str(id), price=1.0, size=float(id), side=Side.BUY, exchange_time=START + id)


@pytest.mark.parametrize("by_transport", [False, True])
def test_R5_memory_is_bounded_by_the_newest_of_each_pair(*, by_transport: bool) -> None:
    known = KnownTrades(has_ids_by_transport=by_transport, trades_per_answer=2)
    for id in range(1, 9):
        assert not known.add(trade(id), str(id), Kind.SOCKET, id)
    assert known.add(trade(1), "1", Kind.SOCKET, 9)  # it is among the newest now
    known.forget(100, -TRADE_MEMORY)
    assert [known.add(trade(id), str(id), Kind.SOCKET, 10) for id in (1, 8, 7, 6, 5, 2)] == [True] * 4 + [False] * 2


def test_R5_counts_of_a_transport_stay_right_when_some_were_forgotten() -> None:
    known = KnownTrades(has_ids_by_transport=True, trades_per_answer=100)
    like = trade(5)
    assert not known.add(like, "1", Kind.SOCKET, 1)
    assert not known.add(like, "2", Kind.SOCKET, 5)
    known.forget(3, 3)  # the first
    assert [known.add(like, id, Kind.REST, 6) for id in ("a", "b")] == [True, False]
    assert known.add(like, "2", Kind.SOCKET, 7)
    digits = Trade(
        pair=like.pair, id="2", price=like.price, size=like.size, side=like.side, exchange_time=like.exchange_time + 1
    )
    assert known.add(digits, "2", Kind.SOCKET, 8)  # told with other digits
    assert not known.add(digits, "c", Kind.REST, 8)
