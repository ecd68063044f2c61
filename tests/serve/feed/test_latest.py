"""The newest records, also while the broker is away, and after old ones come late."""

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.errors import BrokerUnreachable
from coin_platform.model import Channel
from coin_platform.serve.feed import latest as latest_module
from coin_platform.serve.feed.latest import Latest, following
from coin_platform.serve.feed.source import places_of
from coin_platform.serve.feed.tail import Tail, opened_later
from coin_platform.settings import Settings
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.feed import append_gap, append_processed
from tests.kit.waiting import until

PLACES = places_of(Settings())


def test_the_newest_record_of_each_type_and_pair_is_kept() -> None:
    broker, latest = MemoryBroker(), Latest()
    tail = Tail(broker, PLACES, 0)
    for offset in (1, 2):
        append_processed(broker, "upbit", "BTC-KRW", offset=offset)
    append_processed(broker, "upbit", "BTC-KRW", channel=Channel.TRADE, offset=9)
    append_processed(broker, "upbit", "ETH-KRW", offset=3)
    append_processed(broker, "okx", "BTC-USDT", offset=4)
    append_gap(broker, "upbit", "BTC-KRW")
    latest.take(tail.read())
    kept = {pair: {kind: record.offset for kind, record in types.items()} for pair, types in latest.of("upbit").items()}
    assert kept == {"BTC-KRW": {"ticker": 2, "trade": 9}, "ETH-KRW": {"ticker": 3}}
    assert next((record.exchange, record.pair) for record in latest.all()) == ("okx", "BTC-USDT")


def test_a_redriven_record_and_one_of_a_former_collector_replace_nothing_newer() -> None:
    broker, latest = MemoryBroker(), Latest()
    tail = Tail(broker, PLACES, 0)
    append_processed(broker, "upbit", "BTC-KRW", offset=5, epoch=2)
    append_processed(broker, "upbit", "BTC-KRW", offset=1, epoch=2, redriven=True)
    append_processed(broker, "upbit", "BTC-KRW", offset=6, epoch=1)
    append_processed(broker, "upbit", "ETH-KRW", offset=2, epoch=2, redriven=True)
    latest.take(tail.read())
    assert {pair: types["ticker"].offset for pair, types in latest.of("upbit").items()} == {"BTC-KRW": 5, "ETH-KRW": 2}


def test_what_is_known_stays_while_the_broker_is_away_and_is_new_again_after_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latest_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(latest_module, "AWAY_SECONDS", 0.01)
    broker, latest = FaultyBroker(), Latest()

    def newest() -> int | None:
        record = latest.of("upbit").get("BTC-KRW", {}).get("ticker")
        return record and record.offset

    broker.refuse("end_offsets", BrokerUnreachable("gone"))
    with following(latest, opened_later(lambda: Tail(broker, PLACES, 0))):
        until(lambda: len(broker.calls["end_offsets"]) > 2, 30)
        append_processed(broker, "upbit", "BTC-KRW", offset=1)
        broker.allow("end_offsets")
        until(lambda: newest() == 1, 30)
        broker.refuse("end_offsets", BrokerUnreachable("gone"))
        append_processed(broker, "upbit", "BTC-KRW", offset=2)
        asked = len(broker.calls["end_offsets"])
        until(lambda: len(broker.calls["end_offsets"]) > asked + 2, 30)
        assert newest() == 1
        broker.allow("end_offsets")
        until(lambda: newest() == 2, 30)
