"""The collector of one region, against servers on loopback."""

import asyncio
import logging
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.broker import MemoryBroker
from coin_platform.collect.collector import Collector, assign
from coin_platform.collect.timing import Timing
from coin_platform.errors import DeliveryError, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Limits
from coin_platform.model import Channel, Kind, Pair, Region
from coin_platform.records import unpack_facts
from coin_platform.selection import exchanges_of, wanted_pairs
from coin_platform.settings import Settings
from coin_platform.topic_names import raw_topic
from tests.kit.clock import MovedClock
from tests.kit.collecting import live, running, simulated, states
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.kraken import (
    BOOKS,
    HEARTBEAT,
    Quick,
    fake_kraken,
    frames,
    records,
    values,
)
from tests.kit.waiting import eventually

BTC, ETH, SOL, XRP = (Pair(base, "USD") for base in ("BTC", "ETH", "SOL", "XRP"))
TICKERS = raw_topic("ne", Channel.TICKER)


class Two(Quick):
    """Kraken with at most two pairs on a connection."""

    limits = Limits(pairs_per_connection=2, messages_per_second=1000, connects_per_minute=60_000)


async def test_a_region_is_collected_into_its_topics_one_connection_per_channel_and_shard() -> None:
    broker = MemoryBroker()
    async with fake_kraken() as fake:
        settings = simulated(fake, pairs=(BTC, ETH, SOL, Pair("BTC", "KRW")))
        collector = Collector(Region.NE, settings, broker, epoch=5, exchanges=[Two()])
        async with live(collector):
            await eventually(lambda: sum(status.frames for status in collector.status) == 12)
    carried = {(status.channel, status.shard): status.pairs for status in collector.status}
    assert carried == {
        (Channel.TICKER, 0): (BTC, ETH),
        (Channel.TICKER, 1): (SOL,),
        (Channel.ORDERBOOK, 0): (BTC, ETH),
        (Channel.ORDERBOOK, 1): (SOL,),
    }
    stored = [*records(broker, BOOKS), *records(broker, TICKERS)]
    assert sorted(value for _, value in frames(stored)) == sorted(chain.from_iterable(fake.sent))
    assert {header.epoch for header, _ in stored} == {5}
    assert len(values(stored, Kind.OPENED)) == len(values(stored, Kind.CLOSED)) == 4
    first = collector.status[0]
    assert (first.exchange, first.frames, first.reconnects, first.unconfirmed) == ("kraken", 4, 0, frozenset())
    assert first.bytes + collector.status[1].bytes == sum(len(value) for _, value in frames(records(broker, TICKERS)))


async def test_pairs_change_while_it_runs_and_what_does_not_fit_gets_its_own_connection() -> None:
    async with fake_kraken() as fake:
        settings = simulated(fake, pairs=(BTC, ETH), channels=(Channel.TICKER,))
        collector = Collector(Region.NE, settings, MemoryBroker(), exchanges=[Two()])
        async with live(collector):
            collector.follow("kraken", [ETH, SOL, XRP])
            await eventually(lambda: len(fake.opened) == 2 and states(collector) == {"live"})
            await eventually(lambda: len(fake.methods("subscribe")) == 3)
        carried = [status.pairs for status in collector.status]
    assert carried == [(ETH, SOL), (XRP,)]
    assert sorted(fake.methods("subscribe")) == [["BTC/USD", "ETH/USD"], ["SOL/USD"], ["XRP/USD"]]
    assert fake.methods("unsubscribe") == [["BTC/USD"]]


async def test_frames_that_cannot_be_stored_end_it_with_the_brokers_own_error() -> None:
    broker, news = FaultyBroker(), HEARTBEAT.encode()
    broker.refuse("append", DeliveryError("the disk is full: make room"), lambda *record: record[-1] == news)

    with pytest.raises(DeliveryError, match=r"^the disk is full: make room$"):
        async with fake_kraken() as fake:
            collector = Collector(Region.NE, simulated(fake), broker, exchanges=[Quick()])
            task = asyncio.create_task(collector.run(asyncio.Event()))
            await eventually(lambda: states(collector) == {"live"})
            await fake.say(HEARTBEAT)
            await task


async def test_a_bug_ends_it_too() -> None:
    class Broken(Quick):
        def socket_url(self, channel: Channel) -> str:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with fake_kraken() as fake:
            await Collector(Region.NE, simulated(fake), MemoryBroker(), exchanges=[Broken()]).run(asyncio.Event())
    assert caught.group_contains(ZeroDivisionError)


async def test_progress_is_one_line_that_counts_each_exchange(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with fake_kraken() as fake:
            settings = simulated(fake, pairs=(BTC,))
            collector = Collector(
                Region.NE, settings, MemoryBroker(), exchanges=[Quick()], timing=Timing(progress_seconds=0.5)
            )
            async with running(collector):
                await eventually(lambda: "frames/s" in caplog.text)
    lines = [record.getMessage() for record in caplog.records if "frames/s" in record.getMessage()]
    assert lines[0] == "ne: frames/s: kraken 8; 2 of 2 connections live, 0 over REST"


def test_an_exchange_that_is_not_collected_here_cannot_be_followed() -> None:
    collector = Collector(Region.NE, Settings(), MemoryBroker(), exchanges=[Quick()])
    with pytest.raises(SettingsError, match="upbit: not collected here; in ne that is kraken"):
        collector.follow("upbit", [BTC])


def test_only_enabled_exchanges_of_the_region_are_collected() -> None:
    assert [exchange.name for exchange in exchanges_of(Region.ASIA, Settings(exchanges=("okx", "upbit")))] == ["okx"]
    assert [exchange.name for exchange in exchanges_of(None, Settings())] == list(EXCHANGES)
    with pytest.raises(SettingsError, match="COIN_EXCHANGES=okex: there is no such exchange; there are upbit"):
        exchanges_of(Region.ASIA, Settings(exchanges=("okex",)))


def test_a_channel_that_an_exchange_does_not_have_is_left_out() -> None:
    class Silent(Quick):
        channels = frozenset({Channel.TICKER})

        def request_url(self, channel: Channel, pair: Pair) -> str | None:
            return None

    collector = Collector(Region.NE, Settings(), MemoryBroker(), exchanges=[Silent()])
    assert [status.channel for status in collector.status] == [Channel.TICKER]


def test_only_candles_are_polled_and_only_where_no_socket_brings_them() -> None:
    polled = {name: exchange.polled - {Channel.INSTRUMENT} for name, exchange in EXCHANGES.items()}
    assert {name: channels for name, channels in polled.items() if channels} == dict.fromkeys(
        ("bithumb", "korbit", "coinbase"), frozenset({Channel.CANDLE})
    )
    collector = Collector(Region.KOREA, Settings(channels=(Channel.CANDLE,)), MemoryBroker())
    carried = {status.exchange: status.transport for status in collector.status}
    assert carried == {"upbit": "ws", "bithumb": "rest", "coinone": "ws", "korbit": "rest"}


async def test_a_channel_without_a_stream_is_polled_for_all_pairs_and_follows_them() -> None:
    class Mute(Two):
        channels = frozenset(Channel) - {Channel.CANDLE}

    broker, clock = MemoryBroker(), MovedClock()
    async with fake_kraken() as fake:
        settings = simulated(fake, pairs=(BTC, ETH, SOL), channels=(Channel.CANDLE,))
        collector = Collector(Region.NE, settings, broker, exchanges=[Mute()], clock=clock)
        statuses = collector.status
        async with live(collector):
            collector.follow("kraken", [XRP])
            clock.monotonic += 1
            await eventually(lambda: len(fake.asked) == 2)
            await eventually(lambda: not collector.status[0].unconfirmed)
            statuses += collector.status
            collector.follow("kraken", [])
            await eventually(lambda: states(collector) == {"idle"})
            collector.follow("kraken", [SOL])
            clock.monotonic += 1
            await eventually(lambda: len(fake.asked) == 3)
    statuses = [*statuses, *collector.status]
    assert fake.opened == []
    assert fake.asked == [f"/kraken/0/public/OHLC?pair={base}/USD&interval=1" for base in ("BTC", "XRP", "SOL")]
    summaries = [(status.state, status.transport, status.pairs, status.frames) for status in statuses]
    assert summaries == [
        ("waiting", "rest", (BTC, ETH, SOL), 0),
        ("live", "rest", (XRP,), 2),
        ("waiting", "rest", (SOL,), 3),
    ]
    stored = records(broker, raw_topic("ne", Channel.CANDLE))
    kinds = [header.kind for header, _ in stored]
    first = [Kind.OPENED, Kind.REST, Kind.PAIRS, Kind.REST, Kind.CLOSED]
    assert kinds == [*first, Kind.OPENED, Kind.REST, Kind.CLOSED]
    assert [header.number for header, _ in frames(stored)] == [1, 2, 1]
    assert [unpack_facts(value).reason for value in values(stored, Kind.CLOSED)] == ["no pairs", "stopped"]


def test_pairs_are_the_defaults_or_those_of_the_setting_with_the_exchanges_quote() -> None:
    korean = ["BTC-KRW", "ETH-KRW", "XRP-KRW", "SOL-KRW", "USDT-KRW"]
    assert [str(pair) for pair in wanted_pairs(EXCHANGES["upbit"], Settings())] == korean
    assert wanted_pairs(EXCHANGES["kraken"], Settings()) == (BTC, ETH, XRP, SOL)
    settings = Settings(pairs=(BTC, Pair("DOGE", "KRW"), BTC))
    assert wanted_pairs(EXCHANGES["kraken"], settings) == (BTC,)
    assert wanted_pairs(EXCHANGES["okx"], settings) == ()


PAIRS = st.lists(st.sampled_from([Pair(base, "USD") for base in "ABCDEFGHIJ"]), unique=True)


@given(st.lists(PAIRS, max_size=5), st.integers(1, 4))
def test_pairs_stay_on_their_connection_and_each_is_carried_once(changes: list[list[Pair]], size: int) -> None:
    shards: list[tuple[Pair, ...]] = []
    for pairs in changes:
        before = {pair: number for number, shard in enumerate(shards) for pair in shard}
        shards = assign(shards, pairs, size)
        after = {pair: number for number, shard in enumerate(shards) for pair in shard}
        assert sorted(chain.from_iterable(shards)) == sorted(pairs)
        assert all(len(shard) <= size for shard in shards)
        assert all(after[pair] == number for pair, number in before.items() if pair in after)
