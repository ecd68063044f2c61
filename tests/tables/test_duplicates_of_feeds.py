"""Real feeds against the simulator: with the exchanges' own protocols two connections give the rows of one."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.feed import Feed
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, BookUpdate, Channel, Data, Kind, Trade
from coin_platform.records import Record, frame, unpack, unpack_facts
from coin_platform.runtime.ports import free_port
from coin_platform.selection import sources, wanted_pairs
from coin_platform.settings import Settings
from coin_platform.simulator.sent_log import open_log
from coin_platform.simulator.server import Simulator
from coin_platform.tables.dataframes import batch
from coin_platform.tables.transform import Transform
from tests.kit.log import conserves
from tests.kit.waiting import eventually

Alike: TypeAlias = defaultdict[tuple[object, ...], dict[str, int]]  # ids of trades that are alike, in their order


def collected(
    folder: Path, names: tuple[str, ...], epochs: tuple[int, ...], seconds: float
) -> dict[Source, list[Record]]:
    """Collect all channels of some exchanges, in all epochs at once; return what is stored.

    Connections are replaced after `seconds`, until each has been; with several epochs none is, and they run that long.
    """
    settings, broker = Settings(simulator_port=free_port(0)), MemoryBroker()
    found = [place for name in names for place in sources(EXCHANGES[name], settings)]
    # Of a list of markets a row is a change, so what a connection tells twice is no second row.
    found = [place for place in found if place.channel in place.exchange.channels - {Channel.INSTRUMENT}]
    rests = {name: Rest(EXCHANGES[name]) for name in names}
    lifetime = seconds if len(epochs) == 1 else 3600.0

    def stored(place: Source) -> list[Record]:
        return list(broker.read(place.topic, place.partition, 0, broker.end_offset(place.topic, place.partition)))

    def rotations(place: Source) -> int:
        closed = [record.value for record in stored(place) if unpack(record.header).kind is Kind.CLOSED]
        return sum(unpack_facts(value).reason == "replaced" for value in closed)

    def feed(place: Source, epoch: int) -> Feed:
        host = f"127.0.0.1:{settings.simulator_port}"
        route = Route(
            *(place.exchange, place.channel, 0, place.topic, epoch, 3600 * SECOND, host),
            lifetime=(lifetime, lifetime),
        )
        access = ExchangeAccess(place.exchange, broker, rests[place.exchange.name], TokenBucket(1000.0))
        return Feed(route, wanted_pairs(place.exchange, settings), access)

    async def scenario() -> None:
        end, ready, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        with open_log(folder) as log:
            simulator = Simulator(settings, 7, log, names, rate=40)
            async with asyncio.TaskGroup() as outer:
                outer.create_task(simulator.run(end, ready))
                await ready.wait()
                async with asyncio.TaskGroup() as inner:
                    for place in found:
                        for epoch in epochs:
                            inner.create_task(feed(place, epoch).run(stop))
                    if len(epochs) > 1:
                        await asyncio.sleep(seconds)
                    else:
                        await eventually(lambda: all(rotations(place) for place in found), 30)
                    stop.set()
                end.set()
        for rest in rests.values():
            await rest.close()

    asyncio.run(scenario())
    return {place: stored(place) for place in found}


def said(place: Source, record: Record, alike: Alike) -> Iterator[tuple[object, ...]]:
    """Yield the events of a frame: a trade is its id, a numbered book its sequence, anything else its bytes.

    Where both transports have ids of their own, a trade is what was traded, and how often that was told before.
    """
    header = unpack(record.header)
    if not header.kind.is_frame:
        return
    found = place.exchange.decode(frame(place.exchange.name, place.channel, header, record.value))
    for index, event in enumerate(found):
        if isinstance(event, Trade) and event.id is not None and place.exchange.has_ids_by_transport:
            likeness = (event.exchange_time, event.price, event.size, event.side)
            ids = alike[header.kind, event.pair, likeness]
            yield event.pair, (likeness, ids.setdefault(event.id, len(ids)))
        elif isinstance(event, Trade) and event.id is not None:
            yield event.pair, event.id
        elif isinstance(event, BookUpdate) and event.last_sequence is not None:
            yield event.pair, event.last_sequence
        else:
            yield getattr(event, "pair", None), index, record.value if isinstance(event, Data) else None


def assert_each_event_is_one_row(stored: dict[Source, list[Record]]) -> Counter[Channel]:
    """Compare the rows with what the exchanges said; return how many copies each channel had."""
    copies: Counter[Channel] = Counter()
    for place, records in stored.items():
        result, transform = batch(place, records), Transform(place)
        assert conserves(result) and result.counts["faults"] == 0, place
        rows = [(record.offset, entry.row.index) for record in records for entry in transform.entries(record)]
        alike: Alike = defaultdict(dict)
        events = {record.offset: list(said(place, record, alike)) for record in records}
        told = Counter(events[offset][index] for offset, index in rows)
        begins = {events[offset][index][0]: offset for offset, index in reversed(rows)}  # of each pair
        brought: defaultdict[str, Counter[tuple[object, ...]]] = defaultdict(Counter)
        fetched: set[tuple[object, ...]] = set()  # a book that bridges may begin in the middle of a change
        for offset, found in events.items():
            header = unpack(records[offset].header)
            if header.kind is Kind.REST and place.exchange.is_bridged:
                fetched |= {*found}
                continue
            brought[header.connection].update(
                event for event in found if event[-1] is not None and offset >= begins.get(event[0], len(records))
            )
        wanted_pairs = Counter(dict.fromkeys(fetched & told.keys(), 1))
        for connection in brought.values():  # what one connection says twice, and has no number, has happened twice
            wanted_pairs |= Counter({event: count if len(event) > 2 else 1 for event, count in connection.items()})
        assert told == wanted_pairs, (place.exchange.name, place.channel)
        assert told
        copies[place.channel] += result.counts["rows_repeated"]
    return copies


NAMES = [("upbit", "bithumb", "coinone", "korbit", "coinbase"), ("okx", "bybit", "gateio", "binance", "kraken")]


@pytest.mark.no_cover  # much work, all of it covered by small tests
@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_F5_a_rotation_gives_no_row_twice(tmp_path: Path, names: tuple[str, ...]) -> None:
    copies = assert_each_event_is_one_row(collected(tmp_path, names, (1,), 0.5))
    assert copies.total() > 0


@pytest.mark.no_cover  # much work, all of it covered by small tests
@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_L4_two_collectors_at_once_give_the_rows_of_one(tmp_path: Path, names: tuple[str, ...]) -> None:
    copies = assert_each_event_is_one_row(collected(tmp_path, names, (1, 2), 2.0))
    assert min(copies[channel] for channel in (Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE)) > 0
