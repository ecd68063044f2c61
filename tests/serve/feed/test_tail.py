"""The feed tells each record of the processed topics and of the gaps once, in the order of its partition."""

import json

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel
from coin_platform.serve.feed import tail as tail_module
from coin_platform.serve.feed.source import places_of
from coin_platform.serve.feed.tail import Tail
from coin_platform.settings import Settings
from coin_platform.topic_names import processed_topic
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.feed import append_gap, append_processed

PLACES = places_of(Settings())
UPBIT = EXCHANGES["upbit"]


def test_every_channel_of_every_exchange_and_its_gaps_are_followed() -> None:
    told = {(place.exchange.name, place.kind) for place in PLACES.values()}
    assert len(PLACES) == len(told)
    assert {kind for exchange, kind in told if exchange == "kraken"} == {*map(str, Channel), "gap"}
    assert {exchange for exchange, _ in told} == set(EXCHANGES)
    assert {place.exchange.name for place in places_of(Settings(exchanges=("okx",))).values()} == {"okx"}


def test_a_record_is_the_json_of_its_topic_with_what_it_is_and_where_it_comes_from() -> None:
    broker = MemoryBroker()
    tail = Tail(broker, PLACES, 0)
    append_processed(broker, "upbit", "BTC-KRW", offset=7, index=1, epoch=5, time=9)
    append_gap(broker, "okx", None)
    ticker, gap = tail.read()
    assert (ticker.exchange, ticker.type, ticker.pair, ticker.epoch) == ("upbit", "ticker", "BTC-KRW", 5)
    assert (ticker.offset, ticker.number, ticker.received_time, ticker.is_redriven) == (7, 1, 9, False)
    [stored] = broker.read(processed_topic(UPBIT.region, Channel.TICKER), UPBIT.partition, 0, 1)
    keys = {"type": "ticker", "exchange": "upbit", "pair": "BTC-KRW", "epoch": 5}
    assert json.loads(ticker.text) == keys | json.loads(stored.value)
    assert (gap.exchange, gap.type, gap.pair, gap.offset) == ("okx", "gap", None, None)
    assert json.loads(gap.text)["type"] == "gap" and json.loads(gap.text)["cause"] == "killed"


def test_records_are_told_once_and_in_order_also_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "MOST_RECORDS", 10)
    broker = MemoryBroker()
    tail = Tail(broker, PLACES, 0)
    for offset in range(25):
        append_processed(broker, "upbit", "BTC-KRW", offset=offset)
    append_processed(broker, "okx", "BTC-USDT")
    reads = [[(record.exchange, record.offset) for record in tail.read()] for _ in range(4)]
    assert ("okx", 0) in reads[0], "a long partition does not hold up the others"
    assert [offset for read in reads for exchange, offset in read if exchange == "upbit"] == [*range(25)]
    assert reads[3] == []


def test_it_begins_at_the_moment_asked_for_and_with_so_many_records_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    broker = MemoryBroker(clock=lambda: now)
    for offset in range(6):
        now = offset * SECOND
        append_processed(broker, "upbit", "BTC-KRW", offset=offset)
    assert [record.offset for record in Tail(broker, PLACES, 4 * SECOND).read()] == [4, 5]
    monkeypatch.setattr(tail_module, "MOST_RECORDS", 3)
    assert [record.offset for record in Tail(broker, PLACES, 0).read()] == [3, 4, 5]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("", b"{}"),
        ("w,1,c,1,1", b"not json"),
        ("w,1,c,1,1", b"[]"),
        ("w,1,c,1,1", b'{"coin_symbol":"BTC","quote":"KRW","offset":-1,"index":0}'),
        ("w,1,c,1,1", b'{"coin_symbol":"BTC","quote":"KRW","offset":1,"index":0,"note":"\xff"}'),
        ("w,1,c,1,1", b'{"coin_symbol":"BTC","quote":"KRW","offset":1,"index":0} {}'),
    ],
)
def test_what_the_platform_did_not_write_is_left_out_and_counted(header: str, value: bytes) -> None:
    broker = MemoryBroker()
    tail = Tail(broker, PLACES, 0)
    broker.append(processed_topic(UPBIT.region, Channel.TICKER), UPBIT.partition, header, value)
    append_processed(broker, "upbit", "BTC-KRW", offset=3)
    assert [record.offset for record in tail.read()] == [3]
    assert tail.unknown == 1


def test_after_the_broker_was_away_it_goes_on_where_it_was() -> None:
    broker = FaultyBroker()
    tail = Tail(broker, PLACES, 0)
    append_processed(broker, "upbit", "BTC-KRW", offset=1)
    append_processed(broker, "okx", "BTC-USDT", offset=2)
    broker.refuse("read", BrokerUnreachable("gone"), lambda topic, *_: "Asia" in topic)
    assert [record.offset for record in tail.read()] == [1], "what could be read is not lost"
    with pytest.raises(BrokerUnreachable):
        tail.read()
    broker.allow("read")
    assert [record.offset for record in tail.read()] == [2]


def test_it_goes_on_after_records_that_were_trimmed_before_they_were_read() -> None:
    broker = MemoryBroker()
    tail = Tail(broker, PLACES, 0)
    for offset in range(4):
        append_processed(broker, "upbit", "BTC-KRW", offset=offset)
    broker.trim(processed_topic(UPBIT.region, Channel.TICKER), UPBIT.partition, 2)
    [told] = tail.read()
    assert json.loads(told.text) == {
        "type": "hole",
        "exchange": "upbit",
        "pair": None,
        "channel": "ticker",
        "missed_records": 2,
        "reason": "the records were trimmed before they were read",
    }
    assert [record.offset for record in tail.read()] == [2, 3]
