"""Gaps are reported when they begin and when they end, also over a restart of the collector."""

import json
from typing import Any

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.collect.collector import Collector
from coin_platform.collect.gap_reports import GapReports
from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Cause, Channel, Kind, Pair, Region
from coin_platform.records import Facts, Header, Transport, unpack, unpack_facts
from coin_platform.topic_names import GAPS, raw_topic
from tests.kit.access import QUICK
from tests.kit.clock import MovedClock
from tests.kit.collecting import live, running, simulated, states
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.kraken import HEARTBEAT, TICKER, UPDATES, FakeKraken, Quick, fake_kraken
from tests.kit.waiting import eventually

BTC = Pair("BTC", "USD")
KRAKEN = EXCHANGES["kraken"]
NEXT_YEAR = 1_800_000_000 * SECOND  # a whole minute


def reported(broker: MemoryBroker) -> list[dict[str, Any]]:
    """Return the reports in the topic of the gaps."""
    partition = KRAKEN.gap_partition
    end = broker.end_offset(GAPS, partition)
    return [json.loads(record.value) for record in broker.read(GAPS, partition, 0, end)]


def ended(broker: MemoryBroker) -> dict[tuple[str, str], tuple[str | None, bool]]:
    """Return the last report of each gap, by channel and cause: its pair, and whether it has ended."""
    return {(gap["channel"], gap["cause"]): (gap["pair"], gap["to"] is not None) for gap in reported(broker)}


def collector_of(fake: FakeKraken, broker: MemoryBroker, epoch: int) -> Collector:
    return Collector(Region.NE, simulated(fake, pairs=(BTC,)), broker, epoch=epoch, exchanges=[Quick()])


def test_F5_what_a_collector_lacks_when_another_takes_over_ends_for_it() -> None:
    broker = MemoryBroker()
    reports = GapReports(KRAKEN, Channel.TICKER, broker)
    at = [NEXT_YEAR + second * SECOND for second in range(7)]
    reports.record(Header(Kind.OPENED, 1, "a", 0, at[1]), Facts(pairs=["BTC-USD"]).pack())
    reports.record(Header(Kind.SOCKET, 1, "a", 1, at[2]), TICKER.encode())
    reports.record(Header(Kind.CLOSED, 1, "a", 1, at[3]), Facts(reason="reset").pack())
    reports.record(Header(Kind.OPENED, 1, "b", 0, at[4]), Facts(pairs=["BTC-USD"]).pack())
    reports.hand_over(at[5])
    reports.record(Header(Kind.CLOSED, 1, "b", 0, at[6]), Facts(reason="replaced").pack())
    assert [(gap["from"][17:19], gap["to"] and gap["to"][17:19]) for gap in reported(broker)] == [
        ("03", None),
        ("03", "05"),
    ]


async def test_S8_gaps_are_told_as_they_begin_and_end_and_a_restart_ends_those_of_the_one_before() -> None:
    broker = MemoryBroker()
    async with fake_kraken() as fake:
        first = collector_of(fake, broker, 1)
        async with running(first):
            await eventually(lambda: states(first) == {"live"} and len(fake.sent) == 2)
            assert reported(broker) == []
            await fake.fall()
            await eventually(lambda: len(reported(broker)) == 2)
            assert ended(broker) == {
                ("ticker", "disconnect"): ("BTC-USD", False),
                ("orderbook", "disconnect"): ("BTC-USD", False),
            }
            fake.is_down = False
            await eventually(lambda: all(is_over for _, is_over in ended(broker).values()))
        assert ended(broker)["ticker", "stopped"] == ended(broker)["orderbook", "stopped"] == ("BTC-USD", False)
        second = collector_of(fake, broker, 2)
        async with running(second):
            await eventually(lambda: ended(broker)["ticker", "stopped"][1] and ended(broker)["orderbook", "stopped"][1])
    begun, over = (gap for gap in reported(broker) if (gap["channel"], gap["cause"]) == ("ticker", "disconnect"))
    assert begun == {**over, "to": None}
    assert list(over) == ["exchange", "channel", "pair", "from", "to", "cause", "reason", "filled_by"]
    assert (over["exchange"], over["from"] < over["to"], over["from"].endswith("+00:00")) == ("kraken", True, True)


async def test_D5_an_exchange_that_cannot_be_reached_is_told_as_a_gap_and_what_is_wanted_is_logged_at_the_start() -> (
    None
):
    broker = MemoryBroker()
    async with fake_kraken() as fake:
        fake.is_down = True
        collector = collector_of(fake, broker, 1)
        async with running(collector):
            await eventually(lambda: len(ended(broker)) == 2)
            assert ended(broker) == {
                ("ticker", "unreachable"): ("BTC-USD", False),
                ("orderbook", "unreachable"): ("BTC-USD", False),
            }
            assert {gap["reason"] for gap in reported(broker)} == {"HTTP 502"}
            collector.follow("kraken", [BTC, Pair("ETH", "USD")])
            await eventually(lambda: len(reported(broker)) == 4)
            fake.is_down = False
            await eventually(lambda: len([gap for gap in reported(broker) if gap["to"]]) == 4, 20)
    topic = raw_topic("ne", Channel.TICKER)
    stored = broker.read(topic, 1, 0, broker.end_offset(topic, 1))
    own = [(unpack(record.header), unpack_facts(record.value)) for record in stored if record.header[0] not in "wr"]
    wishes = [(header, facts) for header, facts in own if facts.transport == Transport.NONE]
    assert (wishes[0][0].kind, wishes[0][1].pairs) == (Kind.OPENED, ["BTC-USD"])
    assert wishes[0] == own[0], "before the first connection"
    assert {facts.reason for _, facts in wishes} == {"", "HTTP 502", "stopped"}
    assert wishes[-1] == own[-1]
    assert wishes[-1][0].kind is Kind.CLOSED
    assert {header.number for header, _ in wishes} == {0}


async def test_D5_a_refused_pair_is_told_as_a_gap() -> None:
    broker = MemoryBroker()
    async with fake_kraken() as fake:
        fake.unknown.add("BTC/USD")
        collector = collector_of(fake, broker, 1)
        async with running(collector):
            await eventually(lambda: len(ended(broker)) == 2)
            gaps = reported(broker)
    assert {gap["cause"] for gap in gaps} == {"refused"}
    assert {gap["reason"] for gap in gaps} == {"refused for good: Currency pair not supported BTC/USD"}


async def test_R3_a_pair_whose_data_do_not_come_back_stays_a_gap_although_its_connection_is_back() -> None:
    broker, eth = MemoryBroker(), Pair("ETH", "USD")
    async with fake_kraken() as fake:
        settings = simulated(fake, pairs=(BTC, eth))
        clock = MovedClock()
        collector = Collector(Region.NE, settings, broker, epoch=1, exchanges=[Quick()], clock=clock, timing=QUICK)
        async with live(collector):
            fake.unanswered.add("ETH/USD")
            await fake.fall()
            await eventually(lambda: len(reported(broker)) == 4)
            fake.is_down = False
            await eventually(lambda: len([gap for gap in reported(broker) if gap["to"]]) == 2)
            for which in range(len(fake.sockets)):
                await fake.say(HEARTBEAT, which)
            await clock.looks()
            assert {(gap["channel"], gap["pair"]): gap["to"] is not None for gap in reported(broker)} == {
                ("ticker", "BTC-USD"): True,
                ("ticker", "ETH-USD"): False,
                ("orderbook", "BTC-USD"): True,
                ("orderbook", "ETH-USD"): False,
            }


async def test_a_book_that_fails_its_checksum_is_a_gap_until_it_is_right_again() -> None:
    broker = MemoryBroker()
    async with fake_kraken() as fake:
        collector = collector_of(fake, broker, 1)
        async with live(collector):
            which = next(n for n, sent in enumerate(fake.sent) if any(b'"book"' in text for text in sent))
            await fake.push("BTC/USD", [UPDATES[0], UPDATES[2]], which)
            await eventually(lambda: ended(broker))
            [(_, is_over)] = ended(broker).values()
            assert not is_over
            gaps = list(reported(broker))
    [gap] = gaps
    assert (gap["channel"], gap["pair"], gap["cause"]) == ("orderbook", "BTC-USD", "checksum")
    assert gap["reason"].startswith("BTC-USD: checksum ")


def test_a_book_that_is_fetched_for_the_first_time_is_no_gap_and_one_that_is_right_ends_it() -> None:
    broker, okx = MemoryBroker(), EXCHANGES["okx"]
    reports = GapReports(okx, Channel.ORDERBOOK, broker)
    pair, value = Pair("BTC", "USDT"), Facts(pairs=["BTC-USDT"]).pack()
    reports.record(Header(Kind.OPENED, 1, "a", 0, SECOND), value)
    reports.lost(pair, "a", Cause.NO_BOOK, "no book over REST: busy", 2 * SECOND)
    reports.served([pair], "a", 3 * SECOND)
    assert broker.end_offset(GAPS, okx.gap_partition) == 0
    reports.lost(pair, "a", Cause.SEQUENCE, "wanted 5, got 7", 9 * SECOND)
    reports.served([pair], "a", 10 * SECOND)
    records = list(broker.read(GAPS, okx.gap_partition, 0, 9))
    assert [(json.loads(record.value)["from"], json.loads(record.value)["to"]) for record in records] == [
        ("1970-01-01 00:00:09.000000+00:00", None),
        ("1970-01-01 00:00:09.000000+00:00", "1970-01-01 00:00:10.000000+00:00"),
    ]
    assert records[0].header == "o,1,a,0,1000000"


def test_a_broker_that_is_away_leaves_what_was_before_unknown(caplog: pytest.LogCaptureFixture) -> None:
    topic, broker = raw_topic("ne", Channel.TICKER), FaultyBroker()
    broker.refuse("read", BrokerUnreachable("away"))
    GapReports(KRAKEN, Channel.TICKER, broker).resume(topic)
    assert f"kraken {topic}: what was missing before is not known, away" in caplog.text


def test_records_that_are_none_of_ours_are_passed_over() -> None:
    broker, topic = MemoryBroker(), raw_topic("ne", Channel.TICKER)
    broker.append(topic, KRAKEN.partition, "no header of ours", b"")
    broker.append(topic, KRAKEN.partition, Header(Kind.SOCKET, 1, "a", 1, SECOND).pack(), b"{}")
    value = Facts(pairs=["BTC-USD"]).pack()
    broker.append(topic, KRAKEN.partition, Header(Kind.CHECKPOINT, 1, "a", 1, SECOND).pack(), value)
    reports = GapReports(KRAKEN, Channel.TICKER, broker)
    reports.resume(topic)
    reports.record(Header(Kind.OPENED, 2, "b", 0, 5 * SECOND), value)
    assert [(gap["cause"], gap["to"]) for gap in reported(broker)] == [("killed", None)]
