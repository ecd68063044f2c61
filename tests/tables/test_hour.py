"""A simulated hour of all exchanges, through the worker and through the windows: the same tables."""

import json
from collections import Counter
from datetime import timedelta

import polars as pl
import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import SECOND, Channel, Microseconds, Region, Window
from coin_platform.orchestration.materialise import materialise_raw, materialise_rows
from coin_platform.preprocess.lander import Lander
from coin_platform.preprocess.worker import Worker
from coin_platform.settings import Settings
from coin_platform.topic_names import processed_topic
from tests.kit.hour import Clock, World

MINUTE: Microseconds = 60 * SECOND
START = 1_790_000_100 * SECOND // (15 * MINUTE) * (15 * MINUTE)
SETTINGS = Settings(window=timedelta(minutes=15))
PACE = 60 * SECOND


def rows(lake: Lake, source: Source) -> pl.DataFrame:
    """Return all rows of an exchange that readers see, candles as they were last told."""
    table = lake.scan(source.channel.value, exchanges=[source.exchange.name]).collect()
    return table.sort("pair", "offset", "index")


def live(broker: MemoryBroker, source: Source) -> list[dict[str, object]]:
    """Return the processed records of a partition."""
    topic = processed_topic(source.exchange.region, source.channel)
    end = broker.end_offset(topic, source.partition)
    return [json.loads(record.value) for record in broker.read(topic, source.partition, 0, end)]


@pytest.mark.no_cover  # much work, all of it covered by small tests
@pytest.mark.parametrize("region", Region)
def test_S6_a_simulated_hour_is_the_same_live_and_in_windows(region: Region) -> None:
    clock = Clock(START)
    broker, store = MemoryBroker(clock=lambda: clock.time), MemoryStore()
    lake = Lake(store, SETTINGS.window_length)
    kinds = [exchange for exchange in EXCHANGES.values() if exchange.region is region]
    world = World([exchange.name for exchange in kinds], broker, clock, SETTINGS)
    for _ in range(6):  # six workers and landers, each killed without a word
        world.run(9, PACE)
        Worker(region, kinds, SETTINGS, broker, clock=lambda: clock.time).drain()
        Lander(region, kinds, SETTINGS, broker, lake).step(0.0)
        world.run(1, PACE)
        worker, lander = Worker(region, kinds, SETTINGS, broker), Lander(region, kinds, SETTINGS, broker, lake)
        lander.follow(worker.partitions)
        ends = broker.end_offsets([lane.place for lane in worker.partitions])
        for lane in worker.partitions[::2]:
            lane.work(ends[lane.place])  # and not committed
        lander.step(0.0)
        lander.step(20.0)
    Worker(region, kinds, SETTINGS, broker).drain()
    lander = Lander(region, kinds, SETTINGS, broker, lake)
    for moment in (0.0, 20.0):
        lander.step(moment)
    found = {source: rows(lake, source) for source in world.sources}
    stop = clock.time // SETTINGS.window_length * SETTINGS.window_length + SETTINGS.window_length
    assert stop - START >= 60 * MINUTE
    clock.time = stop
    world.run(1, SECOND)  # now the last window is closed, too
    kept: Counter[str] = Counter()
    for start in range(START, stop, SETTINGS.window_length):
        window = Window(start, start + SETTINGS.window_length)
        for source in world.sources:
            for result in (
                materialise_raw(source, window, broker, lake, SETTINGS),
                materialise_rows(source, window, broker, lake),
            ):
                failed = [check.check_name for check in result.check_results if not check.passed]
                assert failed == [], f"{source.exchange.name} {source.channel} {failed}"
    for source, landed in found.items():
        name = f"{source.exchange.name} {source.channel}"
        both = rows(lake, source)
        assert both.equals(landed), f"{name}: with landing objects of committed windows still there"
        for key in list(store.list(f"landing/{source.channel}/exchange={source.exchange.name}/")):
            store.delete(key)
        tabled = rows(lake, source)
        assert tabled.equals(landed), name
        records = live(broker, source)
        places = [(record["offset"], record["index"]) for record in records]
        assert len(set(places)) == len(places), f"{name}: twice in the processed topic"
        wanted = set(tabled.select("offset", "index").iter_rows())
        assert wanted <= set(places) if source.channel is Channel.CANDLE else wanted == set(places), name
        if source.channel is Channel.ORDERBOOK:
            best = {(record["offset"], record["index"]): record["highest_bid"] for record in records}
            assert best == {(o, i): bid for o, i, bid in tabled.select("offset", "index", "best_bid").iter_rows()}, name
        kept[source.channel] += tabled.height
        assert tabled.height > (0 if source.channel is Channel.INSTRUMENT else 4 * 30), name  # a list seldom changes
    assert set(kept) == set(Channel)
