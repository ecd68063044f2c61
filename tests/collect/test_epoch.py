"""The epoch of a collector rises with every start, whatever the clocks say."""

import logging

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.collect.collector import Collector
from coin_platform.collect.epoch import next_epoch
from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Kind, Region
from coin_platform.records import Facts, Header
from coin_platform.settings import Settings
from coin_platform.topic_names import raw_topic
from tests.kit.faulty_broker import FaultyBroker

NOW = 1_795_000_000_000  # ms
YEAR_2036 = 2_082_758_400_000
PLACES = [("t", 0), ("t", 1)]


def broker_with(*epochs: int) -> MemoryBroker:
    """Return a broker whose partitions have records of these collectors, one each."""
    broker = MemoryBroker()
    for partition, epoch in enumerate(epochs):
        broker.append("t", partition, Header(Kind.OPENED, epoch, "c", 0, epoch * 1000).pack(), Facts().pack())
    return broker


def test_it_is_the_time_where_no_collector_was_or_all_were_before() -> None:
    assert next_epoch(MemoryBroker(), PLACES, NOW) == NOW
    assert next_epoch(broker_with(NOW - 1, NOW - 5), PLACES, NOW) == NOW


@pytest.mark.parametrize("newest", [NOW, NOW + 3_600_000, YEAR_2036])
def test_D3_it_is_above_that_of_a_collector_whose_clock_was_ahead(
    newest: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert next_epoch(broker_with(NOW - 1, newest), PLACES, NOW) == newest + 1
    assert f"began {(newest - NOW) / 3_600_000:.2f} h after now" in caplog.text


def test_records_that_are_not_ours_tell_nothing() -> None:
    broker = broker_with(NOW - 1)
    broker.append("t", 1, "odd", b"")
    broker.append("t", 2, Header(Kind.OPENED, YEAR_2036, "c", 0, 0).pack(), b"{}")
    broker.trim("t", 2, 1)
    assert next_epoch(broker, [*PLACES, ("t", 2)], NOW) == NOW


def test_a_broker_that_does_not_answer_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = FaultyBroker()
    broker.refuse("end_offset", BrokerUnreachable("kafka does not answer"))
    with caplog.at_level(logging.WARNING):
        assert next_epoch(broker, PLACES, NOW) == NOW
    assert broker.calls["end_offset"] == [PLACES[0]] and "kafka does not answer" in caplog.text


def test_D3_S8_a_collector_that_starts_after_the_clock_was_set_back_counts_as_the_newer_one() -> None:
    broker, kraken = MemoryBroker(), EXCHANGES["kraken"]
    before = Header(Kind.OPENED, YEAR_2036, "c", 0, YEAR_2036 * 1000)
    broker.append(raw_topic("ne", Channel.TRADE), kraken.partition, before.pack(), Facts().pack())
    collector = Collector(Region.NE, Settings(), broker, exchanges=[kraken])
    assert {feed.route.epoch for feed in collector.feeds} == {YEAR_2036 + 1}
